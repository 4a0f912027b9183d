"""The order of an epoch: who reads which row groups, and in what order their items come.

A **reader** is one process that reads: a ``DataLoader`` worker of one rank. Row groups are shuffled and
dealt to the readers, each to one of them; a reader shuffles its own, takes a few at a time (a *window*)
and shuffles the items of those together. So a reader that holds a window's row groups in memory reads
each of them once, and no other reader needs them.

The deal goes by size, the largest first and each to the reader with the fewest items so far. That makes
readers as even as whole row groups allow, and their numbers of items the same in every epoch.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from reprobatch.errors import JobError


class Order:
    """Batches of item indices, by epoch and reader; equal arguments give equal batches.

    ``steps`` is how many batches each reader has, the same in every epoch.

    Parameters
    ----------
    groups
        The index ranges of the row groups, in index order; none is empty.
    readers
        How many there are in all.
    batch_size
        The most items of a batch.
    window
        Row groups whose items are shuffled together.
    seed
        Not negative. Another seed or epoch is another order.
    drop_last
        ``False``: every item comes once in an epoch; where readers have unequal numbers of items, the
        batches of those with fewer are smaller, so that all have as many batches. ``True``: every batch
        is full, and the items that are left over, others in each epoch, do not come.

    Raises :class:`JobError` where there are too few row groups for every reader to have a batch at each
    step.
    """

    def __init__(
        self,
        groups: Sequence[range],
        *,
        readers: int,
        batch_size: int,
        window: int = 1,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        for name, value, least in (
            ("the number of readers", readers, 1),
            ("batch_size", batch_size, 1),
            ("window", window, 1),
            ("seed", seed, 0),
        ):
            if value < least:
                raise JobError(f"expected {name} to be at least {least}, found {value}")
        self._groups, self._readers, self._seed = groups, readers, seed
        self._sizes = np.array([len(group) for group in groups], np.int64)
        self._batch_size, self._window, self._drop_last = batch_size, window, drop_last
        loads = [int(self._sizes[dealt].sum()) for dealt in self._deal(0)]
        self.steps = min(loads) // batch_size if drop_last else -(-max(loads) // batch_size)
        if not 0 < self.steps <= min(loads):
            raise JobError(
                f"expected row groups enough for {readers} readers (ranks times workers) in batches of {batch_size}, "
                f"found {len(groups)} of {self._sizes.sum()} items; take fewer workers, another batch_size, or "
                "torch's own samplers"
            )

    def batches(self, epoch: int, reader: int) -> Iterator[np.ndarray]:
        """A reader's batches of an epoch: ``steps`` arrays of indices, int64."""
        draw = np.random.default_rng([self._seed, epoch, reader + 1])
        own = draw.permutation(self._deal(epoch)[reader])
        total = self.steps * self._batch_size if self._drop_last else int(self._sizes[own].sum())
        size, larger = divmod(total, self.steps)
        windows = (self._items(own[at : at + self._window]) for at in range(0, len(own), self._window))
        waiting = np.empty(0, np.int64)
        for step in range(self.steps):
            wanted = size + (step < larger)
            while len(waiting) < wanted:
                waiting = np.concatenate([waiting, draw.permutation(next(windows))])
            yield waiting[:wanted]
            waiting = waiting[wanted:]

    def _items(self, groups: np.ndarray) -> np.ndarray:
        return np.concatenate([np.arange(g.start, g.stop) for g in map(self._groups.__getitem__, groups)])

    def _deal(self, epoch: int) -> list[np.ndarray]:
        """Numbers of the row groups of each reader."""
        shuffled = np.random.default_rng([self._seed, epoch]).permutation(len(self._groups))
        dealt: list[list[int]] = [[] for _ in range(self._readers)]
        loads = [(0, reader) for reader in range(self._readers)]
        for group in shuffled[np.argsort(-self._sizes[shuffled], kind="stable")]:
            load, reader = loads[0]
            dealt[reader].append(int(group))
            heapq.heapreplace(loads, (load + int(self._sizes[group]), reader))
        return [np.array(groups, np.int64) for groups in dealt]
