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
import pyarrow.compute as pc

from reprobatch import seeds
from reprobatch.errors import JobError, suggested_path
from reprobatch.inputs import KINDS, Inputs, Root, told
from reprobatch.itemchecks import check_columns, check_values, seed_column
from reprobatch.jobitems import MAX_ITEMS, GridAxis, Items, ItemSource, ResolvedItems
from reprobatch.tables import FORMATS, TYPES, Table, format_of, open_table

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
    resolved with (:class:`JobError` otherwise). ``root`` is where pictures lie that it names by their paths.
    """

    def __init__(self, items: ResolvedItems, path: Path | None, root: Root | None = None) -> None:
        self.items = items
        self._inputs = Inputs(items.columns, root)
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
        rows = [self._inputs.complete(first + at, row) for at, row in enumerate(rows)] if self._inputs.names else rows
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


def resolve(items: Items, path: Path | None, root: Root | None = None) -> ResolvedItems:
    """Pin a job's items: rows, columns and types, number, and the file's SHA-256.

    Raises :class:`JobError` for files of unknown format, empty ones, columns whose names the dataset
    needs itself, values that are missing or not finite, seeds out of range, more than 2**32 items, and pictures
    that cannot be read below ``root``.
    """
    table = None if path is None else _open(path)
    rows = items.count or 0 if table is None else table.rows
    columns = {} if table is None else dict(table.columns)
    columns |= _grid_columns(items.grid, columns)
    check_columns(items, columns)
    count = rows * items.repeat * math.prod(len(values) for values in items.grid.values())
    if count > MAX_ITEMS:
        raise JobError(
            f"expected at most 2**32 = {MAX_ITEMS} items, found {count}: torch's CPU generator uses 32 bits of a "
            "seed, so further items would share their noise; make several jobs with different master seeds"
        )
    by_path = [name for name in items.images if columns[name] == "string"]
    columns |= dict.fromkeys(items.images, "image")
    batched = sorted({c for c, kind in columns.items() if _is_batched(c, kind)} | set(items.batched))
    if table is not None:
        check_values(table, columns, batched, items.metadata)
    return ResolvedItems(
        source=None if path is None or table is None else _source(path, table),
        count=count,
        repeat=items.repeat,
        grid=[GridAxis(name=name, values=values) for name, values in items.grid.items()],
        columns=dict(sorted(columns.items())),  # the order that job.json will have
        batched=batched,
        metadata=sorted(set(items.metadata)),
        pictures=_pictures(table, by_path, root) if table is not None and by_path else None,
    )


def repeated_seeds(path: Path) -> list[tuple[int, int]]:
    """Pairs of rows whose ``seed`` column holds the same seed, at most ten."""
    table = _open(path)
    return seeds.repeated(seed_column(table)) if "seed" in table.columns else []


def find(name: str, beside: Path) -> Path:
    """The item file a job names: from the working directory, else beside the job file or its folder."""
    try:
        for candidate in (Path(name).expanduser(), beside / name, beside.parent / name):
            if candidate.is_file():
                return candidate
    except (OSError, RuntimeError) as error:  # a name too long, or a ~user that is not known
        raise JobError(f"items.prompts: '{name}' cannot be a path: {error}") from None
    near = suggested_path(Path(name), _is_table) or suggested_path(beside / name, _is_table)
    raise JobError(
        f"items.prompts: no file '{name}' in the working directory or beside the job file{near}; check the path"
    )


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in FORMATS


def is_batched_name(name: str) -> bool:
    """Whether diffusers pipelines take an argument of this name as a list with a value an item."""
    return bool(_BATCHED.fullmatch(name))


def _is_batched(name: str, kind: str) -> bool:
    """As :func:`is_batched_name`; also inputs, but for an IP-Adapter's picture, which is one for the whole batch."""
    return is_batched_name(name) or (kind in KINDS and not name.startswith("ip_adapter_"))


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


def _pictures(table: Table, names: list[str], root: Root | None) -> str:
    """One digest over all pictures that are named by paths: over each row's digests, a line each."""
    inputs, hashed, at = Inputs(dict.fromkeys(names, "image"), root), hashlib.sha256(), 0
    for part in table.scan(names):
        for row in part.to_pylist():
            made = inputs.complete(at, row)
            hashed.update(" ".join(str(told(made[name])) for name in names).encode() + b"\n")
            at += 1
    return hashed.hexdigest()


def _source(path: Path, table: Table) -> ItemSource:
    return ItemSource(name=path.name, format=format_of(path), sha256=_sha256(path), rows=table.rows)


def _check_source(source: ItemSource, path: Path) -> None:
    digest = _sha256(path)
    if digest != source.sha256:
        raise JobError(f"{path}: expected the item file with SHA-256 {source.sha256}, found {digest}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
