"""Contact sheets: pages of small pictures, each with its index below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reprobatch.errors import JobError
from reprobatch.pngfile import as_image

_GAP, _CAPTION = 4, 12  # pixels between pictures, and for the line below each
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_MOST = 100_000_000  # pixels of a page


@dataclass(frozen=True)
class Layout:
    """Pictures side by side, lines of them, and the longest side of each in pixels (smaller ones are not enlarged)."""

    columns: int = 10
    rows: int = 10
    side: int = 128

    @property
    def on_page(self) -> int:
        """Pictures on one page."""
        return self.columns * self.rows

    def __post_init__(self) -> None:
        pixels = self.on_page * (self.side + _GAP) * (self.side + _GAP + _CAPTION)
        if pixels > _MOST:
            raise JobError(f"expected pages of at most {_MOST} pixels, found {pixels}; ask for fewer or smaller ones")


def pages(pictures: Iterable[tuple[int, np.ndarray]], layout: Layout, last: int) -> Iterator[np.ndarray]:
    """Pages, uint8 (height, width, 3), of pictures with their indices; of a video its middle frame is shown.

    All pages are equally wide; cells are as large as the first picture where that is smaller than ``layout.side``, but
    wide enough for the ``last`` index.
    """
    waiting, side, room = iter(pictures), 0, int(_font().getlength(str(last)))
    while page := list(islice(waiting, layout.on_page)):
        side = side or max(room, min(layout.side, max(_still(page[0][1]).shape[:2])))
        yield _page(page, layout, side)


def _page(page: list[tuple[int, np.ndarray]], layout: Layout, side: int) -> np.ndarray:
    lines = -(-len(page) // layout.columns)
    width, height = side + _GAP, side + _CAPTION + _GAP
    sheet = Image.new("RGB", (layout.columns * width + _GAP, lines * height + _GAP), _WHITE)
    draw, font = ImageDraw.Draw(sheet), _font()
    for place, (index, picture) in enumerate(page):
        line, column = divmod(place, layout.columns)
        left, top = _GAP + column * width, _GAP + line * height
        small = _small(picture, side)
        sheet.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
        draw.text((left + (side - draw.textlength(str(index), font)) // 2, top + side), str(index), _BLACK, font)
    return np.asarray(sheet)


def _small(picture: np.ndarray, side: int) -> Image.Image:
    image = as_image(_still(picture))
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
    image = image.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _font() -> ImageFont.ImageFont:
    return ImageFont.load_default_imagefont()  # a bitmap: the same pixels everywhere


def _still(picture: np.ndarray) -> np.ndarray:
    return picture[len(picture) // 2] if picture.ndim == 4 and len(picture) else picture
