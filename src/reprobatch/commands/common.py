"""Options, exit codes and output that the commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from reprobatch.commands import complete
from reprobatch.errors import JobError, suggestion
from reprobatch.store import is_url

DONE, DIFFERS, COULD_NOT, INTERRUPTED = 0, 1, 2, 130

as_json = click.option("--json", "json_", is_flag=True, help="One JSON document on stdout, nothing else there.")
overrides = click.option(
    "-s",
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.SUB=VALUE",
    help="Override a value of the job; repeatable.",
)
model_option = click.option("--model", metavar="PATH", help="Where a folder model lies on this machine.")
place_option = click.option(
    "--place",
    "places",
    multiple=True,
    metavar="NAME=PATH",
    help="Where an attachment, items or images lie on this machine (adapters.0, items …); repeatable.",
)
fps_option = click.option(
    "--fps",
    type=click.FloatRange(0, 240, min_open=True),
    help="Frames a second of a video; default: the call's frame_rate or fps, else 10.",
)
job_argument = click.argument("job", type=click.Path(path_type=Path), shell_complete=complete.jobs)


class _Place(click.ParamType[str]):
    """A folder that need not be there yet, or a URL."""

    name = "place"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_url(value):
            click.Path(file_okay=False).convert(value, param, ctx)
        return value


out_option = click.option(
    "--out",
    required=True,
    type=_Place(),
    metavar="DIR",
    help="Dataset's folder or URL; new, or this job's.",
    shell_complete=complete.datasets,
)
dir_argument = click.argument("dir", shell_complete=complete.datasets)


def parts_of(text: str) -> tuple[int, int]:
    """``K/N`` as two numbers. Raises :class:`click.BadParameter` for other text."""
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal()):
        raise click.BadParameter(f"expected K/N, such as 1/3, found '{text}'")
    return int(number), int(parts)


def show_result(facts: dict[str, Any], text: str, json_: bool) -> None:
    """The result on stdout: ``facts`` as one JSON document, or ``text`` for people."""
    click.echo(json.dumps(facts, ensure_ascii=False) if json_ else text)


def shown(value: Any) -> str:
    """A fact as text."""
    return "unknown" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def judged(word: str, good: bool) -> str:
    """A verdict, coloured where there is a terminal for it."""
    return click.style(word, fg="green" if good else "red")


def places_of(job: Any, model: str | None, places: tuple[str, ...]) -> dict[str, str]:
    """Where things lie on this machine, by name.

    Raises :class:`JobError` for text that is no ``NAME=PATH``, and a name that the job has no use for.
    """
    known = ("model", "items", "images", *job.pipeline.attachments)
    for text in places:
        name = text.partition("=")[0]
        if not all(text.partition("=")):
            raise JobError(f"--place: expected NAME=PATH, found '{text}'")
        if name not in known:
            raise JobError(f"--place: expected one of {', '.join(known)}, found '{name}'{suggestion(name, known)}")
    return {**({"model": model} if model else {}), **dict(text.split("=", 1) for text in places)}


def regenerator(dataset: Any, model: str | None, places: tuple[str, ...] = ()) -> Any:
    """A :class:`reprobatch.regenerate.Regenerator`, with this process's variables set in time."""
    from reprobatch import determinism

    hint = places_of(dataset.job, model, places)
    # before torch is imported, which reads some of them once
    determinism.start_over(dataset.job.determinism, dataset.job.workers.threads)
    from reprobatch.regenerate import Regenerator

    return Regenerator(dataset, places=hint)
