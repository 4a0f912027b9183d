"""The command that holds a whole dataset to its word: ``verify``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from reprobatch.commands.common import (
    DIFFERS,
    DONE,
    as_json,
    dir_argument,
    judged,
    model_option,
    place_option,
    places_of,
    show_result,
)

_GOOD = ("intact", "sound")


@click.command()
@dir_argument
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Look at N random items only; reads no more.")
@click.option("--regenerate", "remake", type=click.IntRange(1), metavar="N", help="Also make N random items again.")
@click.option("--seed", metavar="TEXT", help="What chooses the random items, instead of the dataset's root.")
@click.option("--address", metavar="ADDRESS", help="Ray cluster to spread the work over.")
@click.option(
    "--signers",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also check who signed it: an allowed_signers file, as git's.",
)
@model_option
@place_option
@as_json
def verify(
    dir: str,
    sample: int | None,
    remake: int | None,
    seed: str | None,
    address: str | None,
    signers: Path | None,
    model: str | None,
    places: tuple[str, ...],
    json_: bool,
) -> None:
    """Check every file, row and checksum of a dataset, and its root.

    \b
    reprobatch verify digits
    reprobatch verify digits --regenerate 20
    reprobatch verify s3://bucket/digits --sample 1000
    reprobatch verify s3://bucket/digits --regenerate 200 --address auto
    reprobatch verify digits --signers ~/.ssh/allowed_signers
    """
    from reprobatch import determinism, signature
    from reprobatch.dataset import Dataset

    dataset = Dataset(dir)
    hint = places_of(dataset.job, model, places)
    if remake and address is None:
        determinism.start_over(dataset.job.determinism, dataset.job.workers.threads)
    signed = None if signers is None else signature.check(dataset.store, signers)
    with redirect_stdout(sys.stderr), _joined(address):  # Ray prints there what befalls its nodes
        facts, lines = _sampled(dataset, sample, seed) if sample else _verified(dataset, hint, address is not None)
        lines += _signed(dataset, signed, facts)
        if remake and facts["verdict"] in _GOOD:
            facts["regenerated"], said = _remake(dataset, remake, seed, hint, on_cluster=address is not None)
            lines += said
            if facts["regenerated"]["differ"]:
                facts["verdict"] = "differs"
    show_result(facts, "\n".join(lines), json_)
    sys.exit(DONE if facts["verdict"] in _GOOD else DIFFERS)


def _joined(address: str | None) -> AbstractContextManager[Any]:
    if address is None:
        return nullcontext()
    from reprobatch.cluster import connected

    return connected(address)


def _verified(dataset: Any, places: dict[str, str], on_cluster: bool) -> tuple[dict[str, Any], list[str]]:
    from reprobatch.progress import Progress
    from reprobatch.verification import verify as check

    spread: Any = None
    if on_cluster:
        from reprobatch.spread import check_shards

        spread = check_shards
    with Progress(len(dataset), label="items checked") as progress:
        report = check(dataset, progress.add, spread, places)
    lines = [
        *map(str, report.problems),
        f"{judged(report.verdict, report.verdict in _GOOD)}: {report.items} items, root {report.root}",
    ]
    if report.model.startswith("not"):
        lines.append(f"model digest {report.model}")
    return asdict(report), lines


def _signed(dataset: Any, found: Any, facts: dict[str, Any]) -> list[str]:
    """Lines on the signature; what is wrong with it goes into ``facts`` too."""
    from reprobatch import signature

    facts["signature"] = None
    if found is None:
        if not dataset.store.exists(signature.NAME):
            return []
        facts["signature"] = {"checked": False}
        return [f"signed ({signature.NAME}), but that was not checked; --signers FILE says who may sign"]
    facts["signature"] = {"checked": True, "signer": found.signer, "key": found.key}
    if found.problem is None:
        return [f"signed by {found.signer} with {found.key}"]
    facts["problems"].append(asdict(found.problem))
    if facts["verdict"] in _GOOD:
        facts["verdict"] = "untrusted"
    return [str(found.problem), facts["verdict"]]


def _sampled(dataset: Any, items: int, seed: str | None) -> tuple[dict[str, Any], list[str]]:
    from reprobatch import sampling
    from reprobatch.progress import Progress

    sample = sampling.choose(dataset, items, seed)
    with Progress(len(sample.indices), label="items looked at") as progress:
        problems = sampling.check(dataset, sample, progress.add)
    verdict = "damaged" if problems else "sound"
    last = f"{len(sample.indices)} items looked at, chosen by {sample.seed}: "
    last += f"{len(problems)} problems" if problems else f"none is damaged: {sampling.bound(items, len(dataset))}"
    facts = {"verdict": verdict, "root": None, "items": len(sample.indices), "problems": list(map(asdict, problems))}
    return {**facts, "sample": asdict(sample)}, [*map(str, problems), last]


def _remake(
    dataset: Any, items: int, seed: str | None, hint: dict[str, str], *, on_cluster: bool
) -> tuple[dict[str, Any], list[str]]:
    from reprobatch import sampling
    from reprobatch.progress import Progress

    sample = sampling.choose(dataset, items, seed)
    batches = list(sampling.by_batch(dataset, sample.indices))
    agreements: list[Any] = []

    def agree(agreement: Any) -> None:
        agreements.append(agreement)
        click.echo(agreement, err=True)

    if on_cluster:
        from reprobatch.spread import remake

        made = remake(dataset, batches, hint, agree)
    else:
        made = _remade_here(dataset, batches, hint, agree)
    lines, differ = [], []
    with Progress(len(sample.indices), label="items made again") as progress:
        for one in made:
            if one.comparison.verdict != "identical":
                differ.append(one.index)
                lines.append(f"item {one.index}: expected {one.comparison.stored}, found {one.comparison.computed}")
            progress.add(1)
    said = f"{len(sample.indices)} items made again, chosen by {sample.seed}: "
    said += f"{len(differ)} differ" if differ else f"none differs: {sampling.bound(items, len(dataset))}"
    facts = {"sample": asdict(sample), "differ": sorted(differ), "canary": asdict(agreements[0])}
    return facts, [*lines, said]


def _remade_here(dataset: Any, batches: list[list[int]], hint: dict[str, str], agree: Any) -> Iterator[Any]:
    from reprobatch.regenerate import Regenerator

    again = Regenerator(dataset, places=hint)
    agree(again.agreement())
    for indices in batches:
        _, batch = dataset.look_up(indices[0])
        yield from (made for made in again.batch(batch) if made.index in indices)
