"""Models and jobs made on the spot: a UNet of Stable Diffusion's size with random weights, and jobs for workers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from sizes import ROOT, Sizes
from transformers import CLIPTextConfig, CLIPTextModel

import tiny
from reprobatch.contract import Samples, samples
from reprobatch.job import Job
from reprobatch.resolve import Resolved, resolve

PIPELINES = ("builtin:digits", "SD-like")


def unet(sizes: Sizes, dtype: str) -> UNet2DConditionModel:
    """The UNet of the timings, on the device: the same weights in every process."""
    with torch.random.fork_rng(), torch.device(sizes.device):
        torch.manual_seed(0)
        model = UNet2DConditionModel(**sizes.unet)
    return model.to(getattr(torch, dtype)).eval()


def inputs(sizes: Sizes, dtype: str, batch: int) -> dict[str, Any]:
    """Arguments of a UNet call; drawn on the CPU, so the same everywhere."""
    generator = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(sizes.device, getattr(torch, dtype))

    side, width = sizes.unet["sample_size"], sizes.unet["cross_attention_dim"]
    return {
        "sample": draw(batch, 4, side, side),
        "timestep": torch.tensor(500, device=sizes.device),
        "encoder_hidden_states": draw(batch, sizes.tokens, width),
    }


def resolved(sizes: Sizes, work: Path, pipeline: str, dtype: str, batch: int, workspace: str = "") -> Resolved:
    """The digits job with another model, number format, batch size and device; ``workspace`` is cuBLAS's."""
    model = pipeline if pipeline.startswith("builtin:") else str(sd_like(sizes, work))
    file = ROOT / "jobs" / "digits.yaml"
    overrides = [
        f"pipeline.model={model}",
        f"pipeline.dtype={dtype}",
        f"batch_size={batch}",
        f"shard_size={2 * batch}",
        f"workers.gpus={int(sizes.device == 'cuda')}",
        f'determinism.cublas_workspace="{workspace or sizes.workspace}"',
    ]
    return resolve(Job.load(file, overrides), file)


def sampled(found: Resolved) -> Samples:
    """The items that probes and canaries run on."""
    return samples(found.job, found.plan, found.reader.read)


def sd_like(sizes: Sizes, work: Path) -> Path:
    """A ``StableDiffusionPipeline`` folder of real width and few layers, random weights; made once.

    Its parts beside UNet and text encoder are those of ``tests/tiny.py``.
    """
    folder = work / "sd-like"
    if not folder.exists():
        unfinished = work / "sd-like.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        pipe = StableDiffusionPipeline.from_pretrained(tiny.stable_diffusion(unfinished / "tiny"))
        _widen(pipe, sizes)
        pipe.save_pretrained(unfinished / "wide", safe_serialization=True)
        (unfinished / "wide").rename(folder)
    return folder


def _widen(pipe: StableDiffusionPipeline, sizes: Sizes) -> None:
    width = sizes.text_width
    text = pipe.text_encoder.config.to_dict() | {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "projection_dim": width,
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": sizes.tokens,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe.register_modules(
            text_encoder=CLIPTextModel(CLIPTextConfig(**text)), unet=UNet2DConditionModel(**sizes.made)
        )
    pipe.tokenizer.model_max_length = sizes.tokens
