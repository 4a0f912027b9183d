"""Tiny pipelines with random weights: real diffusers classes, made in a second, and the same every time.

Each function writes a pipeline folder as ``save_pretrained`` does, and returns it. Components are made
in a fixed order from one seed; the caller's global generator is left as it was.
"""

from tiny.dits import dit, flux, pixart_sigma, qwen_image, sana, stable_diffusion_3
from tiny.motion import ltx, stable_audio, wan
from tiny.unets import (
    consistency,
    controlnet,
    ddim,
    ddpm,
    latent_consistency,
    stable_diffusion,
    stable_diffusion_xl,
    unclip,
)

__all__ = [
    "consistency",
    "controlnet",
    "ddim",
    "ddpm",
    "dit",
    "flux",
    "latent_consistency",
    "ltx",
    "pixart_sigma",
    "qwen_image",
    "sana",
    "stable_audio",
    "stable_diffusion",
    "stable_diffusion_3",
    "stable_diffusion_xl",
    "unclip",
    "wan",
]
