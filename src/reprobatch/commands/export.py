"""The command that writes a dataset's items as files people open: ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reprobatch.commands.common import (
    as_json,
    dir_argument,
    fps_option,
    model_option,
    place_option,
    regenerator,
    show_result,
)

_FORMATS = ("png", "gif", "mp4", "wav", "npy", "safetensors")
_SHEET_OPTIONS = ("columns", "rows", "side")


@click.command()
@dir_argument
@click.option("--to", required=True, type=click.Path(path_type=Path), help="Folder for the files.")
@click.option("--format", type=click.Choice(_FORMATS), help="Default: what fits the items.")
@fps_option
@click.option("--no-recipe", is_flag=True, help="PNGs without the recipe that 'regenerate' takes.")
@click.option("--contact-sheet", is_flag=True, help="Pages of small pictures with their indices, and nothing else.")
@click.option("--columns", type=click.IntRange(1, 1000), metavar="N", help="Of a contact sheet; default 10.")
@click.option("--rows", type=click.IntRange(1, 1000), metavar="N", help="Of a page; default 10.")
@click.option("--side", type=click.IntRange(32, 4096), metavar="PX", help="Longest side of a picture; default 128.")
@model_option
@place_option
@as_json
def export(
    dir: str,
    to: Path,
    format: str | None,
    fps: float | None,
    no_recipe: bool,
    contact_sheet: bool,
    model: str | None,
    places: tuple[str, ...],
    json_: bool,
    **layout: int | None,
) -> None:
    """Write every item as a file: pictures as PNG, video as MP4, sound as WAV.

    \b
    reprobatch export digits --to pictures
    reprobatch export digits --to sheets --contact-sheet --columns 20
    reprobatch export videos --to gifs --format gif --fps 8

    Stored pictures are written as they are; latents are decoded through the pipeline's VAE. A PNG carries its
    recipe, from which 'reprobatch regenerate PICTURE.png' makes the item again.
    """
    from reprobatch import export as files
    from reprobatch import pictures, sheets
    from reprobatch.dataset import Dataset
    from reprobatch.progress import Progress
    from reprobatch.recipes import Recipes

    given = {name: value for name, value in layout.items() if value is not None}
    if given and not contact_sheet:
        raise click.UsageError(f"--{next(iter(given))} goes with --contact-sheet")
    if contact_sheet and format is not None:
        raise click.UsageError("--contact-sheet writes PNGs; leave --format out")
    page = sheets.Layout(**given)
    dataset = Dataset(dir)
    fitting = files.suffix_for(dataset)  # an empty dataset is said before a model is loaded
    suffix = f".{format}" if format else fitting
    seen = contact_sheet or suffix in (".png", ".gif", ".mp4")
    worker: Any = None
    if pictures.needs_model(dataset.job) if seen else suffix == ".wav":
        worker = regenerator(dataset, model, places).worker
    exporter = files.Exporter(
        dataset,
        worker.decode if worker else _never,
        worker.sampling_rate if worker else None,
        fps,
        None if no_recipe else Recipes(dataset),
    )
    with Progress(len(dataset), label="items") as progress:
        if contact_sheet:
            count = sum(1 for _ in exporter.sheets(to, page, lambda: progress.add(1)))
            said = f"{count} sheets of {len(dataset)} items in {to}"
        else:
            count = 0
            for _ in exporter.files(to, suffix):
                count += 1
                progress.add(1)
            said = f"{count} {suffix} files in {to}"
    facts = {"items": len(dataset), "files": count, "format": "png" if contact_sheet else suffix[1:], "to": str(to)}
    show_result(facts, said, json_)


def _never(output: Any) -> Any:
    raise AssertionError("pictures that need no model are not decoded")
