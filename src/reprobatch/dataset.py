"""A dataset, opened: its job, its manifest, and any of its rows.

A row is found by arithmetic: index to shard by division, shard to row group by the footer, and one
row group is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from reprobatch import store as names
from reprobatch.contract import Contract
from reprobatch.errors import DataError, JobError, suggested_path
from reprobatch.job import ResolvedJob
from reprobatch.plan import Plan
from reprobatch.record import Output, Row, rows_of
from reprobatch.segments import Segment, read_segments
from reprobatch.shardfile import DAMAGED, Footer, ShardFile, one_line
from reprobatch.store import open_store, shard_name


class Dataset:
    """What ``reprobatch run`` wrote to a folder or bucket; ``len``, ``[index]`` and ``regenerate(index)``.

    ``root`` is a path or a URL. Raises :class:`JobError` where no dataset is there.
    """

    def __init__(self, root: Path | str) -> None:
        self.store = open_store(root)
        if not self.store.exists(names.JOB):
            near = "" if names.is_url(root) else suggested_path(Path(root), is_dataset)
            raise JobError(f"expected a dataset with a {names.JOB}, found none in '{root}'{near}; check the path")
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

    @cached_property
    def places(self) -> dict[str, str]:
        """Where model, attachments and inputs lay on the machine that made it, by name; no part of the dataset."""
        try:
            found = json.loads(self.store.get(f"{names.LOG}/places.json"))["model"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        named = found if isinstance(found, dict) else {"model": found}
        return {str(name): str(path) for name, path in named.items()}

    @cached_property
    def contract(self) -> Contract | None:
        """What was measured of the job before it was made; ``None`` where that is not recorded."""
        recorded = self.manifest.get("contract")
        return Contract.from_dict(recorded) if recorded else None

    def environments(self, index: int | None = None) -> dict[str, dict[str, Any]]:
        """Facts of the environments that may have made item ``index``, or any item, by their canary."""
        manifest = self.manifest
        known: dict[str, dict[str, Any]] = manifest.get("environments", {})
        if known and index is not None:
            made_in = self.footer(self.plan.shard_of(index)).environment
            return {made_in: known[made_in]} if made_in in known else {}
        if known or "canary" not in manifest:
            return known
        return {manifest["canary"]["checksum"]: manifest["environment"]}

    @cached_property
    def segments(self) -> list[Segment]:
        """What the dataset was before it grew, oldest first; empty where it never did."""
        return read_segments(self.manifest, self.job)

    @cached_property
    def plan(self) -> Plan:
        """Items to shards. Breaks are left out: a row names its own batch and slot."""
        starts = (0, *(segment.stop for segment in self.segments))
        return Plan(self.job.items.count, self.job.batch_size, self.job.shard_size, starts=starts)

    def job_digest(self, shard: int) -> str:
        """Digest of the job that a shard was made for: this one, or what it was before it grew."""
        start = self.plan.shard(shard).start
        made_for = next((segment for segment in self.segments if start < segment.stop), None)
        return self.job.digest if made_for is None else made_for.job_digest

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
        shard = self.plan.shard_of(index)
        with self.file(shard) as file:
            group = file.group_of(index - self.plan.shard(shard).start)
            rows = self.rows(file, shard, group)
        found = next((row for row in rows if row.index == index), None)
        if found is None:
            raise DataError(f"{shard_name(shard)}: expected item {index} in row group {group}, found it missing")
        return found, [row for row in rows if row.batch == found.batch]

    def groups(self, shard: int) -> Iterator[list[Row]]:
        """The rows of a shard, a row group at a time."""
        with self.file(shard) as file:
            for group in range(file.groups):
                yield self.rows(file, shard, group)

    def footer(self, shard: int) -> Footer:
        """What a shard's footer says. Raises :class:`DataError` where it is damaged or foreign."""
        with self.file(shard) as file:
            return file.footer()

    def checksums(self, shard: int) -> list[str]:
        """The stored checksums of a shard, in index order; reads that column and no other.

        Raises :class:`DataError` where the shard is not there or cannot be read.
        """
        with self.file(shard) as file:
            return file.column("checksum")

    def file(self, shard: int) -> ShardFile:
        """A shard, opened. Raises :class:`DataError` where it is not there or is no Parquet file."""
        name = shard_name(shard)
        try:
            return ShardFile(self.store.open(name), name)
        except FileNotFoundError:
            raise DataError(f"{name}: expected this shard, found none; 'reprobatch run' makes it") from None

    def rows(self, file: ShardFile, shard: int, group: int) -> list[Row]:
        """The rows of a row group of an opened shard. Raises :class:`DataError` where they are damaged."""
        table = file.table(group)
        try:
            return rows_of(table, self.job.items.columns, self.job.column, self.job.also)
        except DAMAGED as error:
            raise DataError(f"{shard_name(shard)}: row group {group} is damaged ({one_line(error)})") from None


class Record:
    """One item as users see it."""

    def __init__(self, row: Row) -> None:
        self.row = row

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "row":
            raise AttributeError(name)
        if name in self.row.item:
            return self.row.item[name]
        if name in self.row.output.also:
            return self.row.output.also[name].numpy()
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


def is_dataset(folder: Path) -> bool:
    """Whether a folder on this machine is a dataset, or has begun to be one."""
    return (folder / names.JOB).is_file()


def open_dataset(root: Path | str) -> Dataset:
    """Open the dataset at a path or URL; published as ``reprobatch.open``."""
    return Dataset(root)
