"""How large an output will be, from a model's configuration alone; loads no torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from reprobatch.job import ResolvedJob
from reprobatch.record import ITEM_SIZE


def output_bytes(job: ResolvedJob, folder: Path) -> int | None:
    """Bytes of one item's output, or ``None`` where the model's configuration does not say.

    Known for UNet pipelines: latents of (channels, height, width) at the VAE's scale, or pixels.
    """
    if {"height", "width"} & job.items.columns.keys():
        return None
    try:
        return _bytes(job, _config(folder, "unet"), _config(folder, "vae"))
    except (KeyError, TypeError, ValueError):  # a configuration of another make
        return None


def _bytes(job: ResolvedJob, unet: dict[str, Any], vae: dict[str, Any]) -> int:
    size = unet["sample_size"]
    height, width = size if isinstance(size, list) else (size, size)
    scale = 2 ** (len(vae["block_out_channels"]) - 1) if "block_out_channels" in vae else 1
    height = _argument(job, "height", height * scale) // scale
    width = _argument(job, "width", width * scale) // scale
    if job.output == "latent":
        return (
            math.prod((vae.get("latent_channels", unet["in_channels"]), height, width)) * ITEM_SIZE[job.pipeline.dtype]
        )
    return math.prod((vae.get("out_channels", unet["out_channels"]), height * scale, width * scale)) * 4


def _argument(job: ResolvedJob, name: str, default: int) -> int:
    value = job.call.get(name, default)
    return value if isinstance(value, int) else default


def _config(folder: Path, component: str) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / component / "config.json").read_text()))
    except (OSError, ValueError):
        return {}
