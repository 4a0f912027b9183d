"""Names of diffusers' classes, read from its sources: importing it takes seconds and loads torch."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def schedulers() -> frozenset[str]:
    """Names of the schedulers of the diffusers that is installed; empty where they cannot be read."""
    return _names("Scheduler")


def pipelines() -> frozenset[str]:
    """Names of its pipelines; empty where they cannot be read."""
    return _names("Pipeline")


@cache
def _names(ending: str) -> frozenset[str]:
    spec = find_spec("diffusers")
    if spec is None or spec.origin is None:
        return frozenset()
    try:
        text = Path(spec.origin).read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(re.findall(rf'"([A-Za-z]\w*{ending})"', text))
