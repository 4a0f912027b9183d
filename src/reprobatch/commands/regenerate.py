"""The command that brings one item back: ``regenerate``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from reprobatch.commands.common import (
    DIFFERS,
    DONE,
    as_json,
    dir_argument,
    judged,
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
    dir: str, index: int, alone: bool, to: Path | None, model: str | None, places: tuple[str, ...], json_: bool
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
    text += f"computed {comparison.computed}\n{judged(comparison.verdict, comparison.verdict == 'identical')}"
    if comparison.verdict != "identical":
        text += f", L_inf {comparison.linf}"
    show_result(facts, text, json_)
    sys.exit(DONE if comparison.verdict == "identical" else DIFFERS)
