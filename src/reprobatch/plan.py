"""The plan: which item goes where. Decided by the job alone.

Items 0 … N-1 are cut into shards of ``shard_size``; within a shard, runs of items with equal
splitting arguments are cut into batches of ``batch_size``. The last batch of a run is padded with
copies of its last item, so that every pipeline call has the same shape. Where no argument splits
(``breaks`` is empty), every question is answered by arithmetic, whatever N is.

A dataset that grew has segments: each begins a shard of its own, as the last shard and batch before it
are committed as they are.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from reprobatch.errors import JobError


@dataclass(frozen=True)
class Place:
    """Where an item is made: its shard, the batch within that shard, and the slot in that batch."""

    shard: int
    batch: int
    slot: int


@dataclass(frozen=True)
class Batch:
    """Items ``start`` … ``stop - 1``, made by one pipeline call; ``number`` counts within the shard."""

    number: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Plan:
    """Items to shards, batches and slots.

    Parameters
    ----------
    count, batch_size, shard_size
        Items in all, per pipeline call and per shard; ``shard_size`` is a multiple of ``batch_size``.
    breaks
        int64 indices within 0 … count-1, ascending, at which a new batch must begin.
    starts
        First index of each segment, ascending from 0; one segment where the dataset never grew.
    """

    count: int
    batch_size: int
    shard_size: int
    breaks: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    starts: tuple[int, ...] = (0,)

    @cached_property
    def _first_shards(self) -> list[int]:
        """The first shard of each segment, and beyond the last one the number of shards."""
        lengths = [stop - start for start, stop in itertools.pairwise([*self.starts, self.count])]
        return list(itertools.accumulate((-(-length // self.shard_size) for length in lengths), initial=0))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self._first_shards[-1]

    def shard(self, number: int) -> range:
        """The indices of a shard. Raises :class:`JobError` where there is no such shard."""
        if not 0 <= number < self.shards:
            raise JobError(f"expected a shard within 0 … {self.shards - 1}, found {number}")
        segment = bisect_right(self._first_shards, number) - 1
        end = [*self.starts, self.count][segment + 1]
        start = self.starts[segment] + (number - self._first_shards[segment]) * self.shard_size
        return range(start, min(start + self.shard_size, end))

    def shard_of(self, index: int) -> int:
        """The shard of an item. Raises :class:`JobError` where there is no such item."""
        if not 0 <= index < self.count:
            raise JobError(f"expected an index within 0 … {self.count - 1}, found {index}")
        segment = bisect_right(self.starts, index) - 1
        return self._first_shards[segment] + (index - self.starts[segment]) // self.shard_size

    def part(self, number: int, parts: int) -> range:
        """The shards of part ``number`` (from 1) of so many. Raises :class:`JobError` for a part that is none."""
        if not 1 <= number <= parts <= self.shards:
            raise JobError(
                f"expected part K/N with K within 1 … N and N within 1 … {self.shards} (the shards there are), "
                f"found {number}/{parts}"
            )
        return range(self.shards * (number - 1) // parts, self.shards * number // parts)

    def batches(self, shard: int) -> list[Batch]:
        """The batches of a shard, in order."""
        cuts = self._cuts(self.shard(shard))
        spans = [
            (at, min(at + self.batch_size, stop))
            for start, stop in itertools.pairwise(cuts)
            for at in range(start, stop, self.batch_size)
        ]
        return [Batch(number, start, stop) for number, (start, stop) in enumerate(spans)]

    def place(self, index: int) -> Place:
        """Where an item is made. Raises :class:`JobError` where there is no such item."""
        shard = self.shard_of(index)
        batch = 0
        for start, stop in itertools.pairwise(self._cuts(self.shard(shard))):
            if index < stop:
                inside, slot = divmod(index - start, self.batch_size)
                return Place(shard, batch + inside, slot)
            batch += -(-(stop - start) // self.batch_size)
        raise AssertionError("cuts end at the shard's end")

    @cached_property
    def total_batches(self) -> int:
        """Pipeline calls in all."""
        return sum(self._batches_within(*ends) for ends in itertools.pairwise([*self.starts, self.count]))

    def _batches_within(self, first: int, end: int) -> int:
        """Pipeline calls of a segment."""
        low, high = np.searchsorted(self.breaks, [first, end])
        breaks = self.breaks[low:high] - first
        length = end - first
        broken = np.unique(breaks // self.shard_size)  # shards that hold a break; the others are arithmetic
        starts = broken * self.shard_size
        stops = np.minimum(starts + self.shard_size, length)
        cuts = np.union1d(np.union1d(starts, stops), breaks)
        runs = np.diff(cuts)[np.isin(cuts[:-1] // self.shard_size, broken)]
        calls = -(-runs // self.batch_size)
        whole, rest = divmod(length - int((stops - starts).sum()), self.shard_size)
        return int(calls.sum()) + whole * (self.shard_size // self.batch_size) + -(-rest // self.batch_size)

    @property
    def padded(self) -> int:
        """Slots that hold a copy, in all."""
        return self.total_batches * self.batch_size - self.count

    def _cuts(self, shard: range) -> list[int]:
        low, high = np.searchsorted(self.breaks, [shard.start + 1, shard.stop])
        return [shard.start, *(int(b) for b in self.breaks[low:high]), shard.stop]
