"""What pydantic found wrong with a job, in one line of plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from reprobatch import canonical
from reprobatch.errors import suggestion

_EXPECTED = {
    "string_type": "expected text",
    "string_unicode": "expected Unicode text",
    "string_too_short": "expected text that is not empty",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "list_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "greater_than_equal": "expected a number of at least {ge}",
    "less_than_equal": "expected a number of at most {le}",
    "less_than": "expected a number below {lt}",
    "too_long": "expected at most {max_length} entries",
    "literal_error": "expected {expected}",
}
_QUOTED = re.compile(r"'([^']+)'")
Known = Mapping[str, Callable[[], Collection[str]]]
"""What text of a pattern may be, by pattern."""
_NONE: Known = {}


def in_a_line(error: ValidationError, cls: type[BaseModel], patterns: Mapping[str, str], known: Known = _NONE) -> str:
    """The first finding, and how many more there are; ``patterns`` says each pattern in words.

    Unknown keys go first: a mistyped key is also a missing one.
    """
    details = sorted(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return _finding(details[0], cls, patterns, known) + more


def _finding(found: Any, cls: type[BaseModel], patterns: Mapping[str, str], known: Known) -> str:
    location, kind = found["loc"], found["type"]
    name = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        keys = _known_keys(cls, location[:-1])
        hint = suggestion(str(location[-1]), keys) or (f" (known: {', '.join(keys)})" if keys else "")
        return f"unknown key '{name}'{hint}"
    if kind == "missing":
        return f"missing key '{name}'"
    value = found["input"]
    context = {key: f"{bound:g}" if isinstance(bound, float) else bound for key, bound in found.get("ctx", {}).items()}
    if kind == "value_error":
        message = str(context["error"])
    elif kind == "string_pattern_mismatch":
        message = patterns[context["pattern"]]
    else:
        message = _EXPECTED[kind].format(**context) if kind in _EXPECTED else found["msg"]
    if not isinstance(value, dict | BaseModel):
        message += f", found {canonical.shown(value)}"
    if kind == "literal_error" and isinstance(value, str):
        message += suggestion(value, _QUOTED.findall(message.partition(", found ")[0]))
    if kind == "string_pattern_mismatch" and context["pattern"] in known:
        message += _named(str(value), known[context["pattern"]]())
    if kind == "string_type" and isinstance(value, int | float):
        message += "; put it in quotes"
    return f"{name}: {message}" if name else message


def _named(value: str, known: Collection[str]) -> str:
    """A suggestion for the name of a class, whose ending may have been left out."""
    whole = next((name for name in known if name.lower() == f"{value}scheduler".lower()), None)
    return f" (did you mean '{whole}'?)" if whole else suggestion(value, known)


def _known_keys(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    model: Any = cls
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)
