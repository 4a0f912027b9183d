"""Tiny pipelines with random weights: real diffusers classes, made in a second, and the same every time.

Each function writes a pipeline folder as ``save_pretrained`` does, and returns it. Components are made
in a fixed order from one seed; the caller's global generator is left as it was.
"""

from tiny.common import edit_index
from tiny.dits import dit, flux, pixart_sigma, qwen_image, sana, stable_diffusion_3
from tiny.extras import controlnet, image_encoder, ip_adapter, lora, textual_inversion
from tiny.kandinsky import kandinsky_emb2emb
from tiny.motion import ltx, stable_audio, wan
from tiny.unets import (
    consistency,
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
    "edit_index",
    "flux",
    "image_encoder",
    "ip_adapter",
    "kandinsky_emb2emb",
    "latent_consistency",
    "lora",
    "ltx",
    "pixart_sigma",
    "qwen_image",
    "sana",
    "stable_audio",
    "stable_diffusion",
    "stable_diffusion_3",
    "stable_diffusion_xl",
    "textual_inversion",
    "unclip",
    "wan",
]
