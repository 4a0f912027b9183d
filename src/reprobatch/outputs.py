"""What a pipeline returned, as one ``Output`` a slot.

A job's ``output`` is ``latent``, ``pixels`` or the name of a field of the pipeline's own output class (``images``,
``frames``, ``audios``, ``image_embeds`` …), which is then what the dataset's column is called too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from reprobatch.errors import JobError
from reprobatch.record import ITEM_SIZE, Output


class OtherCount(JobError):
    """A pipeline gave more or fewer outputs than there were items."""


_PICTURES = ("images", "image", "frames", "videos")


def chosen(result: Any, output: str, pipeline: str) -> Any:
    """The part of a pipeline's result that a job asks for.

    Raises :class:`JobError` where the pipeline's output class has no such part, naming what it has.
    """
    fields = list(result) if isinstance(result, dict) else []
    if output == "latent":
        value = result[0]
        first = value[0] if isinstance(value, list | tuple) and value else value
        if not torch.is_tensor(first):  # what takes no notice of output_type: "latent" gives decoded pictures
            raise JobError(f"{pipeline} gives no latents; set output: {fields[0] if fields else 'pixels'}")
        return value
    if output == "pixels":
        if fields and fields[0] not in _PICTURES:
            raise JobError(f"{pipeline} gives {_listed(fields)}, which is no picture; set output: {fields[0]}")
        return result[0]
    if output not in fields:
        raise JobError(f"{pipeline} gives {_listed(fields) or 'no named outputs'}, not '{output}'; correct 'output'")
    return result[output]


def by_slot(value: Any, size: int) -> list[Output]:
    """One output a slot, each of its own shape; :class:`JobError` for another number or an unknown dtype."""
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        value = [np.stack([_plain(frame) for frame in slot]) for slot in value]  # videos as lists of frames
    slots = [_output(_plain(slot)) for slot in value] if _has_slots(value) else []
    if len(slots) != size:
        raise OtherCount(f"expected {size} outputs, one an item, found {len(slots) or type(value).__name__}")
    return slots


def of_picture(picture: np.ndarray) -> Output:
    """A uint8 picture of shape (height, width, channels) as an output."""
    return _output(picture)


def to_tensor(output: Output) -> torch.Tensor:
    """An output as a tensor of its own dtype and shape; owns its memory."""
    dtype = getattr(torch, output.dtype)
    return torch.frombuffer(bytearray(output.data), dtype=dtype).reshape(output.shape)


def _listed(fields: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in fields)


def _has_slots(value: Any) -> bool:
    return isinstance(value, list | tuple) or bool(getattr(value, "ndim", 0))


def _plain(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, Image.Image) else value


def _output(slot: Any) -> Output:
    if torch.is_tensor(slot):
        slot = slot.detach().cpu()
        # numpy lacks bfloat16, so every dtype goes as bytes; a scalar has no last dimension to view
        data = slot.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
        return Output(_known(str(slot.dtype).removeprefix("torch.")), tuple(slot.shape), data)
    slot = np.asarray(slot)
    data = slot.astype(slot.dtype.newbyteorder("<"), copy=False).tobytes()
    return Output(_known(str(slot.dtype)), slot.shape, data)


def _known(dtype: str) -> str:
    if dtype not in ITEM_SIZE:
        raise JobError(f"expected outputs of one of {', '.join(ITEM_SIZE)}, found {dtype}")
    return dtype
