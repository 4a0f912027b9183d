"""A shard, opened: its footer, and its row groups one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reprobatch.errors import DataError
from reprobatch.record import FORMAT, SEVERAL

DAMAGED = (OSError, pa.ArrowException, KeyError, ValueError, TypeError, OverflowError)
"""What pyarrow raises of a file that is not what it was."""


@dataclass(frozen=True)
class Footer:
    """What a shard's footer says of it; ``environment`` only in a dataset of many."""

    job: str
    shard: int
    seeds: str
    compact: str
    rows: int
    environment: str | None = None


class ShardFile:
    """A Parquet file over anything that :meth:`reprobatch.store.Store.open` gives; a context manager.

    Raises :class:`DataError`, with ``name``, where it is no Parquet file or is damaged.
    """

    def __init__(self, source: Any, name: str) -> None:
        self._source, self._name = source, name
        try:
            self._file = pq.ParquetFile(source, page_checksum_verification=True)
        except DAMAGED as error:
            raise DataError(f"{name}: expected a Parquet file, found damage ({one_line(error)})") from None

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._source.close()

    @property
    def schema(self) -> pa.Schema:
        """The file's Arrow schema."""
        return self._file.schema_arrow

    @property
    def groups(self) -> int:
        """How many row groups there are."""
        return int(self._file.num_row_groups)

    @property
    def sizes(self) -> list[int]:
        """How many rows each row group has."""
        return [int(self._file.metadata.row_group(group).num_rows) for group in range(self.groups)]

    def footer(self) -> Footer:
        """The footer's own entries. Raises :class:`DataError` where the file is not one of ours."""
        metadata = self._file.metadata.metadata or {}
        try:
            entries = {k.decode(): v.decode() for k, v in metadata.items() if k != b"ARROW:schema"}
            if entries["reprobatch.format"] not in (FORMAT, SEVERAL):
                expected = f"{FORMAT} or {SEVERAL}"
                raise DataError(f"{self._name}: expected format {expected}, found {entries['reprobatch.format']}")
            return Footer(
                entries["reprobatch.job"],
                int(entries["reprobatch.shard"]),
                entries["reprobatch.seeds"],
                entries["reprobatch.merkle"],
                self._file.metadata.num_rows,
                entries.get("reprobatch.environment"),
            )
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{self._name}: expected reprobatch's footer entries, found none or damaged ({error})"
            ) from None

    def group_of(self, offset: int) -> int:
        """The row group that holds row ``offset``."""
        for group in range(self.groups):
            offset -= self._file.metadata.row_group(group).num_rows
            if offset < 0:
                return group
        raise DataError(f"{self._name}: expected more rows than its footer counts")

    def table(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A row group, or some of its columns. Raises :class:`DataError` where a page is damaged."""
        try:
            if columns is None and hasattr(self._source, "fetch"):
                self._source.fetch(*self._span(group))
            return self._file.read_row_group(group, columns)
        except DAMAGED as error:
            raise DataError(f"{self._name}: row group {group} is damaged ({one_line(error)})") from None

    def column(self, name: str) -> list[Any]:
        """All values of a column, which is read and no other. Raises :class:`DataError` where it is damaged."""
        try:
            return list(self._file.read(columns=[name])[name].to_pylist())
        except DAMAGED as error:
            raise DataError(f"{self._name}: column {name} is damaged ({one_line(error)})") from None

    def _span(self, group: int) -> tuple[int, int]:
        """The bytes of a row group: its columns lie one after the other."""
        row_group = self._file.metadata.row_group(group)
        chunks = [row_group.column(number) for number in range(row_group.num_columns)]
        starts = [
            chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset for chunk in chunks
        ]
        return min(starts), max(s + chunk.total_compressed_size for s, chunk in zip(starts, chunks, strict=True))


def one_line(error: BaseException) -> str:
    """An error's text, as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
