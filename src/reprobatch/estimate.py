"""How large an output will be, from a model's configuration alone; loads no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reprobatch.errors import JobError
from reprobatch.record import DECODED, ITEM_SIZE

# whose configurations say their scales as _scales reads them; other makes (LTX, DC-AE, sound) have ways of their own
_VAES = (None, "AutoencoderKL", "AsymmetricAutoencoderKL", "AutoencoderKLWan", "AutoencoderKLQwenImage")
_PICTURES = ("latent", "pixels", "images", "frames")

Argument = Callable[[str], int | None]
"""A call argument's value, the largest where items differ in it; ``None`` where none is given."""


def output_bytes(output: str, dtype: str, argument: Argument, folder: Path, also: Sequence[str] = ()) -> int | None:
    """Bytes of one item's outputs, the largest one's, or ``None`` where the model's configuration does not say.

    Known are latents of (channels, height, width) at the VAE's scale, with frames at its temporal scale
    for video, and pixels.
    """
    net, vae = config(folder, "unet") or config(folder, "transformer"), config(folder, "vae")
    if output not in _PICTURES or vae.get("_class_name") not in _VAES or not {DECODED}.issuperset(also):
        return None
    try:
        # a decoded picture has a byte a value, pixels have a float
        further = _bytes("pixels", dtype, argument, net, vae) // ITEM_SIZE["float32"] if also else 0
        return _bytes(output, dtype, argument, net, vae) + further
    except (KeyError, TypeError, ValueError):  # a configuration of another make
        return None


def shard_size_for(limit: int, item_bytes: int | None, batch_size: int, at_most: int) -> int:
    """Items of a shard that holds at most ``limit`` bytes of output and ``at_most`` items, in whole batches.

    Raises :class:`JobError` where an item's size is not known beforehand, or one batch is over the limit.
    """
    if item_bytes is None:
        raise JobError(
            "shard_bytes: expected a model whose configuration tells the size of its outputs, found another; "
            "leave shard_bytes out and set shard_size"
        )
    batches = limit // (item_bytes * batch_size)
    if batches < 1:
        raise JobError(
            f"shard_bytes: expected at least the {item_bytes * batch_size} bytes of one batch, found {limit}; "
            "raise it, or lower batch_size"
        )
    return min(at_most, batches * batch_size)


def _bytes(output: str, dtype: str, argument: Argument, net: dict[str, Any], vae: dict[str, Any]) -> int:
    scale, frame_scale = _scales(vae)
    size = net.get("sample_size")
    default = size if isinstance(size, list) else [size, size]
    height, width = (
        _given(argument(name), own, scale) // scale for name, own in zip(("height", "width"), default, strict=True)
    )
    frames = [(_known(argument("num_frames")) - 1) // frame_scale + 1] if frame_scale else []
    if output == "latent":
        channels = vae.get("latent_channels") or vae.get("z_dim") or net["in_channels"]
        return math.prod((channels, *frames, height, width)) * ITEM_SIZE[dtype]
    pictures = (frames[0] - 1) * frame_scale + 1 if frames else 1
    channels = vae.get("out_channels") or (3 if vae else net["out_channels"])
    return math.prod((pictures, channels, height * scale, width * scale)) * ITEM_SIZE["float32"]


def _scales(vae: dict[str, Any]) -> tuple[int, int]:
    """Pixels to a latent along a side, and frames to one (0: no video)."""
    if "temperal_downsample" in vae:  # as diffusers spells it
        halved = vae["temperal_downsample"]
        return vae.get("scale_factor_spatial") or 2 ** len(halved), 2 ** sum(halved)
    return 2 ** (len(vae["block_out_channels"]) - 1) if "block_out_channels" in vae else 1, 0


def _given(value: int | None, sample_size: int | None, scale: int) -> int:
    return value if value is not None else _known(sample_size) * scale


def _known(value: int | None) -> int:
    if value is None:
        raise ValueError("the pipeline's own default, which its class knows")
    return value


def config(folder: Path, component: str) -> dict[str, Any]:
    """A component's ``config.json``, empty where there is none."""
    try:
        return dict(json.loads((folder / component / "config.json").read_text()))
    except (OSError, ValueError):
        return {}
