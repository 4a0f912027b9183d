"""The command that writes a first job for a model: ``init``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from reprobatch.commands.common import as_json, show_result
from reprobatch.errors import JobError


@click.command()
@click.argument("model")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="job.yaml",
    show_default=True,
    metavar="FILE",
    help="The job file to write; nothing is overwritten.",
)
@click.option("--revision", metavar="REV", help="Of a hub id: a commit, branch or tag; else 'main', as a commit.")
@as_json
def init(model: str, out: Path, revision: str | None, json_: bool) -> None:
    """Write a first job for a model: a folder, a hub id or builtin:NAME.

    \b
    reprobatch init builtin:digits
    reprobatch init models/my-model --out my.yaml
    reprobatch init stabilityai/sdxl-turbo --out turbo.yaml --revision main

    Reads the model's configuration and its pipeline's signature, no weights. The job can be planned and
    run as it stands; a small file of example items is written beside it where it needs one.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise JobError(f"--out: expected a file ending in .yaml, found '{out.name}'")
    if out.exists():
        raise JobError(f"--out: '{out}' is there already and is not overwritten; give another name")
    if not out.parent.is_dir():
        raise JobError(f"--out: the folder of '{out}' does not exist; make it first")
    from reprobatch import proposal, survey
    from reprobatch.job import Job
    from reprobatch.models import builtin_prompts

    made = survey.survey(model, revision)
    found = proposal.propose(made, survey.room(), out.name, _reference(made, out), builtin_prompts(model))
    Job.parse(_read(found.text), str(out))  # what is written can be read
    written = []
    for name, content in {out.name: found.text.encode(), **found.files}.items():
        path = out.parent / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            with path.open("xb") as file:
                file.write(content)
            written.append(str(path))
    facts = {"job": str(out), "written": written, "class_name": made.class_name}
    facts |= {name: value for name, value in asdict(found).items() if name not in ("text", "files")}
    show_result(facts, "\n".join(_lines(made.class_name, written, out, found)), json_)


def _read(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


def _lines(name: str, written: list[str], out: Path, found: Any) -> list[str]:
    kept = [str(out.parent / each) for each in found.files if str(out.parent / each) not in written]
    lines = [f"wrote {', '.join(written)} for {name}"]
    lines += [f"{path} was there and is used as it is" for path in kept]
    return [*lines, f"next: reprobatch plan {out}"]


def _reference(made: Any, out: Path) -> str:
    """A model as the job names it: a folder below the job's is named from there, another one by its whole path."""
    if made.revision or made.model.startswith("builtin:"):
        return str(made.model)
    folder, beside = Path(made.model).expanduser().resolve(), out.parent.resolve()
    return os.path.relpath(folder, beside) if folder.is_relative_to(beside) else str(folder)
