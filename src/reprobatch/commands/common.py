"""Options, exit codes and output that the commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from reprobatch.errors import JobError

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
    help="Where a part of the pipeline, or items or images lie on this machine (adapters.0, items …); repeatable.",
)
FOLDER = click.Path(path_type=Path, file_okay=False)
job_argument = click.argument("job", type=click.Path(path_type=Path))
dir_argument = click.argument("dir", type=click.Path(path_type=Path))


def show_result(facts: dict[str, Any], text: str, json_: bool) -> None:
    """The result on stdout: ``facts`` as one JSON document, or ``text`` for people."""
    click.echo(json.dumps(facts, ensure_ascii=False) if json_ else text)


def shown(value: Any) -> str:
    """A fact as text."""
    return "unknown" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def regenerator(dataset: Any, model: str | None, places: tuple[str, ...] = ()) -> Any:
    """A :class:`reprobatch.regenerate.Regenerator`, with this process's variables set in time."""
    from reprobatch import determinism

    wrong = [text for text in places if not all(text.partition("="))]
    if wrong:
        raise JobError(f"--place: expected NAME=PATH, found '{wrong[0]}'")

    # before torch is imported, which reads some of them once
    determinism.start_over(dataset.job.determinism, dataset.job.workers.threads)
    from reprobatch.regenerate import Regenerator

    return Regenerator(dataset, model, dict(text.split("=", 1) for text in places))
