"""The command that makes a page of a dataset: ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reprobatch.commands.common import (
    as_json,
    dir_argument,
    model_option,
    place_option,
    regenerator,
    show_result,
)
from reprobatch.errors import ReprobatchError


@click.command()
@dir_argument
@click.argument("other", required=False)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Folder for the page.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The first N items only.")
@click.option("--page", type=click.IntRange(1), metavar="N", help="Items that are shown at once; 10000 unless given.")
@model_option
@place_option
@as_json
def report(
    dir: str,
    other: str | None,
    out: Path,
    limit: int | None,
    page: int | None,
    model: str | None,
    places: tuple[str, ...],
    json_: bool,
) -> None:
    """Make a page of a dataset that opens in a browser, without a server; with OTHER, both side by side.

    \b
    reprobatch report digits --out digits-report
    reprobatch report digits other --out apart
    """
    from reprobatch import report as pages
    from reprobatch.dataset import Dataset
    from reprobatch.page.folder import check_free
    from reprobatch.progress import Progress

    dataset = Dataset(dir)
    second = None if other is None else Dataset(other)
    check_free(out)  # before a model is loaded
    decode = _decoder(dataset, model, places)
    decode_other = None if second is None else _decoder_of_other(dataset, second, decode)
    options = pages.Options(dir, decode, decode_other, limit, page or pages.PAGE)
    beside = None if other is None or second is None else (other, second)
    total = min(len(dataset), limit or len(dataset)) + (0 if second is None else max(len(dataset), len(second)))
    with Progress(total, label="items", quiet=1.0) as progress:
        made = pages.make(dataset, out, options, beside, progress.add)
    show_result(made, _text(made, out), json_)


def _decoder(dataset: Any, model: str | None, places: tuple[str, ...]) -> Any:
    """What makes pictures of a dataset's latents, ``None`` where they need no model or there is none here."""
    from reprobatch import pictures

    if not pictures.needs_model(dataset.job):
        return None
    try:
        worker = regenerator(dataset, model, places).worker
    except ReprobatchError as error:
        click.echo(f"no pictures: {error}", err=True)
        return None
    return worker.decode_all


def _decoder_of_other(dataset: Any, other: Any, decode: Any) -> Any:
    """The first dataset's decoder where it does for the other one too; a process loads one pipeline."""
    one, two = dataset.job.pipeline, other.job.pipeline
    same = (one.model_digest, one.dtype, one.dtypes) == (two.model_digest, two.dtype, two.dtypes)
    return decode if same and other.job.output == "latent" else None


def _text(made: dict[str, Any], out: Path) -> str:
    text = f"{made['items']} of {made['of']} items" if made["items"] != made["of"] else f"{made['items']} items"
    text += f", {made['pictures']} pictures" + (f", {made['pages']} pages" if made["pages"] > 1 else "")
    faults = {"checksum": "whose bytes differ", "missing": "missing", "unreadable": "unreadable"}
    text += "".join(f", {made[name]} {said}" for name, said in faults.items() if made[name])
    if made["differing"] is not None:
        text += f", {made['differing']} differ"
    return f"{text}; {made['files']} files, {made['bytes'] / 1e6:.1f} MB\nopen {out / 'index.html'}"
