"""A dataset for ``torch.utils.data``: items as tensors, and a sampler that reads each row group once.

>>> from torch.utils.data import DataLoader                                # doctest: +SKIP
>>> dataset = TorchDataset("digits")                                       # doctest: +SKIP
>>> sampler = ShardSampler(dataset, batch_size=32, workers=2)              # doctest: +SKIP
>>> loader = DataLoader(dataset, batch_sampler=sampler, num_workers=2)     # doctest: +SKIP
"""

from __future__ import annotations

import itertools
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch.distributed
import torch.utils.data

from reprobatch.dataset import Dataset
from reprobatch.epoch import Order
from reprobatch.errors import DataError, JobError
from reprobatch.pipeline import to_tensor
from reprobatch.record import Output, columns_of
from reprobatch.store import is_url, shard_name


class TorchDataset(torch.utils.data.Dataset[Any]):
    """A dataset's items by index, for a ``DataLoader``.

    An item is a dictionary: ``index`` and ``seed`` (int), its own columns (str, int, float, bool, or
    ``None`` where it has no value), and the output under its column's name, ``latents`` or ``pixels``,
    as a tensor of its own dtype (bfloat16 too) and shape that owns its memory. ``transform`` is called
    with that dictionary, and what it returns is the item. torch's default collation stacks outputs of
    one shape, and refuses ``None``: a transform can leave such columns out.

    Parameters
    ----------
    root
        Where the dataset is: a path or a URL.
    transform
        Any callable; one that can be pickled where workers are spawned.
    held
        Row groups, of about 4 MB each, that a process keeps in memory.

    Nothing stays open between two reads, and each process opens the dataset for itself, so instances can
    be pickled, and forked too where the dataset is in a folder: the client of an object store does not
    survive a fork, and workers are to be spawned (``multiprocessing_context``). Raises :class:`JobError`
    where there is no dataset, and in a forked worker of a bucket; reading raises ``IndexError`` for an
    index out of range and :class:`DataError` where a shard is missing or damaged.
    """

    def __init__(
        self, root: Path | str, transform: Callable[[dict[str, Any]], Any] | None = None, *, held: int = 4
    ) -> None:
        if held < 1:
            raise JobError(f"expected held, the row groups kept in memory, to be at least 1, found {held}")
        dataset = Dataset(root)
        self.transform, self.held, self._address = transform, held, dataset.store.address
        self._starts: dict[int, list[int]] = {}
        self._tables: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._opened: tuple[int, Dataset] | None = (os.getpid(), dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": OrderedDict(), "_opened": None}

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Items in the order asked for; each row group they lie in is read once, or not where it is held."""
        wanted = [self._normal(index) for index in indices]
        places: dict[tuple[int, int], list[int]] = {}
        for at, index in enumerate(wanted):
            places.setdefault(self._place(index), []).append(at)
        found: dict[int, Any] = {}
        for place, positions in places.items():
            table = self._table(*place)
            for at in positions:
                item = self._item(table, wanted[at], *place)
                found[at] = item if self.transform is None else self.transform(item)
        return [found[at] for at in range(len(wanted))]

    def row_groups(self) -> list[range]:
        """The index range of every row group, in index order; reads the footer of every shard once."""
        shards = range(self._dataset.plan.shards)
        with ThreadPoolExecutor() as pool:
            layout = list(pool.map(self._layout, shards))
        return [range(a, b) for starts in layout for a, b in itertools.pairwise(starts)]

    @property
    def _dataset(self) -> Dataset:
        if self._opened is None or self._opened[0] != os.getpid():
            if self._opened is not None and is_url(self._address):
                raise JobError(
                    f"expected a process that was not forked, to read '{self._address}': the client of an object store "
                    "stops answering in one; give the DataLoader multiprocessing_context='forkserver' or 'spawn'"
                )
            self._opened = (os.getpid(), Dataset(self._address))
        return self._opened[1]

    def _normal(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index within 0 … {len(self) - 1}, found {index}")
        return int(index) % len(self)

    def _place(self, index: int) -> tuple[int, int]:
        shard = self._dataset.plan.shard_of(index)
        return shard, bisect_right(self._layout(shard), index) - 1

    def _layout(self, shard: int) -> list[int]:
        """The first index of each row group of a shard, and one past its last."""
        if shard not in self._starts:
            span = self._dataset.plan.shard(shard)
            starts = [span.start]
            for size in _sizes(self._dataset, shard):
                starts.append(starts[-1] + size)
            if starts[-1] != span.stop:
                raise DataError(f"{shard_name(shard)}: expected {len(span)} rows, found {starts[-1] - span.start}")
            self._starts[shard] = starts
        return self._starts[shard]

    def _table(self, shard: int, group: int) -> pa.Table:
        table = self._tables.pop((shard, group), None)
        if table is None:
            table = _read(self._dataset, shard, group).drop_columns(["batch", "slot", "checksum"])
        self._tables[shard, group] = table
        while len(self._tables) > self.held:
            self._tables.popitem(last=False)
        return table

    def _item(self, table: pa.Table, index: int, shard: int, group: int) -> dict[str, Any]:
        at = index - self._layout(shard)[group]
        row = {name: table.column(name)[at].as_py() for name in table.column_names}
        if row["index"] != index:
            raise DataError(f"{shard_name(shard)}: expected item {index} in row group {group}, found {row['index']}")
        job = self._dataset.job
        for dtype, shape, data in [("dtype", "shape", job.column), *map(columns_of, job.also)]:
            row[data] = to_tensor(Output(row.pop(dtype), tuple(row.pop(shape)), row[data]))
        return row


class ShardSampler(torch.utils.data.Sampler[list[int]]):
    """Batches for a ``DataLoader``'s ``batch_sampler``, by which each row group is read once in an epoch.

    Row groups are shuffled over the whole dataset and dealt to the ranks' workers, each to one worker of
    one rank; there the items of ``dataset.held`` row groups at a time are shuffled together. The order
    follows from ``seed`` and epoch: call :meth:`set_epoch` before each, as with torch's
    ``DistributedSampler``.

    Every rank has the same number of batches (``len``), the same in every epoch. Where torch's
    ``DistributedSampler`` repeats items to make ranks even, here every item comes exactly once, and
    batches hold fewer than ``batch_size`` items where a worker's row groups hold fewer than another's.
    With ``drop_last`` every batch is full, and the items left over, others in each epoch, do not come;
    as whole row groups are dealt, that can be more than torch's would drop.

    Parameters
    ----------
    dataset
        A complete dataset: the footer of every shard is read once.
    batch_size
        The most items of a batch.
    seed
        Equal on all ranks.
    rank, world_size
        Those of ``torch.distributed`` where it is initialised, else 0 and 1.
    workers
        What ``num_workers`` is for the ``DataLoader``. With another number there every item still comes
        once, and row groups are read more often than that.

    Raises :class:`JobError` for arguments out of range, and where the dataset has too few row groups for
    so many ranks and workers.
    """

    def __init__(
        self,
        dataset: TorchDataset,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        workers: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.rank, self.world_size = _place_of(rank, world_size)
        if workers < 0:
            raise JobError(f"expected workers to be num_workers of the DataLoader, found {workers}")
        self.epoch, self._lanes = 0, max(1, workers)
        self._order = Order(
            dataset.row_groups(),
            readers=self.world_size * self._lanes,
            batch_size=batch_size,
            window=dataset.held,
            seed=seed,
            drop_last=drop_last,
        )

    def __len__(self) -> int:
        return self._order.steps * self._lanes

    def __iter__(self) -> Iterator[list[int]]:
        first = self.rank * self._lanes
        readers = [self._order.batches(self.epoch, first + lane) for lane in range(self._lanes)]
        for step in zip(*readers, strict=True):  # a DataLoader gives its workers batches in turn
            for batch in step:
                yield batch.tolist()

    def set_epoch(self, epoch: int) -> None:
        """Take another order, that of this epoch (not negative), from the next iteration on."""
        if epoch < 0:
            raise JobError(f"expected an epoch of 0 or more, found {epoch}")
        self.epoch = epoch


def _place_of(rank: int | None, world_size: int | None) -> tuple[int, int]:
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    if world_size is None:
        world_size = torch.distributed.get_world_size() if together else 1
    if rank is None:
        rank = torch.distributed.get_rank() if together else 0
    if not 0 <= rank < world_size:
        raise JobError(f"expected a rank within 0 … {world_size - 1}, found {rank}")
    return rank, world_size


def _sizes(dataset: Dataset, shard: int) -> list[int]:
    """Rows of each row group of a shard."""
    with dataset.file(shard) as file:
        return file.sizes


def _read(dataset: Dataset, shard: int, group: int) -> pa.Table:
    """A row group, whole: what is not needed of it is little, and a store gives it in one request."""
    with dataset.file(shard) as file:
        return file.table(group)
