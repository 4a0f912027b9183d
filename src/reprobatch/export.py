"""Outputs as files people open: ``.safetensors``, ``.npy``, ``.png`` and ``.wav``."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reprobatch.dataset import Dataset
from reprobatch.errors import JobError
from reprobatch.folder import replace_file
from reprobatch.record import DECODED, Output

SUFFIXES = (".safetensors", ".npy", ".png", ".wav")


def check_suffix(path: Path) -> None:
    """Refuse a file name of a kind that cannot be written, and a folder that is not there."""
    if path.suffix not in SUFFIXES:
        raise JobError(f"--to: expected a file ending in {', '.join(SUFFIXES)}, found '{path.name}'")
    if not path.parent.is_dir():
        raise JobError(f"--to: the folder of '{path}' does not exist; make it first")


def save(
    output: Output,
    path: Path,
    decode: Callable[[Output], np.ndarray],
    sampling_rate: Callable[[], int] | None = None,
) -> None:
    """Write one output; ``decode`` makes a uint8 picture of it for PNG, ``sampling_rate`` tells a sound's for WAV."""
    check_suffix(path)
    if path.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, output.numpy(), allow_pickle=False)
        replace_file(path, buffer.getvalue(), path.parent)
    elif path.suffix == ".safetensors":
        replace_file(path, _safetensors(output), path.parent)
    elif path.suffix == ".wav":
        if sampling_rate is None:
            raise JobError(f"--to: expected a pipeline that tells its sampling rate for '{path.name}'; use .npy")
        replace_file(path, _wav(output.numpy(), sampling_rate()), path.parent)
    else:
        replace_file(path, _png(decode(output)), path.parent)


def export(dataset: Dataset, to: Path, decode: Callable[[Output], Any], on_item: Callable[[], None]) -> int:
    """Write every item's picture as ``to/INDEX.png``; returns how many.

    ``decode`` makes a uint8 picture of an output; see :func:`stored_picture` for datasets that hold them.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"cannot make the folder '{to}': {error.strerror}") from None
    width = len(str(len(dataset) - 1))
    for item in dataset:
        replace_file(to / f"{item.index:0{width}d}.png", _png(decode(item.output)), to)
        on_item()
    return len(dataset)


def stored_picture(output: Output) -> np.ndarray:
    """The picture that was decoded when the item was made."""
    return output.also[DECODED].numpy()


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Values in [0, 1] to 0 … 255, rounded as diffusers rounds them; uint8 as it is."""
    if picture.dtype == np.uint8:
        return picture
    return np.asarray((picture * 255).round().clip(0, 255), np.uint8)


def _safetensors(output: Output) -> bytes:
    from safetensors.torch import save as serialize

    from reprobatch.outputs import to_tensor

    return bytes(serialize({"output": to_tensor(output)}))


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4):
        raise JobError(f"expected a picture of shape (height, width, channels), found {list(picture.shape)}; use .npy")
    buffer = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(buffer, "PNG")
    return buffer.getvalue()


def _wav(sound: np.ndarray, rate: int) -> bytes:
    """16 bits a sample; values in [-1, 1], what lies outside is cut off."""
    channels = sound[None] if sound.ndim == 1 else sound
    if channels.ndim != 2 or not 1 <= len(channels) <= 8:
        raise JobError(f"expected sound of shape (channels, samples), found {list(sound.shape)}; use .npy")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((len(channels), 2, rate, 0, "NONE", "not compressed"))
        file.writeframes((channels.T * 32767.0).round().clip(-32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()
