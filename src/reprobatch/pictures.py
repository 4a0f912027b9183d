"""What people see of an output: the picture that was stored with it, its values rounded, or a latent decoded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reprobatch.job import ResolvedJob
from reprobatch.record import DECODED, Output

Decode = Callable[[Output], np.ndarray]


def needs_model(job: ResolvedJob) -> bool:
    """Whether pictures of a job's items can be had by decoding latents only."""
    return job.output == "latent" and DECODED not in job.also


def of(job: ResolvedJob, output: Output, decode: Decode) -> np.ndarray:
    """An item's picture or video, uint8, with channels last; ``decode`` is asked where :func:`needs_model`."""
    if DECODED in output.also:
        return output.also[DECODED].numpy()
    return decode(output) if needs_model(job) else to_uint8(output.numpy())


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Values in [0, 1] to 0 … 255, rounded as diffusers rounds them; uint8 as it is."""
    if picture.dtype == np.uint8:
        return picture
    return np.asarray((picture * 255).round().clip(0, 255), np.uint8)
