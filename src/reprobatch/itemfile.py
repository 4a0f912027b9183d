"""One item in a file of its own, as ``regenerate --to`` writes it: which checksum it has, or which pixels.

The files come from anybody. Whatever does not read as exactly one array is refused in one line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reprobatch.errors import JobError
from reprobatch.record import ITEM_SIZE, Output

PICTURE = ".png"
_DTYPES = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F64": "float64",
    "U8": "uint8",
    "I16": "int16",
}


def read(path: Path) -> Output:
    """The array in a ``.npy`` or ``.safetensors`` file, byte for byte as a dataset holds it.

    Raises :class:`JobError` for other files and for arrays of a dtype that no item has. An ``.npy`` holds no
    bfloat16: of such items, only ``.safetensors`` have the checksum.
    """
    readers = {".npy": _npy, ".safetensors": _safetensors}
    if path.suffix not in readers:
        raise JobError(f"--item: expected a file ending in {', '.join([*readers, PICTURE])}, found '{path.name}'")
    _require_file(path)
    return readers[path.suffix](path)


def picture(path: Path) -> np.ndarray:
    """The pixels of a PNG of 8 bits a channel: uint8 (height, width, 1, 3 or 4)."""
    from PIL import Image

    _require_file(path)
    try:
        with path.open("rb") as file, Image.open(file, formats=["PNG"]) as image:
            image.load()
            frames, mode, pixels = getattr(image, "n_frames", 1), image.mode, np.asarray(image)
            file.seek(24)  # the header chunk's bit depth: pillow makes 8 bits of 16 without a word
            bits = file.read(1)[0]
    except Exception as error:  # pillow's errors have no common base
        raise _unreadable(path, "a PNG", error) from None
    if mode not in ("L", "RGB", "RGBA") or bits != 8 or frames != 1:
        found = f"mode {mode}, {bits} bits, {frames} pictures"
        raise JobError(f"'{path.name}': expected mode L, RGB or RGBA, 8 bits, 1 picture, found {found}")
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def is_rounded(output: Output) -> bool:
    """Whether all values of a float32 array are also bfloat16: what ``regenerate --to x.npy`` makes of such items."""
    return output.dtype == "float32" and not np.frombuffer(output.data, "<u4").astype("<u2").any()


def _npy(path: Path) -> Output:
    try:
        with np.errstate(over="ignore"):  # of absurd shapes; the length tells
            array = np.lib.format.open_memmap(path, mode="r")
        size, length = path.stat().st_size, getattr(array, "offset", 0) + array.nbytes
    except Exception as error:  # numpy's errors have no common base
        raise _unreadable(path, "an array in numpy's format", error) from None
    if size != length:
        raise JobError(f"'{path.name}': expected {length} bytes for its array, found {size}")
    name = array.dtype.name
    if name not in ITEM_SIZE:
        raise _no_item(path, str(array.dtype))
    return Output(name, array.shape, array.astype(array.dtype.newbyteorder("<")).tobytes())


def _safetensors(path: Path) -> Output:
    from safetensors import SafetensorError, deserialize

    try:
        tensors: list[tuple[str, dict[str, Any]]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, "a safetensors file", error) from None
    if len(tensors) != 1:
        raise JobError(f"'{path.name}': expected one tensor, found {len(tensors)}")
    tensor = tensors[0][1]
    if tensor["dtype"] not in _DTYPES:
        raise _no_item(path, tensor["dtype"])
    return Output(_DTYPES[tensor["dtype"]], tuple(tensor["shape"]), bytes(tensor["data"]))


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise JobError(f"--item: expected a file, found none at '{path}'; check the path")


def _unreadable(path: Path, expected: str, error: Exception) -> JobError:
    return JobError(f"'{path.name}': expected {expected}, found something else ({' '.join(str(error).split())[:200]})")


def _no_item(path: Path, dtype: str) -> JobError:
    return JobError(f"'{path.name}': expected one of {', '.join(ITEM_SIZE)}, found {dtype}")
