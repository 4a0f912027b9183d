"""Commands that hold a dataset to its word: ``regenerate``, ``verify``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from reprobatch.commands.common import (
    DIFFERS,
    DONE,
    as_json,
    dir_argument,
    model_option,
    place_option,
    regenerator,
    show_result,
)


@click.command()
@dir_argument
@click.argument("index", type=int)
@click.option("--alone", is_flag=True, help="From the item's own row, without its neighbours.")
@click.option("--to", type=click.Path(path_type=Path), help="Write it to FILE.safetensors, .npy, .png or .wav.")
@model_option
@place_option
@as_json
def regenerate(
    dir: Path, index: int, alone: bool, to: Path | None, model: str | None, places: tuple[str, ...], json_: bool
) -> None:
    """Make one item again and compare it with what is stored.

    \b
    reprobatch regenerate digits 42
    reprobatch regenerate digits 42 --alone --to 42.png
    """
    from reprobatch import export as files
    from reprobatch.dataset import Dataset

    dataset = Dataset(dir)
    if to is not None:
        files.check_suffix(to)
    dataset.look_up(index)  # a wrong index is said before a model is loaded
    again = regenerator(dataset, model, places)
    agreement = again.agreement(index)
    click.echo(agreement, err=True)
    made = again(index, alone=alone)
    if alone and made.method == "replay":
        click.echo("the contract says that alone does not hold for this job: its batch was replayed", err=True)
    if to is not None:
        files.save(made.output, to, again.worker.decode, again.worker.sampling_rate)
    comparison = made.comparison
    facts = {
        "index": index,
        "seed": made.seed,
        "method": made.method,
        **asdict(comparison),
        "canary": asdict(agreement),
    }
    text = f"item {index} (seed {made.seed}), by {made.method}\nstored   {comparison.stored}\n"
    text += f"computed {comparison.computed}\n{comparison.verdict}"
    if comparison.verdict != "identical":
        text += f", L_inf {comparison.linf}"
    show_result(facts, text, json_)
    sys.exit(DONE if comparison.verdict == "identical" else DIFFERS)


@click.command()
@dir_argument
@click.option("--regenerate", "sample", type=click.IntRange(1), metavar="N", help="Also make N random items again.")
@model_option
@place_option
@as_json
def verify(dir: Path, sample: int | None, model: str | None, places: tuple[str, ...], json_: bool) -> None:
    """Check every file, row and checksum of a dataset, and its root.

    \b
    reprobatch verify digits
    reprobatch verify digits --regenerate 20
    """
    from reprobatch.dataset import Dataset
    from reprobatch.progress import Progress
    from reprobatch.verification import verify as check

    dataset = Dataset(dir)
    with Progress(len(dataset), label="items checked") as progress:
        report = check(dataset, progress.add)
    facts: dict[str, Any] = asdict(report)
    lines = [
        *(str(problem) for problem in report.problems),
        f"{report.verdict}: {report.items} items, root {report.root}",
    ]
    if sample is not None and report.verdict == "intact":
        facts["regenerated"], said = _remake(dataset, sample, model, places)
        lines += said
        if facts["regenerated"]["differ"]:
            facts["verdict"] = "differs"
    show_result(facts, "\n".join(lines), json_)
    sys.exit(DONE if facts["verdict"] == "intact" else DIFFERS)


def _remake(dataset: Any, sample: int, model: str | None, places: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    import random

    from reprobatch.progress import Progress

    again = regenerator(dataset, model, places)
    agreement = again.agreement()
    click.echo(agreement, err=True)
    chosen = sorted(random.Random(dataset.manifest["root"]).sample(range(len(dataset)), min(sample, len(dataset))))
    lines, differ = [], 0
    with Progress(len(chosen), label="items made again") as progress:
        for index in chosen:
            comparison = again(index).comparison
            if comparison.verdict != "identical":
                differ += 1
                lines.append(f"item {index}: expected {comparison.stored}, found {comparison.computed}")
            progress.add(1)
    if differ:
        lines.append(f"{differ} of {len(chosen)} items made again differ")
    else:
        share = min(1.0, 3 / len(chosen))
        lines.append(
            f"{len(chosen)} items made again, none differs: with 95 % confidence fewer than {share:.1%} of all do"
        )
    return {"sample": len(chosen), "differ": differ, "canary": asdict(agreement)}, lines
