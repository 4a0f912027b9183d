"""An item's inputs as a pipeline takes them: pictures and tensors."""

from __future__ import annotations

import io

import torch
from PIL import Image, ImageOps

from reprobatch.inputs import Input


def as_argument(value: Input, dtype: torch.dtype, device: str) -> Image.Image | torch.Tensor:
    """A picture as diffusers' ``load_image`` gives it, or a tensor; whole numbers stay int64.

    Raises :class:`ValueError` for bytes that are no picture, or one of too many pixels.
    """
    if value.dtype is None:
        return _picture(value)
    found = torch.from_numpy(value.array().copy())
    return found.to(device, dtype if found.is_floating_point() else found.dtype)


def _picture(value: Input) -> Image.Image:
    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(value.data)))
        return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"expected a picture with SHA-256 {value.digest[:12]}…, found other bytes ({type(error).__name__})"
        ) from None
