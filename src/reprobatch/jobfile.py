"""A job file's text as plain data: YAML 1.2, ``key.sub=value`` overrides, nothing that JSON cannot hold.

Knows nothing of a job's keys; :mod:`reprobatch.job` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from reprobatch.errors import JobError, suggested_path

MAX_BITS = 2048  # of a whole number; more decimal digits (640) may be refused by Python's own int()
SUFFIXES = (".yaml", ".yml")  # of job files
_MAX_DEPTH = 32
_MAX_VALUES = 100_000


def read(path: Path) -> Any:
    """The data of a YAML file. Raises :class:`JobError` for a file that cannot be read or is no YAML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = suggested_path(path, lambda entry: entry.suffix in SUFFIXES)
        raise JobError(
            f"no job file at '{path}'{near}; give the path of a YAML file, such as jobs/digits.yaml"
        ) from None
    except OSError as error:
        raise JobError(f"cannot read the job file '{path}': {error.strerror}; give the path of a YAML file") from None
    except UnicodeDecodeError as error:
        raise JobError(f"{path}: expected UTF-8 text, found {error.reason} (byte {error.start}); save it so") from None
    return _load(text, f"{path}: not valid YAML")


def override(data: dict[str, Any], text: str, shorthands: Mapping[str, str]) -> None:
    """Lay one ``key.sub=value`` over the data, in place; the value is YAML, a mapping not there is made.

    ``shorthands`` names the keys at which text stands for a mapping with that text under one key.
    """
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise JobError(f"-s: expected key.sub=value, found '{text}'")
    parsed = _load(value, f"-s {key}: not a YAML value") if value.strip() else None
    node = data
    for depth, part in enumerate(parts[:-1], 1):
        below = node.get(part)
        short = shorthands.get(".".join(parts[:depth]))
        if below is None:
            below = {}
        elif short is not None and isinstance(below, str):
            below = {short: below}
        if not isinstance(below, dict):
            raise JobError(f"-s {key}: '{part}' is not a mapping in this job, so nothing can be set below it")
        node[part] = below
        node = below
    node[parts[-1]] = parsed


def plain(value: Any) -> Any:
    """A copy that shares nothing with the original and that canonical JSON can hold.

    Raises :class:`JobError`, naming the place, for keys that are not text, numbers that are not finite
    or too long, dates, bytes and sets, text that is not Unicode, and nesting without end.
    """
    return _Copier().copy(value, "", 0)


class _Copier:
    def __init__(self) -> None:
        self._values = 0

    def copy(self, value: Any, where: str, depth: int) -> Any:
        self._values += 1
        if depth > _MAX_DEPTH:
            raise JobError(f"{where[:60]}...: nested more than {_MAX_DEPTH} deep; is an alias part of itself?")
        if self._values > _MAX_VALUES:
            raise JobError(f"expected at most {_MAX_VALUES} values, found more; put items into a file (items.prompts)")
        if isinstance(value, dict):
            below = {_key(key, where): (f"{where}.{key}" if where else key) for key in value}
            return {key: self.copy(value[key], place, depth + 1) for key, place in below.items()}
        if isinstance(value, list):
            return [self.copy(v, f"{where}.{at}", depth + 1) for at, v in enumerate(value)]
        problem = _problem(value)
        if problem:
            raise JobError(f"{where}: {problem}" if where else problem)
        return value


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise JobError(f"{where or 'the job'}: expected keys that are text, found {key!r}; put it in quotes")
    problem = _problem(key)
    if problem:
        raise JobError(f"{where or 'the job'}: in a key, {problem}")
    return key


def _problem(value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        bits = value.bit_length()
        return f"expected a whole number of at most {MAX_BITS} bits, found one of {bits}" if bits > MAX_BITS else None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"expected a finite number, found {value}"
    if isinstance(value, str):
        return None if _encodable(value) else "expected Unicode text, found half a character"
    return f"expected text, a number, a list or a mapping, found a {type(value).__name__}; put text in quotes"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _load(text: str, failed: str) -> Any:
    try:
        # YAML 1.2: 'no' is a word and 1e-3 a number; duplicate keys are errors, and no tag makes an object
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise JobError(f"{failed}: {_reason(error)}") from None
    except RecursionError:
        raise JobError(f"{failed}: nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # ruamel lets those of int(), date() … through
        reason = str(error).partition(";")[0]
        raise JobError(f"{failed}: a value is not what it looks like ({reason}); put text in quotes") from None


def _reason(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{reason} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(reason)
