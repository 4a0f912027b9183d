"""Two datasets for a report: what ``compare`` finds, how far apart each item is, and the furthest ones to be shown."""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reprobatch import compare
from reprobatch.dataset import Dataset
from reprobatch.distances import Distance
from reprobatch.errors import DataError

SHOWN = 200  # items that are shown side by side


@dataclass
class Apart:
    """``linf`` of each item, NaN where there is none; verdicts as numbers (see ``VERDICTS``); facts of ``compare``.

    ``why`` says why there was nothing to compare.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    linf: array[float] = field(default_factory=lambda: array("d"))
    verdicts: bytearray = field(default_factory=bytearray)
    worst: list[int] = field(default_factory=list)
    differing: int = 0
    why: str | None = None


VERDICTS = ("none", "identical", "within", "different")


def apart(a: Dataset, b: Dataset, shown: int, on_items: Callable[[int], None]) -> Apart:
    """Compare two datasets; ``shown`` is how many items the report has, of which the furthest are named."""
    found = Apart(linf=array("d", [math.nan]) * shown, verdicts=bytearray(shown))
    worst: list[tuple[float, int]] = []

    def take(index: int, distance: Distance) -> None:
        if index >= shown:
            return
        found.linf[index] = math.nan if distance.linf is None else distance.linf
        found.verdicts[index] = VERDICTS.index(distance.verdict)
        if distance.verdict != "identical":
            found.differing += 1
            rank = (math.inf if distance.linf is None else distance.linf, -index)
            (heapq.heappush if len(worst) < SHOWN else heapq.heappushpop)(worst, rank)

    found.facts = {
        "job": compare.job_differences(a, b),
        "environment": compare.environment_differences(a, b),
    }
    try:
        found.facts |= compare.compare(a, b, on_items=on_items, on_distance=take).facts()
    except DataError as error:
        found.why = str(error)
    found.worst = [-at for _, at in sorted(worst, reverse=True)]
    return found
