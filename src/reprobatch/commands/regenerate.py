"""The command that brings one item back, from a dataset or from a picture: ``regenerate``."""

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
    fps_option,
    judged,
    model_option,
    overrides,
    place_option,
    places_of,
    regenerator,
    show_result,
)


@click.command()
@click.argument("source", metavar="DIR|PICTURE.png")
@click.argument("index", type=int, required=False)
@click.option("--alone", is_flag=True, help="From the item's own row, without its neighbours.")
@click.option(
    "--to", type=click.Path(path_type=Path), help="Write it to FILE.png, .mp4, .gif, .wav, .npy or .safetensors."
)
@fps_option
@click.option("--job", type=click.Path(path_type=Path), help="With a picture: the job that it was made by.")
@overrides
@model_option
@place_option
@as_json
def regenerate(
    source: str,
    index: int | None,
    alone: bool,
    to: Path | None,
    fps: float | None,
    job: Path | None,
    overrides: tuple[str, ...],
    model: str | None,
    places: tuple[str, ...],
    json_: bool,
) -> None:
    """Make one item again and compare it with what is stored, or with the recipe that a picture carries.

    \b
    reprobatch regenerate digits 42
    reprobatch regenerate digits 42 --alone --to 42.png
    reprobatch regenerate 42.png
    reprobatch regenerate 42.png --job jobs/digits.yaml --json
    """
    from reprobatch import export as files

    if to is not None:
        files.check_suffix(to)
    if index is not None:
        if job is not None or overrides:
            raise click.UsageError("--job and -s go with a picture, a dataset has its own job; leave them out")
        facts, text = _from_dataset(source, index, alone, to, fps, model, places)
    else:
        _require_picture(source)
        facts, text = _from_picture(Path(source), job, overrides, alone, to, fps, model, places)
    show_result(facts, text, json_)
    sys.exit(DONE if facts["verdict"] == "identical" else DIFFERS)


def _from_dataset(
    dir: str, index: int, alone: bool, to: Path | None, fps: float | None, model: str | None, places: tuple[str, ...]
) -> tuple[dict[str, Any], str]:
    from reprobatch.dataset import Dataset
    from reprobatch.recipes import Recipes

    dataset = Dataset(dir)
    row, batch = dataset.look_up(index)  # a wrong index is said before a model is loaded
    again = regenerator(dataset, model, places)
    agreement = again.agreement(index)
    click.echo(agreement, err=True)
    made = again(index, alone=alone)
    if alone and made.method == "replay":
        click.echo("the contract says that alone does not hold for this job: its batch was replayed", err=True)
    comparison = made.comparison
    if to is not None:
        same = comparison.verdict == "identical"
        recipe = Recipes(dataset).text(row, batch) if same and to.suffix == ".png" else None
        _save(dataset.job, row.item, made.output, to, again.worker, fps, recipe)
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
    return facts, text


def _from_picture(
    path: Path,
    job: Path | None,
    overrides: tuple[str, ...],
    alone: bool,
    to: Path | None,
    fps: float | None,
    model: str | None,
    places: tuple[str, ...],
) -> tuple[dict[str, Any], str]:
    from reprobatch import determinism, pngfile, recipe
    from reprobatch.remake import Remaker
    from reprobatch.resolve import load

    if overrides and job is None:
        raise click.UsageError("-s goes with --job")
    carried = pngfile.read_text(path)
    read = recipe.parse(carried, f"'{path.name}'")
    found = places_of(read.job, model, places)
    remaker = Remaker(read, found, None if job is None else load(job, list(overrides)))
    method = remaker.method(alone)
    # before torch is imported, which reads some variables once
    determinism.start_over(read.job.determinism, read.job.workers.threads)
    replayer = remaker.load()
    agreement = remaker.agreement(replayer)
    click.echo(recipe.printable(str(agreement)), err=True)
    if alone and method == "replay":
        click.echo("the recipe says that alone does not hold for this job: its batch was replayed", err=True)
    made = remaker(replayer, method)
    if to is not None:
        same = made.verdict == "identical"
        _save(read.job, read.item, made.output, to, replayer.worker, fps, carried if same else None)
    pixels = remaker.pixels(path, made.output, replayer)
    facts = {
        "index": read.index,
        "seed": read.seed,
        "method": method,
        "stored": read.checksum,
        "computed": made.checksum,
        "verdict": made.verdict,
        "linf": 0.0 if made.verdict == "identical" else None,
        "job_digest": read.job_digest,
        "pixels": asdict(pixels),
        "canary": asdict(agreement),
    }
    text = f"item {read.index} (seed {read.seed}) of job {read.job.name}, by {method}\nrecipe   {read.checksum}\n"
    return facts, f"{text}computed {made.checksum}\n{made.verdict}; {pixels}"


def _save(job: Any, item: Any, output: Any, to: Path, worker: Any, fps: float | None, recipe: str | None) -> None:
    from reprobatch import export as files
    from reprobatch import film, pictures

    def decode(made: Any) -> Any:
        return pictures.of(job, made, worker.decode)

    rate = fps or film.frame_rate(job, item)
    files.save(output, to, decode, worker.sampling_rate, recipe=recipe, fps=rate)
    if to.suffix == ".png" and recipe is None:
        click.echo(f"{to.name} carries no recipe: these are not the recorded bits", err=True)


def _require_picture(source: str) -> None:
    from reprobatch.store import is_url

    if is_url(source) or Path(source).is_dir():
        raise click.UsageError("Missing argument 'INDEX': expected DIR and INDEX, or a PNG with a recipe")
