"""The pipeline families that jobs are shown to run: a tiny model of each, and the parts of a job for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny


@dataclass(frozen=True)
class Family:
    """A tiny model's maker, what its job says besides, and what is special about it."""

    make: Callable[[Path], Path]
    call: dict[str, Any] = field(default_factory=dict)
    items: dict[str, Any] = field(default_factory=lambda: {"prompts": "prompts.txt"})
    output: str = "latent"
    scheduler: str | None = None
    special: str = ""

    def job(self) -> dict[str, Any]:
        """The keys of a job, the model beside the job file."""
        return {
            "pipeline": {"model": self.make.__name__, "scheduler": self.scheduler},
            "call": self.call if "prior_num_inference_steps" in self.call else {"num_inference_steps": 2, **self.call},
            "items": self.items,
            "output": self.output,
        }


LABELS = {"prompts": "labels.csv"}
SMALL = {"height": 16, "width": 16}
FAMILIES = {
    "Stable Diffusion": Family(tiny.stable_diffusion, scheduler="DDIMScheduler"),
    "Stable Diffusion XL": Family(tiny.stable_diffusion_xl, special="two text encoders, sizes as conditions"),
    "Stable Diffusion 3": Family(
        tiny.stable_diffusion_3, {"max_sequence_length": 32}, special="flow matching, three text encoders"
    ),
    "FLUX": Family(
        tiny.flux, {**SMALL, "max_sequence_length": 32}, special="flow matching; latents are packed: patches, numbers"
    ),
    "PixArt": Family(tiny.pixart_sigma, {**SMALL, "use_resolution_binning": False, "max_sequence_length": 16}),
    "Sana": Family(
        tiny.sana,
        {
            "height": 32,
            "width": 32,
            "use_resolution_binning": False,
            "max_sequence_length": 16,
            "complex_human_instruction": None,
        },
        special="a language model reads the prompt",
    ),
    "DiT": Family(tiny.dit, items=LABELS, output="images", special="class labels; takes no notice of output: latent"),
    "DDIM": Family(tiny.ddim, items={"count": 5}, output="pixels", special="no prompt"),
    "DDPM": Family(tiny.ddpm, items={"count": 5}, output="pixels", special="no prompt, noise at every step"),
    "Consistency model": Family(tiny.consistency, items=LABELS, output="pixels", special="class labels, few steps"),
    "Latent consistency": Family(tiny.latent_consistency, special="few steps, noise between them"),
    "UnCLIP": Family(
        tiny.unclip,
        dict.fromkeys(("prior_num_inference_steps", "decoder_num_inference_steps", "super_res_num_inference_steps"), 2),
        output="pixels",
        special="a prior, a decoder and two super-resolutions, each with its steps",
    ),
    "Qwen-Image": Family(tiny.qwen_image, SMALL, special="pads prompts to the longest of the batch: replay only"),
    "Wan": Family(
        tiny.wan,
        {**SMALL, "num_frames": 5, "max_sequence_length": 16},
        output="frames",
        special="video; needs accelerate",
    ),
    "LTX": Family(
        tiny.ltx,
        {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 16},
        special="video, packed latents",
    ),
    "Stable Audio": Family(
        tiny.stable_audio, {"audio_end_in_s": 3.5}, output="audios", special="sound; needs torchsde"
    ),
}


def write_items(folder: Path, prompts: tuple[str, ...]) -> None:
    """The item files that the families' jobs name."""
    (folder / "prompts.txt").write_text("\n".join(prompts) + "\n")
    (folder / "labels.csv").write_text("class_labels\n" + "".join(f"{label}\n" for label in (1, 3, 5, 7, 2)))
