"""One spelling for one value: canonical JSON and its SHA-256."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_SHOWN = 60  # characters of a value that a message shows


def dumps(value: Any) -> str:
    """JSON with sorted keys, no spaces, non-ASCII as it is, and no NaN (``ValueError``)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256, hex, of the canonical JSON in UTF-8."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()


def differences(here: Any, there: Any, path: str = "") -> list[str]:
    """Dotted names of what differs between two JSON values, each with both values.

    Empty exactly where the canonical JSON is the same, so 1 and 1.0 differ.

    >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
    ['a.b: 1 here, 2 there']
    """
    if isinstance(here, dict) and isinstance(there, dict):
        found: list[str] = []
        for key in sorted(here.keys() | there.keys()):
            where = f"{path}.{key}" if path else key
            if key not in here:
                found.append(f"{where}: absent here, {shown(there[key])} there")
            elif key not in there:
                found.append(f"{where}: {shown(here[key])} here, absent there")
            else:
                found += differences(here[key], there[key], where)
        return found
    if isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        pairs = enumerate(zip(here, there, strict=True))
        return [line for at, (one, other) in pairs for line in differences(one, other, f"{path}[{at}]")]
    if _text(here) == _text(there):
        return []
    one, other = _from_the_difference(_text(here), _text(there))
    return [f"{path or 'value'}: {one} here, {other} there"]


def shown(value: Any) -> str:
    """A JSON value for a message, cut where it is long."""
    return _cut(_text(value), 0)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _from_the_difference(here: str, there: str) -> tuple[str, str]:
    """Two texts cut alike, so that two long ones do not look the same."""
    at = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))
    start = max(0, at - 20) if at >= _SHOWN - 20 else 0
    return _cut(here, start), _cut(there, start)


def _cut(text: str, start: int) -> str:
    rest = text[start:]
    return ("..." if start else "") + (rest if len(rest) <= _SHOWN else rest[: _SHOWN - 3] + "...")
