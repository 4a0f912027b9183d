"""What the sections run at: sizes for a GPU, and tiny ones that take every path on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sizes:
    """Device, number formats, and how large and how often.

    ``unet`` is that of the timings, ``made`` that of the pipeline made on the spot; both are keyword
    arguments of ``UNet2DConditionModel``. ``calls`` is how many calls lie between two synchronisations.
    """

    device: str
    dtypes: tuple[str, ...]
    unet: dict[str, Any]
    made: dict[str, Any]
    tokens: int
    speed_batches: tuple[int, ...]
    sweep_batches: tuple[int, ...]
    fresh_at: int
    rounds: int
    calls: int
    draws: int
    workspace: Literal[":16:8", ":4096:8"] = ":16:8"

    @property
    def text_width(self) -> int:
        return int(self.made["cross_attention_dim"])


def _short(channels: tuple[int, ...]) -> dict[str, Any]:
    """A UNet of one layer a block, with attention in all blocks but the innermost."""
    attending = len(channels) - 1
    return {
        "block_out_channels": channels,
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D",) * attending + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * attending,
    }


_TINY = {"sample_size": 8, "cross_attention_dim": 32, "norm_num_groups": 8, **_short((16, 32))}

FULL = Sizes(
    device="cuda",
    dtypes=("float32", "float16", "bfloat16"),
    unet={"sample_size": 64, "cross_attention_dim": 768},  # the rest of Stable Diffusion 1.5 is diffusers' default
    made={"sample_size": 64, "cross_attention_dim": 768, **_short((320, 640))},
    tokens=77,
    speed_batches=(4, 16),  # at 4 the launches may take longer than the kernels
    sweep_batches=(1, 2, 4, 8, 16, 32),
    fresh_at=4,
    rounds=7,
    calls=4,
    draws=50,
)
TINY = Sizes(
    device="cpu",
    dtypes=("float32",),
    unet=_TINY,
    made=_TINY,
    tokens=16,
    speed_batches=(2,),
    sweep_batches=(1, 2),
    fresh_at=2,
    rounds=5,
    calls=1,
    draws=5,
)
