"""How far two sets of outputs lie apart: statistics that run along, item by item.

For two outputs ``a`` and ``b`` of equal shape, as float64 values in C order, with ``d = a - b``:

- L_inf is ``max |d|``, the figure the diffusers guide prints;
- RMS is ``sqrt(mean d^2)``, in the outputs' own unit;
- cosine similarity is ``a.b / (|a| |b|)``: 1 where the values are equal, between -1 and 1.

Over many items they are those of all values in one long vector, so only sums are kept. Quantiles come
from a histogram with buckets of equal width in log10, each at most ``10 ** (1 / FINE) - 1`` (2.4 %) too
large. Nothing here grows with the number of items.

dtype is looked at for identity only: float32 against bfloat16 is compared by value.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from reprobatch.record import Output
from reprobatch.verdict import Verdict, passes

WORST = 10  # items that are named
FINE = 100  # buckets a decade that are counted; what is shown is coarser
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True)
class Sums:
    """Over so many ``elements``: sums of ``d^2``, ``a^2``, ``b^2`` and ``a b``; ``inf`` where one is too large."""

    elements: int = 0
    dd: float = 0.0
    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray) -> Sums:
        """Of two float64 vectors of equal length.

        Products are summed in pairs rather than by BLAS, whose result depends on its threads.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            d = a - b
            return cls(a.size, *(float((x * y).sum()) for x, y in ((d, d), (a, a), (b, b), (a, b))))

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.elements + other.elements,
            self.dd + other.dd,
            self.aa + other.aa,
            self.bb + other.bb,
            self.ab + other.ab,
        )

    @property
    def rms(self) -> float | None:
        """Root mean square of the difference, 0 of no elements; ``None`` where it is too large for a float."""
        return _finite(math.sqrt(self.dd / self.elements)) if self.elements else 0.0

    @property
    def cosine(self) -> float | None:
        """Cosine similarity; ``None`` where it has no value: one of the two is zero, the other is not."""
        if self.dd == 0:
            return 1.0
        lengths = math.sqrt(self.aa) * math.sqrt(self.bb)
        found = _finite(self.ab / lengths) if lengths else None
        return None if found is None else min(1.0, max(-1.0, found))


@dataclass(frozen=True)
class Distance:
    """Two outputs of one item; ``linf`` is ``None``, and ``why`` says so, where they cannot be subtracted."""

    verdict: Verdict
    linf: float | None
    sums: Sums = Sums()
    why: str | None = None


def measure(a: Output, b: Output, atol: float = 0.0, rtol: float = 0.0) -> Distance:
    """Compare two outputs as :func:`reprobatch.verdict.compare` does, and also by value across dtypes.

    Another dtype is never identical: equal values in it are *within* at any tolerance but none at all.
    """
    if _shapes(a) != _shapes(b):
        return Distance("different", None, why=f"shapes {_shapes(a)} and {_shapes(b)}")
    one, other = _values(a), _values(b)
    finite = bool(np.isfinite(one).all() and np.isfinite(other).all())
    if a == b:
        return Distance("identical", 0.0, Sums.of(one, other) if finite else Sums(one.size))
    if not finite:
        return Distance("different", None, why="values that are not finite")
    with np.errstate(over="ignore"):
        apart = np.abs(one - other)
        within = passes(one, apart, atol, rtol)
    linf = _finite(float(apart.max(initial=0.0)))
    if linf is None:
        return Distance("different", None, why="a difference too large for a float")
    return Distance("within" if within else "different", linf, Sums.of(one, other))


@dataclass
class Histogram:
    """Counts of L_inf: ``zero``, ``none`` where there is none, and ``fine[k]`` for 10^(k/FINE) … 10^((k+1)/FINE)."""

    zero: int = 0
    none: int = 0
    fine: Counter[int] = field(default_factory=Counter)
    largest: float = 0.0

    def add(self, linf: float | None) -> None:
        """Count one item."""
        if linf is None:
            self.none += 1
        elif linf == 0:
            self.zero += 1
        else:
            self.fine[math.floor(math.log10(linf) * FINE)] += 1
            self.largest = max(self.largest, linf)

    @property
    def items(self) -> int:
        """Items with an L_inf."""
        return self.zero + self.fine.total()

    def quantile(self, share: float) -> float | None:
        """The L_inf that this share of the items (0 … 1) does not exceed, from above; ``None`` of no items."""
        wanted, seen = share * self.items, self.zero
        if not self.items:
            return None
        if seen >= wanted:
            return 0.0
        for bucket in sorted(self.fine):
            seen += self.fine[bucket]
            if seen >= wanted:
                return min(_power(bucket + 1, FINE), self.largest)
        return self.largest

    def buckets(self, per_decade: int = 1) -> list[tuple[float, float, int]]:
        """From, to and items of those buckets that hold any, smallest first; ``per_decade`` divides ``FINE``."""
        coarse: Counter[int] = Counter()
        for bucket, items in self.fine.items():
            coarse[bucket // (FINE // per_decade)] += items
        return [(_power(at, per_decade), _power(at + 1, per_decade), coarse[at]) for at in sorted(coarse)]


@dataclass(frozen=True)
class Apart:
    """One of the worst items, as it is told; ``checksums`` of A and B."""

    index: int
    verdict: Verdict
    linf: float | None
    rms: float | None
    cosine: float | None
    checksums: dict[str, str]
    why: str | None


class Worst:
    """The ``WORST`` items that are furthest apart; those without an L_inf count as furthest."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[float, int], Apart]] = []  # the least bad on top

    def add(self, index: int, distance: Distance, a: Output, b: Output) -> None:
        """Keep an item where it is among the worst; hashes only what is kept."""
        linf = math.inf if distance.linf is None else distance.linf
        rank = (linf, -index)  # of equals the first; an index stands once, so that no two ranks are equal
        if len(self._heap) == WORST and rank < self._heap[0][0]:
            return
        measured = distance.linf is not None
        apart = Apart(
            index,
            distance.verdict,
            distance.linf,
            distance.sums.rms if measured else None,
            distance.sums.cosine if measured else None,
            {"a": a.checksum, "b": b.checksum},
            distance.why,
        )
        (heapq.heappush if len(self._heap) < WORST else heapq.heapreplace)(self._heap, (rank, apart))

    def __iter__(self) -> Iterator[Apart]:
        return (apart for _, apart in sorted(self._heap, key=lambda entry: entry[0], reverse=True))


class Statistics:
    """Everything that is told of two datasets, as their items pass by."""

    def __init__(self, atol: float = 0.0, rtol: float = 0.0) -> None:
        self.atol, self.rtol = atol, rtol
        self.verdicts: Counter[Verdict] = Counter()
        self.seeds_differ = 0
        self.sums, self.histogram, self.worst = Sums(), Histogram(), Worst()

    def add(self, index: int, a: Output, b: Output, *, same_seed: bool = True) -> Distance:
        """Take one item in."""
        distance = measure(a, b, self.atol, self.rtol)
        self.verdicts[distance.verdict] += 1
        self.seeds_differ += not same_seed
        self.histogram.add(distance.linf)
        self.sums += distance.sums
        if distance.verdict != "identical":
            self.worst.add(index, distance, a, b)
        return distance

    def summary(self) -> dict[str, Any]:
        """Plain JSON values.

        ``linf``, ``rms`` and ``cosine`` are over all items, so they are ``None`` where any item has
        none; ``measured`` has them over the items that do.
        """
        histogram = self.histogram
        some = histogram.items > 0
        over = {
            "linf": histogram.largest if some else None,
            "rms": self.sums.rms if some else None,
            "cosine": self.sums.cosine if some else None,
        }
        return {
            **{verdict: self.verdicts[verdict] for verdict in ("identical", "within", "different")},
            **(dict.fromkeys(over) if histogram.none else over),
            "measured": {"items": histogram.items, **over},
            "seeds_differ": self.seeds_differ,
            "quantiles": {name: histogram.quantile(share) for name, share in QUANTILES.items()},
            "histogram": {
                "zero": histogram.zero,
                "none": histogram.none,
                "buckets": [{"from": low, "to": high, "items": items} for low, high, items in histogram.buckets()],
            },
            "worst": [asdict(apart) for apart in self.worst],
        }


def _values(output: Output) -> np.ndarray:
    """All values of an item, those of its further outputs among them."""
    each = [output, *output.also.values()]
    return np.concatenate([one.numpy().astype(np.float64).ravel() for one in each])


def _shapes(output: Output) -> str:
    named = {"": output, **output.also}
    return ", ".join(f"{name} {list(one.shape)}".lstrip() for name, one in named.items())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _power(number: int, per_decade: int) -> float:
    """``10 ** (number / per_decade)``, exact for whole decades, within what a float holds."""
    if number / per_decade > math.log10(sys.float_info.max):
        return sys.float_info.max
    decade, part = divmod(number, per_decade)
    return 10 ** (number / per_decade) if part else float(f"1e{decade}")
