"""What people put into :func:`tiny.stable_diffusion`: a ControlNet, LoRAs, a new word, an IP-Adapter and its eye."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tiny.common import HIDDEN, seeded, small_unet


def controlnet(folder: Path) -> Path:
    """A ``ControlNetModel`` on its own, as people load it beside a pipeline."""
    with seeded():
        model = ControlNetModel(
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            layers_per_block=1,
            cross_attention_dim=HIDDEN,
            attention_head_dim=4,
            norm_num_groups=8,
            conditioning_embedding_out_channels=(8, 16),
        )
        # zeros as made: the picture would have no effect
        zeros = [*model.controlnet_down_blocks, model.controlnet_mid_block, model.controlnet_cond_embedding.conv_out]
        for block in zeros:
            torch.nn.init.normal_(block.weight, std=0.2)
        model.save_pretrained(folder)
    return folder


def lora(file: Path, seed: int = 0) -> Path:
    """A LoRA of the UNet's attention, in diffusers' format."""
    with seeded(seed):
        unet = small_unet()
        unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
        StableDiffusionPipeline.save_lora_weights(
            file.parent, unet_lora_layers=get_peft_model_state_dict(unet), weight_name=file.name
        )
    return file


def textual_inversion(file: Path, token: str = "<thing>") -> Path:
    """What one new word means."""
    with seeded():
        save_file({token: torch.randn(HIDDEN)}, file)
    return file


def ip_adapter(file: Path) -> Path:
    """An IP-Adapter of four tokens a picture."""
    tokens = 4
    with seeded():
        weights = {
            "image_proj.proj.weight": torch.randn(tokens * HIDDEN, HIDDEN) / HIDDEN**0.5,
            "image_proj.proj.bias": torch.zeros(tokens * HIDDEN),
            "image_proj.norm.weight": torch.ones(HIDDEN),
            "image_proj.norm.bias": torch.zeros(HIDDEN),
        }
        unet, number = small_unet(), 1
        for name in unet.attn_processors:
            if "attn2" in name:  # across to the text; the picture's tokens are attended to beside it
                width = 16 if "up_blocks.1" in name else 32
                for part in ("k", "v"):
                    weights[f"ip_adapter.{number}.to_{part}_ip.weight"] = torch.randn(width, HIDDEN) / HIDDEN**0.5
                number += 2
        save_file(weights, file)
    return file


def image_encoder(folder: Path) -> Path:
    """A ``CLIPVisionModelWithProjection`` for pictures of 16x16 pixels."""
    with seeded():
        config = CLIPVisionConfig(
            hidden_size=HIDDEN,
            intermediate_size=HIDDEN,
            projection_dim=HIDDEN,
            num_hidden_layers=1,
            num_attention_heads=4,
            image_size=16,
            patch_size=8,
        )
        CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder
