"""Item files as tables: TXT, JSONL, CSV and Parquet, read by row range.

All four give the same rows for the same content. Text files are small and are held; Parquet is read
a row group at a time, so that no process ever holds all of it.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from reprobatch.errors import JobError

FORMATS = {".txt": "txt", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "image": pa.string(),  # in a dataset: their digests
    "tensor": pa.string(),
}
_CHUNK = 65536  # rows of a held table that a scan hands out at once
_BLOCK = 1 << 30  # bytes that arrow parses at once; no row may be longer


class Table(Protocol):
    """Rows of an item file: how many, the columns with their types, and a range of them."""

    rows: int
    columns: dict[str, str]

    def read(self, start: int, stop: int) -> pa.Table:
        """Rows ``start`` … ``stop - 1``."""

    def scan(self, names: list[str]) -> Iterator[pa.Table]:
        """All rows of some columns, in consecutive parts."""


def format_of(path: Path) -> Any:
    """The format that a file's suffix stands for."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise JobError(f"items.prompts: expected a file ending in {', '.join(FORMATS)}, found '{path.name}'")
    return kind


def open_table(path: Path, is_text: Callable[[str], bool]) -> Table:
    """Open an item file. ``is_text`` says which columns of a CSV file are text, whatever they look like.

    Raises :class:`JobError` for files that cannot be read, hold no rows, or have columns of no use.
    """
    readers: dict[str, Callable[[Path], Table]] = {
        "txt": _read_txt,
        "jsonl": _read_jsonl,
        "csv": lambda path: _read_csv(path, is_text),
        "parquet": _ParquetTable,
    }
    kind = format_of(path)
    try:
        table = readers[kind](path)
    except (OSError, pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        raise JobError(f"items.prompts: cannot read '{path.name}' as {kind}: {_line(error)}") from None
    if table.rows == 0 or not table.columns:
        raise JobError(f"items.prompts: '{path.name}' holds no items; give it at least one")
    return table


class _HeldTable:
    """A small table, held in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._table = _sound(table)
        self.rows = table.num_rows
        self.columns = _columns(table.schema)

    def read(self, start: int, stop: int) -> pa.Table:
        return self._table.slice(start, stop - start)

    def scan(self, names: list[str]) -> Iterator[pa.Table]:
        chosen = self._table.select(names)
        for start in range(0, self.rows, _CHUNK):
            yield chosen.slice(start, _CHUNK)


class _ParquetTable:
    """A Parquet file, of which one row group is held at a time."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._file = pq.ParquetFile(path)
        groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *groups])
        self.rows = int(self._starts[-1])
        schema = self._file.schema_arrow
        self.columns = _columns(schema)
        self._types = {name: _read_as(schema.field(name).type, kind) for name, kind in self.columns.items()}
        self._held: tuple[int, pa.Table] | None = None

    def read(self, start: int, stop: int) -> pa.Table:
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        last = int(np.searchsorted(self._starts, stop, "left"))
        parts = []
        for group in range(first, last):
            begin = int(self._starts[group])
            parts.append(self._group(group).slice(max(0, start - begin), stop - max(begin, start)))
        return pa.concat_tables(parts) if parts else self._schema(list(self.columns)).empty_table()

    def scan(self, names: list[str]) -> Iterator[pa.Table]:
        for group in range(len(self._starts) - 1):
            yield self._decoded(group, names)

    def _group(self, group: int) -> pa.Table:
        if self._held is None or self._held[0] != group:
            self._held = None  # before the next one is read, or two would be held
            self._held = (group, self._decoded(group, list(self.columns)))
        return self._held[1]

    def _decoded(self, group: int, names: list[str]) -> pa.Table:
        try:
            table = self._file.read_row_group(group, columns=names).select(names)
            return _flat(_sound(table.cast(self._schema(names))))
        except (OSError, pa.ArrowException) as error:
            raise JobError(f"items.prompts: cannot read row group {group} of '{self._name}': {_line(error)}") from None

    def _schema(self, names: list[str]) -> pa.Schema:
        return pa.schema([(name, self._types[name]) for name in names])


def _read_txt(path: Path) -> _HeldTable:
    # not splitlines(): a prompt may hold a form feed or a line separator of its own
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return _HeldTable(pa.table({"prompt": pa.array([line for line in lines if line.strip()], pa.string())}))


def _read_jsonl(path: Path) -> _HeldTable:
    if not path.read_bytes().strip():
        return _HeldTable(pa.table({}))
    options = pa.json.ReadOptions(block_size=_block(path))
    table = pa.json.read_json(path, options)
    # arrow takes text that looks like a date for one
    dates = [field.name for field in table.schema if pa.types.is_temporal(field.type)]
    if dates:
        text = pa.schema([(name, pa.string()) for name in dates])
        table = pa.json.read_json(path, options, pa.json.ParseOptions(explicit_schema=text)).select(table.column_names)
    return _HeldTable(table)


def _read_csv(path: Path, is_text: Callable[[str], bool]) -> _HeldTable:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next((row for row in csv.reader(file) if row), [])
    _check_twice(header)
    text = {name for name in header if is_text(name)}
    table = _parse_csv(path, text)
    # dates, times and columns without any value are text too
    others = {f.name for f in table.schema if f.type not in TYPES.values()}
    return _HeldTable(_parse_csv(path, text | others) if others else table)


def _parse_csv(path: Path, text: set[str]) -> pa.Table:
    return pa.csv.read_csv(
        path,
        pa.csv.ReadOptions(block_size=_block(path)),
        pa.csv.ParseOptions(newlines_in_values=True),
        pa.csv.ConvertOptions(column_types={name: pa.string() for name in text}, timestamp_parsers=["-"]),
    )


def _sound(table: pa.Table) -> pa.Table:
    table.validate(full=True)  # neither JSON nor Parquet readers see to it that text is UTF-8
    return table


def _block(path: Path) -> int:
    return min(path.stat().st_size + 1, _BLOCK)


def _columns(schema: pa.Schema) -> dict[str, str]:
    _check_twice(schema.names)
    return {field.name: _type_name(field) for field in schema}


def _check_twice(names: list[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise JobError(f"items.prompts: two columns are called '{twice[0]}'; rename one of them")


def _type_name(field: pa.Field) -> str:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind):
        return "int64"
    if pa.types.is_floating(kind):
        return "double"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    if _is_bytes(kind) or (pa.types.is_struct(kind) and any(f.name == "bytes" and _is_bytes(f.type) for f in kind)):
        return "image"  # a struct of bytes and path is how datasets stores pictures
    if _is_numbers(kind):
        return "tensor"
    raise JobError(
        f"column '{field.name}' of the items: expected text, numbers or booleans, found {kind}; "
        "leave the column out or turn it into one of them"
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_numbers(kind: pa.DataType) -> bool:
    """Whether a type is a list of numbers, or of such lists."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    inner = kind.value_type
    return bool(pa.types.is_integer(inner) or pa.types.is_floating(inner)) or _is_numbers(inner)


def _read_as(kind: pa.DataType, name: str) -> pa.DataType:
    """The type that a Parquet column is cast to."""
    if name == "image":
        return kind if pa.types.is_struct(kind) else pa.binary()
    return kind if name == "tensor" else TYPES[name]


def _flat(table: pa.Table) -> pa.Table:
    """Pictures that are structs of bytes and path, as their bytes."""
    for at, field in enumerate(table.schema):
        if pa.types.is_struct(field.type):
            table = table.set_column(at, field.name, pc.struct_field(table.column(at), "bytes"))
    return table


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
