"""Outputs as pictures a page can show: whole, as thumbnails in sheets, and the difference of two."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from reprobatch.pictures import to_uint8
from reprobatch.record import DECODED, Output

THUMB = 128  # pixels of a thumbnail's longer side at most
LARGE = 1024  # and of the picture that a click shows
COLUMNS = 10  # thumbnails beside each other in a sheet
PER_SHEET = COLUMNS * COLUMNS
_WAVE = (96, 128)  # height and width of a waveform
_INK = (74, 111, 165)

Picture = np.ndarray
"""uint8 (height, width, 3)."""


def picture(output: Output, name: str) -> Picture | None:
    """What can be shown of an output without its model, ``None`` where that is nothing.

    The picture that was decoded with it, pixels, a video's first frame, a sound's waveform. ``name`` is the
    job's ``output``.
    """
    if DECODED in output.also:
        return as_picture(output.also[DECODED].numpy())
    if name == "latent":
        return None
    array = output.numpy()
    if array.ndim == 4 and array.shape[0]:
        array = array[0]
    if array.ndim == 3 and array.shape[2] in (1, 3, 4):
        return as_picture(array)
    if array.ndim == 2 and name in ("pixels", "images", "image"):
        return as_picture(array[:, :, None])
    if array.ndim in (1, 2) and name.startswith(("audio", "sound", "speech")):
        return waveform(array)
    return None


def waveform(samples: np.ndarray) -> Picture | None:
    """Least and greatest value of each stretch of a sound (samples,) or (channels, samples), drawn as a line."""
    if not samples.size:
        return None
    height, width = _WAVE
    values = np.nan_to_num(samples.astype(np.float64).reshape(-1, samples.shape[-1])[0])
    peak = float(np.abs(values).max()) or 1.0
    edges = np.linspace(0, values.size, width + 1).astype(int)
    drawn = np.full((height, width, 3), 255, np.uint8)
    for x, (start, stop) in enumerate(pairwise(edges)):
        some = values[start : max(stop, start + 1)] / peak
        top, bottom = ((1 - some.max()) / 2 * (height - 1), (1 - some.min()) / 2 * (height - 1))
        drawn[round(top) : round(bottom) + 1, x] = _INK
    return drawn


def as_picture(array: np.ndarray) -> Picture | None:
    """An array (height, width, channels), in [0, 1] or uint8, as a picture; what is see-through on white.

    ``None`` for other shapes.
    """
    if array.ndim != 3 or 0 in array.shape or array.shape[2] not in (1, 3, 4):
        return None
    if array.dtype.kind == "f":
        array = np.nan_to_num(array.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values far outside [0, 1], which are cut off
        whole = to_uint8(array.astype(np.uint8) if array.dtype.kind in "iu" else array)
    if whole.shape[2] == 4:
        back = Image.new("RGBA", whole.shape[1::-1], "white")
        return np.asarray(Image.alpha_composite(back, Image.fromarray(whole)).convert("RGB"))
    return np.ascontiguousarray(np.repeat(whole, 3, axis=2) if whole.shape[2] == 1 else whole)


def reduced(made: Picture, longest: int) -> Picture:
    """A picture whose longer side has at most so many pixels; smaller ones as they are."""
    height, width = made.shape[:2]
    share = longest / max(height, width)
    if share >= 1:
        return made
    size = max(1, round(width * share)), max(1, round(height * share))
    return np.asarray(Image.fromarray(made).resize(size, Image.Resampling.LANCZOS))


def encoded(made: np.ndarray, *, exact: bool) -> bytes:
    """A picture as WebP, lossless where it is ``exact``."""
    buffer = io.BytesIO()
    if exact:
        Image.fromarray(made).save(buffer, "WEBP", lossless=True, quality=50, method=2, exact=True)
    else:
        Image.fromarray(made).save(buffer, "WEBP", quality=88, method=4)
    return buffer.getvalue()


@dataclass(frozen=True)
class Sheet:
    """Up to ``PER_SHEET`` thumbnails in one picture, row by row: its bytes, and width and height of a cell."""

    data: bytes
    width: int
    height: int
    rows: int


def sheet(made: Sequence[Picture | None]) -> Sheet | None:
    """Thumbnails in cells of the largest one's size, each in its cell's middle; ``None`` where there are none."""
    thumbs = [None if each is None else reduced(each, THUMB) for each in made]
    there = [thumb for thumb in thumbs if thumb is not None]
    if not there:
        return None
    height, width = (max(thumb.shape[axis] for thumb in there) for axis in (0, 1))
    rows = -(-len(made) // COLUMNS)
    whole = np.zeros((rows * height, COLUMNS * width, 4), np.uint8)
    for at, thumb in enumerate(thumbs):
        if thumb is None:
            continue
        top = at // COLUMNS * height + (height - thumb.shape[0]) // 2
        left = at % COLUMNS * width + (width - thumb.shape[1]) // 2
        cell = whole[top : top + thumb.shape[0], left : left + thumb.shape[1]]
        cell[:, :, :3], cell[:, :, 3] = thumb, 255
    exact = all(each is None or max(each.shape[:2]) <= THUMB for each in made)
    return Sheet(encoded(whole, exact=exact), width, height, rows)


@dataclass(frozen=True)
class Difference:
    """Where two items differ, bright where they differ most; ``of`` says what was subtracted, ``gain`` by how much
    it was multiplied."""

    picture: Picture
    of: str
    gain: float


def difference(a: Picture | None, b: Picture | None, one: Output, other: Output, name: str) -> Difference | None:
    """The amplified difference of two pictures, or of what is stored where the pictures show none.

    ``name`` is the job's ``output``. ``None`` where neither can be subtracted.
    """
    if a is not None and b is not None and a.shape == b.shape and (a != b).any():
        apart = np.abs(a.astype(np.int16) - b.astype(np.int16))
        gain = 255 // int(apart.max())
        return Difference((apart * gain).astype(np.uint8), "pictures", gain)
    x, y = one.numpy().astype(np.float64), other.numpy().astype(np.float64)
    if x.shape != y.shape or x.ndim < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    far = np.abs(x - y)
    largest = float(far.max(initial=0.0))
    if not (0 < largest < np.inf):
        return None
    if name != "latent" and far.ndim > 2:  # channels come last
        far = far.max(axis=-1)
    flat = far.reshape(-1, *far.shape[-2:]).max(axis=0)
    grey = (flat / largest * 255).round().astype(np.uint8)
    return Difference(np.repeat(grey[:, :, None], 3, axis=2), "stored values", 1 / largest)


def strip(made: Sequence[Picture | None], longest: int) -> Picture:
    """Pictures side by side, each fitted into a box of the first one's shape; grey where there is none."""
    boxes = [reduced(each, longest) for each in made if each is not None]
    height, width = boxes[0].shape[:2]
    cells = []
    for each in made:
        if each is None:
            cells.append(np.full((height, width, 3), 128, np.uint8))
        else:
            sized = Image.fromarray(reduced(each, longest)).resize((width, height), Image.Resampling.NEAREST)
            cells.append(np.asarray(sized))
    return np.concatenate(cells, axis=1)
