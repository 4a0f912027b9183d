"""Where items come from: prompt files, repetition, grids; read by index range.

Item ``index`` is made of a grid setting (slowest), a row of the file, and a repetition (fastest)::

    index = (setting * rows + row) * repeat + repetition

so a setting's items lie together and fill whole batches.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reprobatch import seeds
from reprobatch.errors import JobError, suggestion
from reprobatch.job import (
    MAX_ITEMS,
    RESERVED_ARGUMENTS,
    RESERVED_COLUMNS,
    GridAxis,
    Items,
    ItemSource,
    ResolvedItems,
)
from reprobatch.tables import TYPES, Table, format_of, open_table

__all__ = [
    "TYPES",
    "ItemReader",
    "find",
    "is_batched_name",
    "repeated_seeds",
    "resolve",
    "splitting_columns",
]

_BATCHED = re.compile(r"(negative_)?prompt(_\d+)?|class_labels")
_TEXT = re.compile(r"(negative_)?prompt(_\d+)?")


class ItemReader:
    """The items of a resolved job, read by index range.

    ``path`` is where the item file lies on this machine; its bytes must be those the job was
    resolved with (:class:`JobError` otherwise).
    """

    def __init__(self, items: ResolvedItems, path: Path | None) -> None:
        self.items = items
        self._table: Table | None = None
        if items.source is not None:
            if path is None:
                raise JobError(f"expected the item file '{items.source.name}', found no path to it")
            _check_source(items.source, path)
            self._table = _open(path)
        self._grid = _Grid(items.grid, items.columns)
        self._rows = items.source.rows if items.source else items.count // (items.repeat * self._grid.size)

    def read(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Items ``start`` … ``stop - 1`` as dictionaries of their columns, in index order."""
        if not 0 <= start <= stop <= self.items.count:
            raise JobError(f"expected an index range within 0 … {self.items.count}, found {start} … {stop}")
        found: list[dict[str, Any]] = []
        per_setting = self._rows * self.items.repeat
        while start < stop:
            setting, inside = divmod(start, per_setting)
            end = min(stop, (setting + 1) * per_setting)
            found += self._within(inside, inside + end - start, self._grid.setting(setting))
            start = end
        return found

    def breaks(self) -> np.ndarray:
        """Indices (int64, ascending) at which an argument that splits batches changes its value."""
        splitting = splitting_columns(self.items)
        of_rows = [c for c in splitting if c not in self._grid.names]
        per_setting = self._rows * self.items.repeat
        inner, wraps = self._row_breaks(of_rows)
        settings = np.arange(self._grid.size, dtype=np.int64) if wraps or len(inner) else np.empty(0, np.int64)
        changed = settings[1:] if wraps else self._grid.changes(splitting)
        inside = settings[:, None] * per_setting + inner * self.items.repeat
        return np.union1d(inside.ravel(), changed * per_setting)

    def largest(self, column: str) -> Any:
        """The largest value of a column of numbers."""
        if column in self._grid.names:
            return max(self._grid.setting(number)[column] for number in range(self._grid.size))
        assert self._table is not None
        return max(pc.max(part[column]).as_py() for part in self._table.scan([column]))

    def _within(self, start: int, stop: int, setting: dict[str, Any]) -> list[dict[str, Any]]:
        repeat = self.items.repeat
        if self._table is None:
            return [dict(setting) for _ in range(stop - start)]
        first = start // repeat
        rows = self._table.read(first, -(-stop // repeat)).to_pylist()
        return [{**rows[i // repeat - first], **setting} for i in range(start, stop)]

    def _row_breaks(self, columns: list[str]) -> tuple[np.ndarray, bool]:
        """Rows that differ from the one before, and whether the first differs from the last."""
        found: list[int] = []
        first: tuple[Any, ...] | None = None
        previous: tuple[Any, ...] | None = None
        at = 0
        for part in self._table.scan(columns) if self._table is not None and columns else ():
            for values in zip(*(column.to_pylist() for column in part.columns), strict=True):
                if previous is None:
                    first = values
                elif values != previous:
                    found.append(at)
                previous = values
                at += 1
        return np.array(found, np.int64), first != previous


class _Grid:
    """The settings of a grid, by number: a mixed-radix number whose first axis is its first digit."""

    def __init__(self, axes: Sequence[GridAxis], columns: dict[str, str]) -> None:
        self.names = {axis.name for axis in axes}
        self.size = math.prod(len(axis.values) for axis in axes)
        self._axes: list[tuple[str, list[Any], int]] = []
        stride = self.size
        for axis in axes:
            stride //= len(axis.values)
            # as the dataset's column will hold them, so that a row gives back what was called
            values = [float(v) for v in axis.values] if columns[axis.name] == "double" else axis.values  # type: ignore[arg-type]
            self._axes.append((axis.name, list(values), stride))

    def setting(self, number: int) -> dict[str, Any]:
        """The arguments of a setting."""
        return {name: values[number // stride % len(values)] for name, values, stride in self._axes}

    def changes(self, names: Sequence[str]) -> np.ndarray:
        """Settings at which one of these arguments differs from the setting before, ascending."""
        found = [np.empty(0, np.int64)]
        for name, values, stride in self._axes:
            if name in names:  # its digit moves at multiples of its stride, and nowhere else
                firsts: dict[Any, int] = {}
                same = np.array([firsts.setdefault(value, len(firsts)) for value in values])
                digits = same[np.arange(self.size // stride) % len(values)]
                found.append((np.flatnonzero(np.diff(digits)) + 1) * stride)
        return np.unique(np.concatenate(found))


def resolve(items: Items, path: Path | None) -> ResolvedItems:
    """Pin a job's items: rows, columns and types, number, and the file's SHA-256.

    Raises :class:`JobError` for files of unknown format, empty ones, columns whose names the dataset
    needs itself, values that are missing or not finite, seeds out of range, and more than 2**32 items.
    """
    table = None if path is None else _open(path)
    rows = items.count or 0 if table is None else table.rows
    columns = {} if table is None else dict(table.columns)
    columns |= _grid_columns(items.grid, columns)
    _check_columns(items, columns)
    count = rows * items.repeat * math.prod(len(values) for values in items.grid.values())
    if count > MAX_ITEMS:
        raise JobError(
            f"expected at most 2**32 = {MAX_ITEMS} items, found {count}: torch's CPU generator uses 32 bits of a "
            "seed, so further items would share their noise; make several jobs with different master seeds"
        )
    batched = sorted({c for c in columns if is_batched_name(c)} | set(items.batched))
    if table is not None:
        _check_values(table, batched, items.metadata)
    return ResolvedItems(
        source=None if path is None or table is None else _source(path, table),
        count=count,
        repeat=items.repeat,
        grid=[GridAxis(name=name, values=values) for name, values in items.grid.items()],
        columns=dict(sorted(columns.items())),  # the order that job.json will have
        batched=batched,
        metadata=sorted(set(items.metadata)),
    )


def repeated_seeds(path: Path) -> list[tuple[int, int]]:
    """Pairs of rows whose ``seed`` column holds the same seed, at most ten."""
    table = _open(path)
    return seeds.repeated(_seed_column(table)) if "seed" in table.columns else []


def find(name: str, beside: Path) -> Path:
    """The item file a job names: from the working directory, else beside the job file or its folder."""
    try:
        for candidate in (Path(name).expanduser(), beside / name, beside.parent / name):
            if candidate.is_file():
                return candidate
    except (OSError, RuntimeError) as error:  # a name too long, or a ~user that is not known
        raise JobError(f"items.prompts: '{name}' cannot be a path: {error}") from None
    raise JobError(f"items.prompts: no file '{name}' in the working directory or beside the job file; check the path")


def is_batched_name(name: str) -> bool:
    """Whether diffusers pipelines take an argument of this name as a list with a value an item."""
    return bool(_BATCHED.fullmatch(name))


def splitting_columns(items: ResolvedItems) -> list[str]:
    """Columns whose values are one for a whole pipeline call: a change of them begins a new batch."""
    return [c for c in items.columns if c not in {*items.batched, *items.metadata, "seed"}]


def _open(path: Path) -> Table:
    return open_table(path, lambda name: bool(_TEXT.fullmatch(name)))


def _grid_columns(grid: dict[str, list[Any]], columns: dict[str, str]) -> dict[str, str]:
    for name in grid:
        if name in columns:
            raise JobError(f"items.grid.{name}: the item file has a column of that name; keep one of them")
    kinds = {bool: "bool", str: "string"}
    return {
        name: kinds.get(type(values[0]), "int64" if all(type(v) is int for v in values) else "double")
        for name, values in grid.items()
    }


def _check_columns(items: Items, columns: dict[str, str]) -> None:
    for name in columns:
        if name in RESERVED_COLUMNS:
            raise JobError(f"column '{name}' of the items: the dataset has a column of that name itself; rename it")
        if name in items.metadata:
            continue
        if name in RESERVED_ARGUMENTS:
            raise JobError(f"column '{name}' of the items cannot be a call argument: {RESERVED_ARGUMENTS[name]}")
        if not name.isidentifier():
            raise JobError(f"column '{name}' of the items cannot be a call argument; name it in items.metadata")
    for key, names in (("metadata", items.metadata), ("batched", items.batched)):
        for name in names:
            if name not in columns:
                hint = suggestion(name, columns) or f" (columns: {', '.join(columns) or 'none'})"
                raise JobError(f"items.{key} names '{name}', which is no column of the items{hint}")
            if name == "seed":
                raise JobError(f"items.{key} names 'seed', but that column is what seeds an item; rename the column")


def _check_values(table: Table, batched: list[str], metadata: list[str]) -> None:
    needed = [c for c in table.columns if c in batched and c not in metadata]
    numbers = [c for c, kind in table.columns.items() if kind == "double" and c not in metadata]
    at = 0
    for part in table.scan(list(table.columns)):  # all of them: a damaged file is said before anything runs
        for name in needed:
            if part[name].null_count:
                row = at + _first(pc.is_null(part[name]))
                raise JobError(f"column '{name}' of the items: row {row} (from 0) has no value; give every row one")
        for name in numbers:
            odd = pc.invert(pc.is_finite(part[name]))
            if pc.any(odd).as_py():
                row = _first(odd)
                found = part[name][row]
                raise JobError(
                    f"column '{name}' of the items: expected finite numbers, found {found} in row {at + row}"
                )
        at += part.num_rows
    if "seed" in table.columns:
        seeds.validate(_seed_column(table))


def _first(mask: pa.ChunkedArray) -> int:
    return int(pc.index(mask, True).as_py())


def _seed_column(table: Table) -> np.ndarray:
    if table.columns["seed"] != "int64":
        raise JobError(
            f"column 'seed' of the items: expected whole numbers of at most 64 bits, found {table.columns['seed']}"
        )
    values = pa.chunked_array([chunk for part in table.scan(["seed"]) for chunk in part["seed"].chunks], pa.int64())
    if values.null_count:
        row = _first(pc.is_null(values))
        raise JobError(f"column 'seed' of the items: row {row} (from 0) has no value; give every row one")
    return np.asarray(values.to_numpy(), np.int64)


def _source(path: Path, table: Table) -> ItemSource:
    return ItemSource(name=path.name, format=format_of(path), sha256=_sha256(path), rows=table.rows)


def _check_source(source: ItemSource, path: Path) -> None:
    digest = _sha256(path)
    if digest != source.sha256:
        raise JobError(f"{path}: expected the item file with SHA-256 {source.sha256}, found {digest}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
