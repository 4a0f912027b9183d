"""What an item brings that is too large for a row: pictures and tensors. In the dataset its digest stands for it.

A picture is the bytes of its file, whatever its format; it lies in the item file, or in a file of its own below a
stated root. A tensor is a nested list of numbers in the item file. Loads no torch.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from reprobatch.errors import DataError, JobError
from reprobatch.store import Store, open_store

KINDS = ("image", "tensor")
Root = Path | str
"""Where pictures lie: a folder, or a URL such as ``https://host/pictures`` or ``s3://bucket/pictures``."""


@dataclass(frozen=True)
class Input:
    """One item's picture (its file's bytes) or tensor (little-endian bytes in C order, dtype and shape).

    ``digest`` is SHA-256, hex: of a picture's bytes, and of a tensor as :func:`reprobatch.record.checksum` has it.
    """

    digest: str
    data: bytes
    dtype: str | None = None
    shape: tuple[int, ...] = ()

    def array(self) -> np.ndarray:
        """A tensor's values, read-only."""
        assert self.dtype is not None
        return np.frombuffer(self.data, np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape)


class Inputs:
    """Makes inputs of what an item file holds; ``root`` is the folder, or the URL, of pictures named by paths."""

    def __init__(self, columns: Mapping[str, str], root: Root | None) -> None:
        self.names = [name for name, kind in columns.items() if kind in KINDS]
        self._columns = columns
        self._root = root

    def complete(self, row: int, values: dict[str, Any]) -> dict[str, Any]:
        """A row's values with its inputs in their places. Raises :class:`JobError`, naming row and column."""
        return {**values, **{name: self._input(name, row, values[name]) for name in self.names}}

    def _input(self, name: str, row: int, value: Any) -> Input | None:
        if value is None:
            return None
        where = f"column '{name}' of the items, row {row} (from 0)"
        if self._columns[name] == "tensor":
            return _tensor(where, value)
        data = value if isinstance(value, bytes) else self._read(where, str(value))
        return Input(hashlib.sha256(data).hexdigest(), data)

    def _read(self, where: str, name: str) -> bytes:
        if self._root is None:
            raise JobError(f"{where}: expected a folder for the pictures, found none; give items.image_root")
        if isinstance(self._root, str):
            return _download(where, self._root, name)
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root.resolve()):
            raise JobError(f"{where}: '{name}' lies outside items.image_root; give paths below it")
        try:
            return path.read_bytes()
        except (OSError, ValueError) as error:
            raise JobError(f"{where}: cannot read '{name}': {error}; give a path below items.image_root") from None


def _download(where: str, root: str, name: str) -> bytes:
    if not all(part.strip(".") for part in name.split("/")):  # empty, . or ..
        raise JobError(f"{where}: '{name}' lies outside items.image_root; give paths below it")
    try:
        return _place(root).get(name)
    except FileNotFoundError:
        raise JobError(f"{where}: no '{name}' at '{root}'; give a path below items.image_root") from None


@cache
def _place(root: str) -> Store:
    return open_store(root)


def told(value: Any) -> Any:
    """What a row holds of a value: an input's digest, anything else as it is."""
    return value.digest if isinstance(value, Input) else value


def prove(index: int, stored: Mapping[str, Any], found: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A stored item with its inputs in the place of their digests.

    Raises :class:`DataError` where an input is not the one that the item was made from.
    """
    for name in names:
        if told(found[name]) != stored[name]:
            raise DataError(
                f"item {index}: expected {name} with digest {stored[name]}, found {told(found[name])}; "
                "it changed since the item was made"
            )
    return {**stored, **{name: found[name] for name in names}}


def to_json(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as JSON values; inputs become mappings."""
    return {name: _packed(value) if isinstance(value, Input) else value for name, value in item.items()}


def from_json(item: Mapping[str, Any]) -> dict[str, Any]:
    """Read :func:`to_json` back."""
    return {name: _unpacked(value) if isinstance(value, dict) else value for name, value in item.items()}


def _packed(value: Input) -> dict[str, Any]:
    data = base64.b64encode(value.data).decode()
    return {"digest": value.digest, "data": data, "dtype": value.dtype, "shape": list(value.shape)}


def _unpacked(value: dict[str, Any]) -> Input:
    return Input(value["digest"], base64.b64decode(value["data"]), value["dtype"], tuple(value["shape"]))


def _tensor(where: str, value: Any) -> Input:
    from reprobatch.record import checksum

    try:
        array = np.array(value)
    except ValueError:
        raise JobError(f"{where}: expected lists of equal lengths, found others") from None
    if array.dtype.kind == "i":
        array = array.astype("<i8")
    elif array.dtype.kind == "f" and array.size and np.isfinite(array).all():
        array = array.astype("<f4")
    else:
        raise JobError(f"{where}: expected finite numbers in lists, found something else or nothing")
    data, dtype = array.tobytes(), array.dtype.name
    return Input(checksum(dtype, array.shape, data), data, dtype, array.shape)
