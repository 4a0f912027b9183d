"""Commands that make datasets, or say beforehand what they would be: ``run``, ``merge``, ``plan``, ``probe``."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from reprobatch.commands import complete
from reprobatch.commands.common import (
    DIFFERS,
    DONE,
    as_json,
    job_argument,
    out_option,
    overrides,
    parts_of,
    show_result,
    shown,
)
from reprobatch.errors import JobError


@click.command()
@job_argument
@out_option
@click.option("--workers", type=click.IntRange(1), metavar="N", help="At most N workers at once.")
@click.option("--address", metavar="ADDRESS", help="Ray cluster to join, instead of RAY_ADDRESS or a local one.")
@click.option("--part", "part", metavar="K/N", default="1/1", help="Only the K-th of N parts; see 'merge'.")
@click.option("--accept-nondeterminism", "insist", is_flag=True, help="Run although the contract does not hold.")
@overrides
@as_json
def run(
    job: Path,
    out: str,
    workers: int | None,
    address: str | None,
    part: str,
    insist: bool,
    overrides: tuple[str, ...],
    json_: bool,
) -> None:
    """Make a job's dataset, or what is missing of it.

    \b
    reprobatch run jobs/digits.yaml --out digits
    reprobatch run jobs/digits.yaml --out digits -s items.repeat=10 --workers 2
    reprobatch run builtin:digits --out s3://bucket/digits

    Given a dataset of a shorter job, which differs in nothing but the number of items, it adds the
    items that are missing at the end.
    """
    from reprobatch.resolve import load
    from reprobatch.store import is_url

    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and not (is_url(out) or Path(out).is_absolute()):
        raise JobError(
            f"expected --out to be a URL or an absolute path on storage that all nodes share, found '{out}'; a "
            "submitted job's working directory is on one node and is deleted after it"
        )
    wanted = parts_of(part)
    resolved = load(job, list(overrides))
    _warn_repeated_seeds(resolved)
    from reprobatch.runner import run as run_job  # loads ray: not before the job is known to be right
    from reprobatch.view import RunView

    # Ray prints what befalls its nodes on stdout, where nothing but the result belongs
    with redirect_stdout(sys.stderr), RunView() as view:
        outcome = run_job(resolved, out, workers=workers, address=address, insist=insist, part=wanted, on_event=view)
    text = f"{outcome.items} items ({outcome.made} made now) in {outcome.seconds:.1f} s\n"
    text += (
        f"part {part} is there; 'reprobatch merge' puts parts together"
        if outcome.root is None
        else f"root {outcome.root}"
    )
    show_result(asdict(outcome), text, json_)


@click.command()
@click.argument("parts", nargs=-1, required=True, metavar="DIR...", shell_complete=complete.datasets)
@out_option
@as_json
def merge(parts: tuple[str, ...], out: str, json_: bool) -> None:
    """Put datasets that were made in parts together, to the bytes of one run.

    \b
    reprobatch run jobs/digits.yaml --out one --part 1/2      # on one cluster
    reprobatch run jobs/digits.yaml --out two --part 2/2      # on another
    reprobatch merge one two --out digits
    """
    from reprobatch.dataset import Dataset
    from reprobatch.merge import merge as put_together
    from reprobatch.progress import Progress

    opened = [Dataset(part) for part in parts]
    total = sum(len(dataset.plan.shard(shard)) for dataset in opened for shard in dataset.store.shards())
    with Progress(total, label="items copied") as progress:
        root = put_together(opened, out, progress.add)
    facts = {"items": len(opened[0]), "root": root, "out": out}
    show_result(facts, f"{len(opened[0])} items of {len(parts)} parts\nroot {root}", json_)


@click.command()
@job_argument
@overrides
@as_json
def plan(job: Path, overrides: tuple[str, ...], json_: bool) -> None:
    """Show what a job would make: items, shards, batches, bytes, first seeds.

    \b
    reprobatch plan jobs/digits.yaml
    reprobatch plan jobs/digits.yaml -s items.repeat=10 -s shard_size=128

    Loads no torch and makes nothing.
    """
    import numpy as np

    from reprobatch import seeds
    from reprobatch.estimate import output_bytes
    from reprobatch.resolve import largest_argument, load

    resolved = load(job, list(overrides))
    plan, first = resolved.plan, min(5, resolved.plan.count)
    explicit = [item["seed"] for item in resolved.reader.read(0, first) if "seed" in item]
    argument = largest_argument(resolved.job.call, resolved.reader)
    made = resolved.job
    each = output_bytes(made.output, made.pipeline.dtype, argument, resolved.model.folder, made.also)
    facts = {
        "items": plan.count,
        "shards": plan.shards,
        "batches": plan.total_batches,
        "padded": plan.padded,
        "bytes": None if each is None else each * plan.count,
        "seeds": explicit or seeds.derive(resolved.job.master_seed, np.arange(first)).tolist(),
        "job_digest": resolved.job.digest,
    }
    show_result(facts, "\n".join(f"{name}: {shown(value)}" for name, value in facts.items()), json_)


@click.command()
@job_argument
@click.option("--batch-sizes", "sizes", metavar="N,N…", help="Measure speed and memory in batches of these sizes.")
@overrides
@as_json
def probe(job: Path, sizes: str | None, overrides: tuple[str, ...], json_: bool) -> None:
    """Measure what is reproducible about a job on this machine, in a few two-step calls.

    With --batch-sizes, measure speed and memory instead, and propose a size; the job stays as it is.

    \b
    reprobatch probe jobs/digits.yaml
    reprobatch probe jobs/digits.yaml --batch-sizes 1,2,4,8
    """
    from reprobatch import contract, determinism, fresh
    from reprobatch.resolve import load

    resolved = load(job, list(overrides))
    if sizes is not None:
        _measure_sizes(resolved, sizes, json_)
        return
    # before torch is imported, which reads some of them once
    determinism.start_over(resolved.job.determinism, resolved.job.workers.threads)
    from reprobatch.worker import Worker

    samples = contract.samples(resolved.job, resolved.plan, resolved.reader.read)
    begun = fresh.begin(resolved.job, resolved.model_hint, samples.first)  # it loads while this process does
    found = Worker(resolved.job, resolved.model_hint).probe(samples, fresh=begun)
    broken = ", ".join(found.broken).replace("_", " ")
    verdict = f"a run refuses this job ({broken})" if broken else "a run takes this job"
    show_result({"contract": found.as_dict(), "accepted": not broken}, f"{found.table()}\n{verdict}", json_)
    sys.exit(DIFFERS if broken else DONE)


def _measure_sizes(resolved: Any, wanted: str, json_: bool) -> None:
    from reprobatch import sizes

    job, found = resolved.job, []
    for measured in sizes.measure(
        job, resolved.model_hint, resolved.reader.read, resolved.reader.breaks(), sizes.parse(wanted)
    ):
        found.append(measured)
        rate, peak = measured.items_per_second, measured.peak_bytes
        told = measured.problem or f"{rate:.3g} items/s, peak {(peak or 0) / 2**20:,.0f} MiB"
        click.echo(f"batch_size {measured.batch_size}: {told}", err=json_)
    best = sizes.best(found)
    facts = {"batch_sizes": [asdict(m) for m in found], "proposed": best and best.batch_size, "current": job.batch_size}
    text = "none of these sizes could be run"
    if best is not None:
        text = f"proposed: batch_size {best.batch_size} (the job has {job.batch_size}, and keeps it)"
        if best.batch_size != job.batch_size:
            text += "; another size gives other bits, so it is another job: change it before items are made"
    show_result(facts, text, json_)
    sys.exit(DONE if best else DIFFERS)


def _warn_repeated_seeds(resolved: Any) -> None:
    if "seed" not in resolved.job.items.columns:
        return
    from reprobatch.items import repeated_seeds

    pairs = repeated_seeds(resolved.item_file)
    if resolved.job.items.repeat > 1:
        click.echo(f"items.repeat is {resolved.job.items.repeat}: each explicit seed is used as often", err=True)
    for first, second in pairs[:1]:
        click.echo(f"rows {first} and {second} of the items have the same seed, and so the same noise", err=True)
