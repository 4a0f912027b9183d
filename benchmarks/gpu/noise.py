"""What noise drawn on the CPU and moved to the GPU costs, against noise drawn there, and against a denoising step."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import clock
import made
import torch
from diffusers.utils.torch_utils import randn_tensor
from report import Findings
from sizes import Sizes

from reprobatch import determinism
from reprobatch.settings import Determinism

COLUMNS = (
    "dtype",
    "batch",
    "µs, a CPU generator a slot, moved",
    "µs, a device generator a slot",
    "µs, one device generator",
    "times a device generator a slot",
    "ms a UNet call",
    "times a UNet call",
)


def run(sizes: Sizes, found: Findings) -> None:
    """Time the first latents' noise in three ways, and one UNet call, all under *strict*."""
    determinism.fix(Determinism(cublas_workspace=sizes.workspace), 1, sizes.device)
    found.table(f"Noise for one batch of latents, median of {sizes.draws} draws", COLUMNS)
    for dtype in sizes.dtypes:
        unet = made.unet(sizes, dtype)
        for batch in sizes.speed_batches:
            _row(unet, sizes, dtype, batch, found)
        del unet
    found.note(
        "Each draw is timed by itself between two synchronisations, which all columns pay alike. A UNet call is one "
        "denoising step without guidance; a run of n steps draws its first noise once."
    )


def _row(unet: torch.nn.Module, sizes: Sizes, dtype: str, batch: int, found: Findings) -> None:
    device = sizes.device
    ways = {"moved": [_generator("cpu") for _ in range(batch)], "there": [_generator(device) for _ in range(batch)]}
    times = {name: _median(_drawing(sizes, dtype, batch, way), sizes) for name, way in ways.items()}
    one = _median(_drawing(sizes, dtype, batch, _generator(device)), sizes)
    arguments = made.inputs(sizes, dtype, batch)

    def step() -> None:
        with torch.no_grad():
            unet(**arguments, return_dict=False)

    for _ in range(3):
        step()
    call = median(clock.seconds(step, device) for _ in range(sizes.rounds))
    moved, there = times["moved"], times["there"]
    found.row(dtype, batch, 1e6 * moved, 1e6 * there, 1e6 * one, moved / there, 1e3 * call, moved / call)


def _generator(device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def _drawing(
    sizes: Sizes, dtype: str, batch: int, generator: torch.Generator | list[torch.Generator]
) -> Callable[[], object]:
    side = sizes.unet["sample_size"]
    shape, device, number = (batch, 4, side, side), torch.device(sizes.device), getattr(torch, dtype)
    return lambda: randn_tensor(shape, generator=generator, device=device, dtype=number)


def _median(draw: Callable[[], object], sizes: Sizes) -> float:
    for _ in range(3):
        draw()
    return median(clock.seconds(draw, sizes.device) for _ in range(sizes.draws))
