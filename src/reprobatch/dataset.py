"""A dataset, opened: its job, its manifest, and any of its rows.

A row is found by arithmetic: index to shard by division, shard to row group by the footer, and one
row group is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reprobatch import store as names
from reprobatch.errors import DataError, JobError
from reprobatch.job import ResolvedJob
from reprobatch.plan import Plan
from reprobatch.record import FORMAT, Output, Row, rows_of
from reprobatch.store import Store, shard_name


@dataclass(frozen=True)
class Footer:
    """What a shard's footer says of it; ``environment`` only in a dataset of many."""

    job: str
    shard: int
    seeds: str
    compact: str
    rows: int
    environment: str | None = None


class Dataset:
    """A folder that ``reprobatch run`` wrote; ``len``, ``[index]`` and ``regenerate(index)``.

    Raises :class:`JobError` where the folder is no dataset.
    """

    def __init__(self, root: Path | str) -> None:
        self.store = Store(root)
        if not self.store.exists(names.JOB):
            raise JobError(f"expected a dataset with a {names.JOB}, found none in '{root}'; check the path")
        self.job = ResolvedJob.from_json(self.store.get(names.JOB).decode(), f"{root}/{names.JOB}")

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """``manifest.json``, empty where the run has not come so far."""
        try:
            found = json.loads(self.store.get(names.MANIFEST))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DataError(f"{names.MANIFEST}: expected JSON, found {error}") from None
        if not isinstance(found, dict):
            raise DataError(f"{names.MANIFEST}: expected a JSON object, found {type(found).__name__}")
        return found

    @property
    def plan(self) -> Plan:
        """Items to shards. Breaks are left out: a row names its own batch and slot."""
        return Plan(self.job.items.count, self.job.batch_size, self.job.shard_size)

    def __len__(self) -> int:
        return self.job.items.count

    def __getitem__(self, index: int) -> Record:
        row, _ = self.look_up(index + len(self) if -len(self) <= index < 0 else index)
        return Record(row)

    def __iter__(self) -> Iterator[Record]:
        for shard in range(self.plan.shards):
            for group in self.groups(shard):
                yield from (Record(row) for row in group)

    def regenerate(self, index: int, *, alone: bool = False, model: str | None = None) -> Any:
        """Make an item again in this process; see :func:`reprobatch.regenerate.regenerate`."""
        from reprobatch.regenerate import regenerate

        return regenerate(self, index, alone=alone, model=model)

    def look_up(self, index: int) -> tuple[Row, list[Row]]:
        """An item's row, and those of its whole batch, from one row group.

        Raises :class:`JobError` for an index out of range and :class:`DataError` where its shard is
        not there or cannot be read.
        """
        if not 0 <= index < len(self):
            raise JobError(f"expected an index within 0 … {len(self) - 1}, found {index}")
        shard = index // self.job.shard_size
        with self._file(shard) as file:
            group = _group_of(file, index - shard * self.job.shard_size)
            rows = self._rows(file, shard, group)
        found = next((row for row in rows if row.index == index), None)
        if found is None:
            raise DataError(f"{shard_name(shard)}: expected item {index} in row group {group}, found it missing")
        return found, [row for row in rows if row.batch == found.batch]

    def groups(self, shard: int) -> Iterator[list[Row]]:
        """The rows of a shard, a row group at a time."""
        with self._file(shard) as file:
            for group in range(file.num_row_groups):
                yield self._rows(file, shard, group)

    def footer(self, shard: int) -> Footer:
        """What a shard's footer says. Raises :class:`DataError` where it is damaged or foreign."""
        with self._file(shard) as file:
            return read_footer(file, shard_name(shard))

    def checksums(self, shard: int) -> list[str]:
        """The stored checksums of a shard, in index order; reads that column and no other.

        Raises :class:`DataError` where the shard is not there or cannot be read.
        """
        with self._file(shard) as file:
            try:
                found: list[str] = file.read(columns=["checksum"])["checksum"].to_pylist()
            except (OSError, pa.ArrowException, KeyError, ValueError) as error:
                raise DataError(f"{shard_name(shard)}: the checksums are damaged ({_line(error)})") from None
        return found

    def _file(self, shard: int) -> pq.ParquetFile:
        name = shard_name(shard)
        try:
            return pq.ParquetFile(self.store.path(name), page_checksum_verification=True)
        except FileNotFoundError:
            raise DataError(f"{name}: expected this shard, found none; 'reprobatch run' makes it") from None
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{name}: expected a Parquet file, found damage ({_line(error)})") from None

    def _rows(self, file: pq.ParquetFile, shard: int, group: int) -> list[Row]:
        try:
            table = file.read_row_group(group)
            return rows_of(table, self.job.items.columns, self.job.column)
        except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
            raise DataError(f"{shard_name(shard)}: row group {group} is damaged ({_line(error)})") from None


class Record:
    """One item as users see it."""

    def __init__(self, row: Row) -> None:
        self.row = row

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "row":
            raise AttributeError(name)
        if name in self.row.item:
            return self.row.item[name]
        return getattr(self.row, name)

    def __repr__(self) -> str:
        return f"Record(index={self.index}, seed={self.seed}, shape={list(self.shape)}, checksum={self.checksum[:12]}…)"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.row.output.shape

    @property
    def dtype(self) -> str:
        """Name of the output's dtype."""
        return self.row.output.dtype

    @property
    def array(self) -> Any:
        """The output as a read-only numpy array; bfloat16 as float32, exactly."""
        return self.row.output.numpy()

    @property
    def tensor(self) -> Any:
        """The output as a torch tensor of its own dtype; loads torch."""
        from reprobatch.pipeline import to_tensor

        return to_tensor(self.row.output)

    @property
    def latents(self) -> Any:
        """The output as a numpy array, whatever its column is called."""
        return self.array

    @property
    def output(self) -> Output:
        """dtype, shape and bytes."""
        return self.row.output


def open_dataset(root: Path | str) -> Dataset:
    """Open a dataset folder; published as ``reprobatch.open``."""
    return Dataset(root)


def read_footer(file: pq.ParquetFile, name: str) -> Footer:
    """The footer's own entries. Raises :class:`DataError` where the file is not one of ours."""
    entries = {k.decode(): v.decode() for k, v in (file.metadata.metadata or {}).items() if k != b"ARROW:schema"}
    try:
        if entries["reprobatch.format"] != FORMAT:
            raise DataError(f"{name}: expected format {FORMAT}, found {entries['reprobatch.format']}")
        return Footer(
            entries["reprobatch.job"],
            int(entries["reprobatch.shard"]),
            entries["reprobatch.seeds"],
            entries["reprobatch.merkle"],
            file.metadata.num_rows,
            entries.get("reprobatch.environment"),
        )
    except (KeyError, ValueError) as error:
        raise DataError(f"{name}: expected reprobatch's footer entries, found none or damaged ({error})") from None


def _group_of(file: pq.ParquetFile, offset: int) -> int:
    for group in range(file.num_row_groups):
        offset -= file.metadata.row_group(group).num_rows
        if offset < 0:
            return group
    raise DataError("expected more rows in the shard than its footer counts")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
