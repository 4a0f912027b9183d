"""Outputs as files people open: arrays, pictures, video and sound."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from reprobatch import film, pictures, pngfile, sheets
from reprobatch.dataset import Dataset
from reprobatch.errors import JobError
from reprobatch.folder import replace_file
from reprobatch.pictures import Decode
from reprobatch.recipes import Recipes
from reprobatch.record import Output, Row

SUFFIXES = (".safetensors", ".npy", ".png", ".wav", ".gif", ".mp4")

Rate = Callable[[], int]


def check_suffix(path: Path) -> None:
    """Refuse a file name of a kind that cannot be written, and a folder that is not there."""
    if path.suffix not in SUFFIXES:
        raise JobError(f"--to: expected a file ending in {', '.join(SUFFIXES)}, found '{path.name}'")
    if not path.parent.is_dir():
        raise JobError(f"--to: the folder of '{path}' does not exist; make it first")


def save(
    output: Output,
    path: Path,
    decode: Decode,
    sampling_rate: Rate | None = None,
    *,
    recipe: str | None = None,
    fps: float = film.FPS,
) -> None:
    """Write one output, as the file's name says.

    ``decode`` makes a uint8 picture or video of it for PNG, GIF and MP4, ``sampling_rate`` tells a sound's for WAV. A
    PNG carries ``recipe``; ``fps`` is frames a second.
    """
    check_suffix(path)
    replace_file(path, _encoded(output, path.suffix, decode, sampling_rate, recipe, fps), path.parent)


def suffix_for(dataset: Dataset) -> str:
    """The kind of file that people open of a dataset's items, by the shape of the first.

    PNG for latents and pictures, MP4 for (frames, height, width, channels), WAV for anything of one or two dimensions.
    """
    shape = next(dataset.groups(0))[0].output.shape
    if dataset.job.output == "latent":
        return ".png"
    return {4: ".mp4", 3: ".png"}.get(len(shape), ".wav")


@dataclass(frozen=True)
class Exporter:
    """Writes the items of a dataset as files; ``decode`` and ``sampling_rate`` ask a loaded model.

    ``fps`` is frames a second where they are not to be each item's own; ``recipes`` writes what a PNG carries.
    """

    dataset: Dataset
    decode: Decode
    sampling_rate: Rate | None = None
    fps: float | None = None
    recipes: Recipes | None = None

    def files(self, to: Path, suffix: str) -> Iterator[Path]:
        """Write every item as ``to/INDEX`` and ``suffix``; what has been written, one by one."""
        _make(to)
        width = len(str(len(self.dataset) - 1))
        for row, batch in _rows(self.dataset):
            fps = self.fps or film.frame_rate(self.dataset.job, row.item)
            recipe = self.recipes.text(row, batch) if self.recipes and suffix == ".png" else None
            data = _encoded(row.output, suffix, self._picture, self.sampling_rate, recipe, fps)
            path = to / f"{row.index:0{width}d}{suffix}"
            replace_file(path, data, to)
            yield path

    def sheets(self, to: Path, layout: sheets.Layout, on_item: Callable[[], None]) -> Iterator[Path]:
        """Write contact sheets as ``to/sheet-PAGE.png``; what has been written, one by one."""
        _make(to)
        width = len(str(-(-len(self.dataset) // layout.on_page)))

        def each() -> Iterator[tuple[int, np.ndarray]]:
            for row, _ in _rows(self.dataset):
                yield row.index, self._picture(row.output)
                on_item()

        for number, page in enumerate(sheets.pages(each(), layout, len(self.dataset) - 1), 1):
            path = to / f"sheet-{number:0{width}d}.png"
            replace_file(path, pngfile.encode(page), to)
            yield path

    def _picture(self, output: Output) -> np.ndarray:
        return pictures.of(self.dataset.job, output, self.decode)


def _rows(dataset: Dataset) -> Iterator[tuple[Row, list[Row]]]:
    """Every row with those of its batch; row groups hold whole batches."""
    for shard in range(dataset.plan.shards):
        for group in dataset.groups(shard):
            for _, rows in groupby(group, key=lambda row: row.batch):
                batch = list(rows)
                yield from ((row, batch) for row in batch)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"cannot make the folder '{folder}': {error.strerror}") from None


def _encoded(
    output: Output, suffix: str, decode: Decode, sampling_rate: Rate | None, recipe: str | None, fps: float
) -> bytes:
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, output.numpy(), allow_pickle=False)
        return buffer.getvalue()
    if suffix == ".safetensors":
        return _safetensors(output)
    if suffix == ".wav":
        if sampling_rate is None:
            raise JobError("a .wav is of sound: expected a pipeline that tells its sampling rate, found none; use .npy")
        return _wav(output.numpy(), sampling_rate())
    if suffix == ".png":
        return pngfile.encode(decode(output), recipe)
    return (film.gif if suffix == ".gif" else film.mp4)(decode(output), fps)


def _safetensors(output: Output) -> bytes:
    from safetensors.torch import save as serialize

    from reprobatch.outputs import to_tensor

    return bytes(serialize({"output": to_tensor(output)}))


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
