"""Outputs as files people open: ``.safetensors``, ``.npy`` and ``.png``."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from reprobatch.dataset import Dataset
from reprobatch.errors import JobError
from reprobatch.record import Output

SUFFIXES = (".safetensors", ".npy", ".png")


def check_suffix(path: Path) -> None:
    """Refuse a file name of a kind that cannot be written, and a folder that is not there."""
    if path.suffix not in SUFFIXES:
        raise JobError(f"--to: expected a file ending in {', '.join(SUFFIXES)}, found '{path.name}'")
    if not path.absolute().parent.is_dir():
        raise JobError(f"--to: the folder of '{path}' does not exist; make it first")


def save(output: Output, path: Path, decode: Callable[[Output], np.ndarray]) -> None:
    """Write one output; ``decode`` makes a uint8 picture of it, for PNG."""
    check_suffix(path)
    if path.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, output.numpy(), allow_pickle=False)
        _write(path, buffer.getvalue())
    elif path.suffix == ".safetensors":
        _write(path, _safetensors(output))
    else:
        _write(path, _png(decode(output)))


def export(dataset: Dataset, to: Path, decode: Callable[[Output], Any], on_item: Callable[[], None]) -> int:
    """Write every item's picture as ``to/INDEX.png``; returns how many."""
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"cannot make the folder '{to}': {error.strerror}") from None
    width = len(str(len(dataset) - 1))
    for item in dataset:
        _write(to / f"{item.index:0{width}d}.png", _png(decode(item.output)))
        on_item()
    return len(dataset)


def _safetensors(output: Output) -> bytes:
    from safetensors.torch import save as serialize

    from reprobatch.pipeline import to_tensor

    return bytes(serialize({"output": to_tensor(output)}))


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4):
        raise JobError(f"expected a picture of shape (height, width, channels), found {list(picture.shape)}; use .npy")
    buffer = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(buffer, "PNG")
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
