"""A dataset's items as a report shows them, damaged and missing ones among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from reprobatch.dataset import Dataset
from reprobatch.errors import DataError
from reprobatch.record import Row
from reprobatch.shardfile import DAMAGED, one_line
from reprobatch.store import shard_name

State = Literal["sound", "checksum", "missing", "unreadable"]
STATES: tuple[State, ...] = ("sound", "checksum", "missing", "unreadable")


@dataclass(frozen=True)
class Entry:
    """An item: its row where there is one, and ``why`` it is not sound.

    *checksum*: its bytes do not give the checksum beside them; *missing*: its shard is not there; *unreadable*: its
    shard is damaged at that place.
    """

    index: int
    state: State
    row: Row | None = None
    why: str | None = None


def entries(dataset: Dataset, stop: int) -> Iterator[Entry]:
    """Items 0 … ``stop - 1`` in order, a row group held at a time; what cannot be read is an entry too."""
    for shard in range(dataset.plan.shards):
        span = dataset.plan.shard(shard)
        if span.start >= stop:
            return
        yield from _shard(dataset, shard, range(span.start, min(span.stop, stop)))


def _shard(dataset: Dataset, shard: int, span: range) -> Iterator[Entry]:
    if not dataset.store.exists(shard_name(shard)):
        yield from (Entry(at, "missing", why=f"{shard_name(shard)} is not there") for at in span)
        return
    at = span.start
    try:
        with dataset.file(shard) as file:
            for group, size in enumerate(file.sizes):
                stop = min(at + size, span.stop)
                try:
                    rows = dataset.rows(file, shard, group)
                    yield from _group(rows, range(at, stop))
                except DataError as error:
                    yield from (Entry(i, "unreadable", why=str(error)) for i in range(at, stop))
                at = stop
        why = f"{shard_name(shard)} has no more rows"
    except DataError as error:
        why = str(error)
    except DAMAGED as error:
        why = f"{shard_name(shard)}: {one_line(error)}"
    yield from (Entry(i, "unreadable", why=why) for i in range(at, span.stop))


def _group(rows: list[Row], span: range) -> list[Entry]:
    found = [row.index for row in rows[: len(span)]]
    if found != list(span):
        raise DataError(f"expected items {span.start} … {span.stop - 1} here, found others")
    return [_entry(row) for row in rows[: len(span)]]


def _entry(row: Row) -> Entry:
    computed = row.checksum
    if computed == row.stored:
        return Entry(row.index, "sound", row)
    return Entry(row.index, "checksum", row, f"stored {row.stored}, its bytes give {computed}")
