"""Spot checks: some items, chosen by a recorded seed, and what they prove of all.

A sample is ``random.Random(seed).sample``: who knows the seed and the number of items knows which ones
were looked at. The default seed is the dataset's root, which nobody chooses; who holds a dataset
against its maker takes one of their own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from reprobatch import seeds
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError
from reprobatch.shardcheck import Problem
from reprobatch.store import shard_name


@dataclass(frozen=True)
class Sample:
    """Which items were looked at, and the seed that chose them."""

    seed: str
    indices: list[int]


def choose(dataset: Dataset, items: int, seed: str | None = None) -> Sample:
    """So many items of a dataset, or all there are, in index order."""
    seed = seed or str(dataset.manifest.get("root") or dataset.job.digest)
    chosen = random.Random(seed).sample(range(len(dataset)), min(items, len(dataset)))
    return Sample(seed, sorted(chosen))


def bound(items: int, total: int) -> str:
    """What it proves that none of a sample differs: the rule of three, or that none of all does."""
    if items >= total:
        return "none of all does"
    return f"with 95 % confidence fewer than {min(1.0, 3 / items):.1%} of all do"


def check(dataset: Dataset, sample: Sample, on_item: Callable[[int], None] = lambda items: None) -> list[Problem]:
    """Look the items up and see that each is what its row says: bytes, checksum, seed, and whose shard it is.

    Reads a footer and a row group an item, not the dataset.
    """
    problems: list[Problem] = []
    with ThreadPoolExecutor() as pool:
        for found in pool.map(lambda index: list(_look_at(dataset, index)), sample.indices):
            problems += found
            on_item(1)
    return problems


def by_batch(dataset: Dataset, indices: Sequence[int]) -> Iterator[list[int]]:
    """Indices that share a batch, as all of a batch are made again at the price of one."""
    together: dict[tuple[int, int], list[int]] = {}
    for index in indices:
        row, _ = dataset.look_up(index)
        together.setdefault((dataset.plan.shard_of(index), row.batch), []).append(index)
    yield from together.values()


def _look_at(dataset: Dataset, index: int) -> Iterator[Problem]:
    shard = dataset.plan.shard_of(index)
    try:
        row, _ = dataset.look_up(index)
        footer = dataset.footer(shard)
    except DataError as error:
        missing = not dataset.store.exists(shard_name(shard))
        yield Problem("missing" if missing else "unreadable", "this item", str(error), shard, index)
        return
    if row.checksum != row.stored:
        yield Problem("checksum", str(row.stored), row.checksum, shard, index)
    if footer.job != dataset.job_digest(shard):
        yield Problem("foreign", f"job digest {dataset.job_digest(shard)}", footer.job, shard, index)
    expected = seeds.derive(dataset.job.master_seed, index)
    if "seed" not in dataset.job.items.columns and row.seed != expected:
        yield Problem("seed", str(expected), str(row.seed), shard, index)
