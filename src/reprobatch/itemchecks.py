"""What is looked at before items are pinned: names of columns, what is declared of them, and their values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reprobatch import seeds
from reprobatch.errors import JobError, suggestion
from reprobatch.inputs import KINDS
from reprobatch.jobitems import RESERVED_ARGUMENTS, RESERVED_COLUMNS, Items
from reprobatch.tables import Table


def check_columns(items: Items, columns: dict[str, str]) -> None:
    """Names, and what is declared of columns. Raises :class:`JobError`."""
    for name in columns:
        if name in RESERVED_COLUMNS:
            raise JobError(f"column '{name}' of the items: the dataset has a column of that name itself; rename it")
        declared = {"image": items.images, "tensor": items.tensors}
        if columns[name] in declared and name not in declared[columns[name]]:
            found, key = ("binary", "images") if columns[name] == "image" else ("lists of numbers", "tensors")
            raise JobError(
                f"column '{name}' of the items: expected text, numbers or booleans, found {found}; leave the column "
                f"out or name it in items.{key}"
            )
        if name in items.metadata:
            continue
        if name in RESERVED_ARGUMENTS:
            raise JobError(f"column '{name}' of the items cannot be a call argument: {RESERVED_ARGUMENTS[name]}")
        if not name.isidentifier():
            raise JobError(f"column '{name}' of the items cannot be a call argument; name it in items.metadata")
    _check_declared(items, columns)
    for key, names in (
        ("metadata", items.metadata),
        ("batched", items.batched),
        ("images", items.images),
        ("tensors", items.tensors),
    ):
        for name in names:
            if name not in columns:
                hint = suggestion(name, columns) or f" (columns: {', '.join(columns) or 'none'})"
                raise JobError(f"items.{key} names '{name}', which is no column of the items{hint}")
            if name == "seed":
                raise JobError(f"items.{key} names 'seed', but that column is what seeds an item; rename the column")


def _check_declared(items: Items, columns: dict[str, str]) -> None:
    """That images and tensors are declared of columns which can hold them."""
    wanted = {"images": ("image", "string"), "tensors": ("tensor",)}
    for key, names in (("images", items.images), ("tensors", items.tensors)):
        for name in names:
            if name in columns and (columns[name] not in wanted[key] or name in items.grid):
                raise JobError(f"items.{key} names '{name}', which holds {columns[name]}; name a column of {key}")
    if any(columns.get(name) == "string" for name in items.images) and items.image_root is None:
        raise JobError("items.images names a column of paths; give the folder that they start from, items.image_root")


def check_values(table: Table, columns: dict[str, str], batched: list[str], metadata: list[str]) -> None:
    """That there is a value where one is needed, and no number that is not finite. Raises :class:`JobError`."""
    needed = [c for c in table.columns if (c in batched or columns[c] in KINDS) and c not in metadata]
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
        seeds.validate(seed_column(table))


def seed_column(table: Table) -> np.ndarray:
    """The seeds that items bring, int64. Raises :class:`JobError` for other types and missing values."""
    if table.columns["seed"] != "int64":
        raise JobError(
            f"column 'seed' of the items: expected whole numbers of at most 64 bits, found {table.columns['seed']}"
        )
    values = pa.chunked_array([chunk for part in table.scan(["seed"]) for chunk in part["seed"].chunks], pa.int64())
    if values.null_count:
        row = _first(pc.is_null(values))
        raise JobError(f"column 'seed' of the items: row {row} (from 0) has no value; give every row one")
    return np.asarray(values.to_numpy(), np.int64)


def _first(mask: pa.ChunkedArray) -> int:
    return int(pc.index(mask, True).as_py())
