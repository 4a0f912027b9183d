"""Commands that read a dataset: ``show``, ``export``."""

from __future__ import annotations

from pathlib import Path

import click

from reprobatch.commands.common import (
    as_json,
    dir_argument,
    model_option,
    place_option,
    regenerator,
    show_result,
    shown,
)


@click.command()
@dir_argument
@click.argument("index", type=int)
@as_json
def show(dir: str, index: int, json_: bool) -> None:
    """Show one item's row: its seed, place, arguments and checksum.

    \b
    reprobatch show digits 42
    reprobatch show s3://bucket/digits 42 --json
    """
    from reprobatch.dataset import Dataset

    row, _ = Dataset(dir).look_up(index)
    facts = {
        "index": row.index,
        "seed": row.seed,
        "batch": row.batch,
        "slot": row.slot,
        **row.item,
        "dtype": row.output.dtype,
        "shape": list(row.output.shape),
        **{name: f"{each.dtype} {list(each.shape)}" for name, each in row.output.also.items()},
        "checksum": row.checksum,
    }
    show_result(facts, "\n".join(f"{name}: {shown(value)}" for name, value in facts.items()), json_)


@click.command()
@dir_argument
@click.option("--to", required=True, type=click.Path(path_type=Path), help="Folder for the pictures.")
@model_option
@place_option
@as_json
def export(dir: str, to: Path, model: str | None, places: tuple[str, ...], json_: bool) -> None:
    """Write every item as a PNG: the stored picture, or latents decoded through the pipeline's VAE.

    \b
    reprobatch export digits --to pictures
    reprobatch export digits --to pictures --model models/digits      # a folder model that lies elsewhere now
    """
    from reprobatch import export as files
    from reprobatch.dataset import Dataset
    from reprobatch.progress import Progress
    from reprobatch.record import DECODED

    dataset = Dataset(dir)
    next(dataset.groups(0))  # an empty dataset is said before a model is loaded
    if DECODED in dataset.job.also:  # no model is needed  # noqa: SIM108
        decode = files.stored_picture
    else:
        decode = regenerator(dataset, model, places).worker.decode
    with Progress(len(dataset), label="pictures") as progress:
        count = files.export(dataset, to, decode, lambda: progress.add(1))
    show_result({"items": count, "to": str(to)}, f"{count} pictures in {to}", json_)
