"""Two datasets, item by item.

Both are walked in index order, a row group of each at a time, whatever their shard and batch sizes
are; memory depends on neither's length. A shard that is not there is no damage: its items are missing.
Values are taken as they are stored; that they are what the checksums say is ``verify``'s to find.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reprobatch import canonical, environment
from reprobatch.dataset import Dataset
from reprobatch.distances import Distance, Histogram, Statistics
from reprobatch.errors import DataError, JobError
from reprobatch.record import Row
from reprobatch.settings import Tolerance
from reprobatch.store import shard_name

INSTALL = "pip install 'reprobatch[plot]'"


@dataclass
class Report:
    """What ``compare`` found; ``missing`` counts the items that A or B lacks of all the two should hold."""

    statistics: Statistics
    missing: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether every item is there twice, identical or within."""
        return not self.statistics.verdicts["different"] and not any(self.missing.values())

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        tolerance = {"atol": self.statistics.atol, "rtol": self.statistics.rtol}
        return {**self.statistics.summary(), "missing": self.missing, "tolerance": tolerance}


@dataclass(frozen=True)
class Stretch:
    """Items ``start`` … ``stop - 1`` of one dataset; ``rows[0]`` is item ``first``; no rows, no items there."""

    start: int
    stop: int
    rows: list[Row] | None = None
    first: int = 0

    def row(self, index: int) -> Row:
        """An item's row."""
        assert self.rows is not None
        return self.rows[index - self.first]


def compare(
    a: Dataset,
    b: Dataset,
    tolerance: Tolerance | None = None,
    on_items: Callable[[int], None] = lambda items: None,
    on_distance: Callable[[int, Distance], None] = lambda index, distance: None,
) -> Report:
    """Compare two datasets; ``tolerance`` is that of A's job unless given.

    ``on_items`` is told the items done, ``on_distance`` each item's index and distance.

    Raises :class:`JobError` for a tolerance that is not finite and :class:`DataError`, which names the
    dataset, where a shard cannot be read.
    """
    tolerance = tolerance or a.job.tolerance
    if not (math.isfinite(tolerance.atol) and math.isfinite(tolerance.rtol)):
        raise JobError(f"expected a finite tolerance, found atol {tolerance.atol}, rtol {tolerance.rtol}")
    report = Report(Statistics(tolerance.atol, tolerance.rtol), {"a": 0, "b": 0})
    for one, other in pairs(a, b):
        items = one.stop - one.start
        report.missing["a"] += items if one.rows is None else 0
        report.missing["b"] += items if other.rows is None else 0
        if one.rows is not None and other.rows is not None:
            for index in range(one.start, one.stop):
                x, y = one.row(index), other.row(index)
                on_distance(index, report.statistics.add(index, x.output, y.output, same_seed=x.seed == y.seed))
        on_items(items)
    return report


def job_differences(a: Dataset, b: Dataset) -> list[str]:
    """What differs between the two jobs: *here* is A, *there* is B."""
    return canonical.differences(a.job.as_dict(), b.job.as_dict())


def environment_differences(a: Dataset, b: Dataset) -> list[str]:
    """What differs between the machines that made them: *recorded* is B."""
    one, other = _environment(a), _environment(b)
    if bool(one) != bool(other):  # a run that has not come so far
        return [f"known of {'A' if one else 'B'} only"]
    return environment.explain(one, other)


def pairs(a: Dataset, b: Dataset) -> Iterator[tuple[Stretch, Stretch]]:
    """Both datasets cut alike, so that the two of a pair hold the same items; together they hold all."""
    items = max(len(a), len(b))
    left, right = stretches(a, items), stretches(b, items)
    one, other = next(left, None), next(right, None)
    while one is not None and other is not None:
        stop = min(one.stop, other.stop)
        yield replace(one, stop=stop), replace(other, stop=stop)
        one = replace(one, start=stop) if stop < one.stop else next(left, None)
        other = replace(other, start=stop) if stop < other.stop else next(right, None)


def stretches(dataset: Dataset, items: int) -> Iterator[Stretch]:
    """A dataset from item 0 to ``items``, a row group at a time; what it lacks is a stretch without rows.

    Raises :class:`DataError` where a shard does not hold exactly its items, in order.
    """
    with _naming(dataset):
        for shard in range(dataset.plan.shards):
            span = dataset.plan.shard(shard)
            if dataset.store.exists(shard_name(shard)):
                yield from _shard(dataset, shard, span)
            else:
                yield Stretch(span.start, span.stop)
    if len(dataset) < items:
        yield Stretch(len(dataset), items)


def _environment(dataset: Dataset) -> dict[str, Any]:
    with _naming(dataset):
        found = dataset.manifest.get("environment")
    return found if isinstance(found, dict) else {}


@contextmanager
def _naming(dataset: Dataset) -> Iterator[None]:
    """Say which of the two datasets a :class:`DataError` is about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{dataset.store}: {error}") from None


def _shard(dataset: Dataset, shard: int, span: range) -> Iterator[Stretch]:
    at = span.start
    for rows in dataset.groups(shard):
        found = [row.index for row in rows]
        if found != list(range(at, at + len(rows))) or at + len(rows) > span.stop:
            raise _disorder(shard, span, f"others, such as {found[0]} … {found[-1]} where {at} should stand")
        if rows:
            yield Stretch(at, at + len(rows), rows, at)
        at += len(rows)
    if at < span.stop:
        raise _disorder(shard, span, f"none from {at} on")


def _disorder(shard: int, span: range, found: str) -> DataError:
    expected = f"items {span.start} … {span.stop - 1}, in order"
    return DataError(f"{shard_name(shard)}: expected {expected}, found {found}; see 'reprobatch verify'")


def check_plot(path: Path) -> None:
    """Raise :class:`JobError` where a plot could not be drawn, before anything is compared."""
    if path.suffix.lower() != ".png":
        raise JobError(f"expected a plot that ends in .png, found '{path}'")
    if not path.absolute().parent.is_dir():
        raise JobError(f"expected a folder for the plot, found none at '{path.absolute().parent}'; make it first")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise JobError(f"expected matplotlib for a plot, found none; install it with: {INSTALL}") from None


def plot(histogram: Histogram, path: Path, title: str) -> None:
    """Draw how many items lie how far apart, ten bars a decade, as a PNG.

    A figure made without pyplot draws with Agg, whatever backend the user's settings name.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    bars = histogram.buckets(per_decade=10)
    if bars:
        lows, highs, items = zip(*bars, strict=True)
        axes.bar(lows, items, [high - low for low, high in zip(lows, highs, strict=True)], align="edge")
        axes.set_xscale("log")
    else:
        axes.text(0.5, 0.5, "no item has an L_inf above 0", ha="center", transform=axes.transAxes)
        axes.set_xticks([])
    axes.set(xlabel="L_inf of an item", ylabel="items")
    beside = f"not drawn: {histogram.zero} items at 0, {histogram.none} without an L_inf"
    axes.set_title(f"{title}\n{beside}", fontsize="medium", parse_math=False)
    figure.savefig(path, format="png")
