"""Writes ``docs/reference.md`` from the code: ``python docs/make_reference.py``. A test fails where it is out of date.

Job keys come from the pydantic models and their docstrings, rows from the schema, help from the commands themselves,
the Python names from ``reprobatch.__all__``.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import reprobatch
from reprobatch import cli, errors, record
from reprobatch.job import Job

PAGE = Path(__file__).parent / "reference.md"
COMMAND = "python docs/make_reference.py"
CODES = {
    0: "same, or done",
    1: "differs, is corrupt or failed",
    2: "could not run: a job, a path or an argument is wrong",
    130: "interrupted; the same command goes on from there",
}


def page() -> str:
    """The whole page."""
    parts = [
        "# Reference",
        f"Made from the code by `{COMMAND}`; do not edit. "
        "A first dataset: [tutorial.md](tutorial.md); tasks: [how-to.md](how-to.md).",
        "## Job",
        "A YAML file. `-s key.sub=value` sets a key from the command line. Keys without a default have to be there.",
        *_models(Job, "", set()),
        "## Row",
        _row(),
        "## Exit codes",
        _table(("code", "means"), [(f"`{code}`", text) for code, text in CODES.items()]),
        "Errors are one line on stderr: what was expected, what was found, what to do. `--debug` shows the traceback. "
        'With `--json` an error is also `{"error": …, "kind": …}` on stdout. `NO_COLOR` turns colours off; off a '
        "terminal there are none.",
        "## Commands",
        *(_help(name) for name in cli.cli.commands),
        "## Python",
        *_names(),
    ]
    return "\n\n".join(parts) + "\n"


def _models(model: type[BaseModel], prefix: str, seen: set[type]) -> Iterator[str]:
    """A section a model, with the keys that it has; models below it follow."""
    seen.add(model)
    yield f"### {f'`{prefix}`' if prefix else 'At the top'}"
    yield _prose(model)
    rows = []
    below: list[tuple[type[BaseModel], str]] = []
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}" if prefix else name
        rows.append((f"`{name}`", f"`{_type(field.annotation)}`", _default(field), _limits(field)))
        below += [(found, f"{key}{place}") for found, place in _below(field.annotation)]
    yield _table(("key", "type", "default", "limits"), rows)
    for found, key in below:
        if found not in seen:
            yield from _models(found, key, seen)


def _prose(cls: type) -> str:
    """A docstring in Markdown; those of what a class is made of as well, where they are the project's."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("reprobatch") and base.__dict__.get("__doc__")]
    wanted = [base for base in bases if base is cls or set(base.__annotations__) - {"added", "model_config"}]
    return "\n\n".join(_markdown(str(base.__doc__)) for base in wanted)


def _markdown(text: str) -> str:
    text = inspect.cleandoc(text).replace("``", "`")
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"^(\w+)\n-{3,}$", r"**\1**\n", text, flags=re.MULTILINE)  # numpydoc's sections
    return re.sub(r"^(\w[^\n`]*)\n {4}(\S)", r"- `\1`: \2", text, flags=re.MULTILINE)


def _below(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
        return
    place = {list: ".0", dict: ".NAME"}.get(get_origin(annotation) or object, "")
    for part in get_args(annotation):
        yield from ((found, place + rest) for found, rest in _below(part))


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(json.dumps(part) if isinstance(part, str) else str(part) for part in parts)
    if origin in (list, dict):
        return f"{'list' if origin is list else 'mapping to'} {'of ' if origin is list else ''}{_type(parts[-1])}"
    if annotation.__class__.__name__ == "TypeAliasType":
        return "any JSON value"
    if hasattr(annotation, "__metadata__"):
        return _type(parts[0])
    if parts:
        return " or ".join(_type(part) for part in parts)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}.get(
        annotation, str(getattr(annotation, "__name__", annotation))
    )


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "**required**" if field.default_factory is None else f"`{json.dumps(field.default_factory())}`"
    if isinstance(field.default, BaseModel):
        return "as below"
    return f"`{json.dumps(field.default)}`"


def _limits(field: Any) -> str:
    """Bounds and patterns, as pydantic holds them."""
    signs = (("ge", "≥ "), ("gt", "> "), ("le", "≤ "), ("min_length", "length ≥ "), ("pattern", ""))
    found = []
    for each in field.metadata:
        for name, sign in signs:
            value = getattr(each, name, None)
            if value is not None:
                found.append(f"`{value}`".replace("|", "\\|") if name == "pattern" else f"{sign}{value:g}")
    return ", ".join(found)


def _row() -> str:
    own = {"prompt": "string"}
    one, several = record.schema(own, "latents"), record.schema(own, "latents", [record.DECODED])
    notes = {
        "index": "0 … N - 1",
        "seed": "what the item's generator is seeded with",
        "batch": "counts within the shard",
        "slot": "place in the batch",
        "prompt": "the item's own columns, named as in the item file: here one",
        "dtype": f"of the output: {', '.join(record.ITEM_SIZE)}",
        "shape": "of the output",
        "latents": "the output, little-endian bytes in C order; the column is called as `output` says",
        "checksum": "SHA-256, hex; see below",
        **dict.fromkeys(record.columns_of(record.DECODED), "of a further output, here `also: [decoded]`"),
    }
    rows = [(f"`{f.name}`", f"`{f.type}`", notes[f.name]) for f in several]
    assert {field.name for field in one} < set(notes)
    text = f"Parquet, one file a shard; format `{record.FORMAT}`, with further outputs `{record.SEVERAL}`."
    sums = f"- {_markdown(str(record.checksum.__doc__))}\n- {_markdown(str(record.combined.__doc__))}"
    return f"{text}\n\n{_table(('column', 'type', 'holds'), rows)}\n\nThe checksum:\n\n{sums}"


def _help(name: str) -> str:
    command = cli.cli.commands[name]
    above = click.Context(cli.cli, info_name="reprobatch", **cli.cli.context_settings)
    with click.Context(command, info_name=name, parent=above, terminal_width=100) as context:
        return f"### {name}\n\n```text\n{command.get_help(context)}\n```"


def _names() -> Iterator[str]:
    yield "`import reprobatch` loads neither torch nor Ray; names are loaded when they are first used."
    for name in sorted(reprobatch.__all__, key=str.lower):
        found = getattr(reprobatch, name)
        yield f"### reprobatch.{name}\n\n`{name}{_signature(found)}`\n\n{_markdown(found.__doc__)}"
        if inspect.isclass(found) and not issubclass(found, errors.ReprobatchError | BaseModel):
            members = [(each, vars(found)[each]) for each in vars(found) if not each.startswith("_")]
            told = [
                (each, inspect.unwrap(getattr(value, "fget", None) or getattr(value, "func", value)))
                for each, value in members
            ]
            yield "\n".join(
                f"- `{each}{_signature(value) if callable(vars(found)[each]) else ''}`: {_first(value)}"
                for each, value in told
                if inspect.isfunction(value) and value.__doc__
            )


def _first(value: Any) -> str:
    return _markdown(value.__doc__).split("\n\n")[0].replace("\n", " ")


def _signature(value: Any) -> str:
    if inspect.isclass(value) and issubclass(value, BaseException | BaseModel):
        return ""
    try:
        text = str(inspect.signature(value))
    except (TypeError, ValueError):
        return ""
    return (
        re.sub(r"<(function .* at \w+|factory)>", "…", text.replace("'", ""))
        .replace("self, ", "")
        .replace("(self)", "()")
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
