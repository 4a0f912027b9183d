"""A picture as a PNG that carries text under one keyword, and that text read back from a file that anybody made."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from reprobatch.errors import JobError
from reprobatch.recipe import LIMIT

KEYWORD = "reprobatch"

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PIXELS = (b"IDAT", b"fdAT")
_HEAD = 1024  # bytes of a text chunk before its text: keyword, language, translated keyword
_OTHER = 16 << 20  # bytes of any other chunk that pillow would read whole: a colour profile, EXIF
_CHUNKS = 1 << 20


def encode(picture: np.ndarray, text: str | None = None) -> bytes:
    """A uint8 picture (height, width, 1, 3 or 4) as a PNG, with ``text`` in an uncompressed ``iTXt`` chunk.

    Equal pictures and texts give equal bytes with one Pillow. Raises :class:`JobError` for arrays of another shape.
    """
    image = as_image(picture)
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_itxt(KEYWORD, text)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def as_image(picture: np.ndarray) -> Image.Image:
    """A uint8 array as pillow's image. Raises :class:`JobError` for one of another shape."""
    if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4) or not picture.size:
        raise JobError(
            f"expected a picture of shape (height, width, channels), found {list(picture.shape)}; use .npy, or .mp4 "
            "and .gif for video"
        )
    return Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)


def read_text(path: Path) -> str:
    """The text that a PNG carries for us, whichever kind of text chunk it is in.

    Sizes are looked at before anything is read. Raises :class:`JobError` for files that are no PNG, damaged ones,
    chunks of absurd size, and pictures that carry no such text.
    """
    _check_sizes(path)
    try:
        with Image.open(path, formats=["PNG"]) as image:
            found = image.info.get(KEYWORD)
            if found is None:  # some programs write their text behind the pixels
                image.load()
                found = image.info.get(KEYWORD)
    except Exception as error:  # pillow's errors have no common base
        reason = " ".join(str(error).split())[:200]
        raise JobError(f"'{path.name}': expected a PNG, found a damaged one ({reason}); take another copy") from None
    if not isinstance(found, str):
        raise JobError(
            f"'{path.name}': expected a PNG with a recipe, found none in it; 'reprobatch export' and 'regenerate --to' "
            "write them, and programs that save pictures anew may drop them"
        )
    return found


def size(path: Path) -> tuple[int, int]:
    """Height and width of a PNG, from its header."""
    with path.open("rb") as file:
        file.seek(16)
        width, height = struct.unpack(">II", file.read(8))
    return height, width


def _check_sizes(path: Path) -> None:
    if not path.is_file():
        raise JobError(f"expected a PNG, found no file at '{path}'; check the path")
    end = path.stat().st_size
    with path.open("rb") as file:
        if file.read(8) != _SIGNATURE:
            raise JobError(f"'{path.name}': expected a PNG, found something else; recipes are in PNGs only")
        for _ in range(_CHUNKS):
            head = file.read(8)
            if len(head) < 8:
                raise JobError(f"'{path.name}': expected a whole PNG, found one that is cut off; take another copy")
            length, kind = struct.unpack(">I4s", head)
            most = LIMIT + _HEAD if kind in _TEXTS else _OTHER
            if length > most and kind not in _PIXELS:
                what = "text" if kind in _TEXTS else "a chunk beside the pixels"
                raise JobError(f"'{path.name}': expected {what} of at most {most} bytes, found {length}")
            if kind == b"IEND":
                return
            if file.seek(length + 4, io.SEEK_CUR) > end:
                raise JobError(f"'{path.name}': expected a whole PNG, found one that is cut off; take another copy")
    raise JobError(f"'{path.name}': expected at most {_CHUNKS} chunks, found more")
