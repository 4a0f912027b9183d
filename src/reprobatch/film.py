"""Video as files people watch: GIF by Pillow, MP4 by the ffmpeg that imageio brings, as diffusers writes it."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reprobatch.errors import JobError
from reprobatch.job import ResolvedJob

FPS = 10.0
"""Frames a second where nothing says otherwise: what diffusers' ``export_to_video`` takes."""
FASTEST = 240.0
_NAMED = ("frame_rate", "fps")
# one thread, and no version of the encoder in the file: the same bytes on any number of cores
_SAME_BYTES = ["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1"]


def frame_rate(job: ResolvedJob, item: dict[str, Any]) -> float:
    """Frames a second as the item's own call was told (``frame_rate``, ``fps``), or :data:`FPS`."""
    call = {**job.call, **item}
    found = next((call[name] for name in _NAMED if type(call.get(name)) in (int, float)), FPS)
    return float(found) if 0 < found <= FASTEST else FPS


def gif(frames: np.ndarray, fps: float) -> bytes:
    """uint8 frames (frames, height, width, 1, 3 or 4) as a GIF that plays for ever; it shows 256 colours a frame.

    A GIF counts in hundredths of a second, so ``fps`` is rounded to the nearest that it has, at most 50.
    """
    first, *others = [Image.fromarray(frame) for frame in _checked(frames)]
    buffer = io.BytesIO()
    pause = max(2, round(100 / fps)) * 10  # below 20 ms players take it for none
    first.save(buffer, "GIF", save_all=True, append_images=others, optimize=False, duration=pause, loop=0)
    return buffer.getvalue()


def mp4(frames: np.ndarray, fps: float) -> bytes:
    """uint8 frames (frames, height, width, 1, 3 or 4) as H.264 in an MP4; lossy.

    H.264 wants even sides: of an odd one the last line is doubled. Equal frames give equal bytes with one
    imageio-ffmpeg. Raises :class:`JobError` where that is not installed or fails.
    """
    try:
        import imageio_ffmpeg
    except ImportError:
        raise JobError(
            "an .mp4 needs imageio-ffmpeg, found it not installed; pip install 'reprobatch[video]', or use .gif"
        ) from None
    even = _even(_checked(frames))
    height, width = even.shape[1:3]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        try:
            writer = imageio_ffmpeg.write_frames(
                str(path), (width, height), fps=fps, codec="libx264", macro_block_size=2, output_params=_SAME_BYTES
            )
            writer.send(None)
            for frame in even:
                writer.send(np.ascontiguousarray(frame))
            writer.close()
            return path.read_bytes()
        except (OSError, RuntimeError, StopIteration) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
            raise JobError(f"ffmpeg could not write an .mp4 ({reason}); write .gif") from None


def _checked(frames: np.ndarray) -> np.ndarray:
    """The frames in RGB."""
    if frames.ndim != 4 or not len(frames) or frames.shape[3] not in (1, 3, 4):
        raise JobError(
            f"expected video of shape (frames, height, width, channels), found {list(frames.shape)}; use .npy, or .png "
            "for pictures"
        )
    return np.repeat(frames, 3, axis=3) if frames.shape[3] == 1 else frames[..., :3]


def _even(frames: np.ndarray) -> np.ndarray:
    return np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), "edge")
