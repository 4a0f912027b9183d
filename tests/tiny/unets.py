"""Tiny pipelines around a UNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    ConsistencyModelPipeline,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PNDMScheduler,
    PriorTransformer,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UnCLIPPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tiny.common import (
    CONTEXT,
    HIDDEN,
    edit_index,
    save,
    seeded,
    small_tokenizer,
    small_unet,
    small_vae,
    text_config,
)


def ddim(folder: Path) -> Path:
    """A ``DDIMPipeline``, as in the guide's first blocks: pictures of 16x16 pixels, without a prompt."""
    with seeded():
        return save(DDIMPipeline(unet=_plain_unet(), scheduler=DDIMScheduler()), folder)


def stable_diffusion(folder: Path) -> Path:
    """A ``StableDiffusionPipeline`` with the scheduler that Stable Diffusion 1.5 brings (PNDM): latents of 4x8x8."""
    with seeded():
        tokenizer = small_tokenizer()
        vae = small_vae()
        unet = small_unet()
        scheduler = PNDMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            skip_prk_steps=True,
            steps_offset=1,
        )
        pipeline = StableDiffusionPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(text_config(len(tokenizer))),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        return save(pipeline, folder)


def stable_diffusion_xl(folder: Path) -> Path:
    """A ``StableDiffusionXLPipeline``: two text encoders side by side, sizes as conditions; latents of 4x8x8."""
    with seeded():
        tokenizer = small_tokenizer()
        unet = small_unet(
            cross_attention_dim=2 * HIDDEN,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + HIDDEN,
        )
        pipeline = StableDiffusionXLPipeline(
            vae=small_vae(),
            text_encoder=CLIPTextModel(text_config(len(tokenizer))),
            text_encoder_2=CLIPTextModelWithProjection(text_config(len(tokenizer))),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=unet,
            scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
            add_watermarker=False,
        )
        return save(pipeline, folder)


def latent_consistency(folder: Path) -> Path:
    """A ``LatentConsistencyModelPipeline``: few steps, noise between them; latents of 4x8x8."""
    with seeded():
        tokenizer = small_tokenizer()
        pipeline = LatentConsistencyModelPipeline(
            vae=small_vae(),
            text_encoder=CLIPTextModel(text_config(len(tokenizer))),
            tokenizer=tokenizer,
            unet=small_unet(time_cond_proj_dim=16),
            scheduler=LCMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        return save(pipeline, folder)


def ddpm(folder: Path) -> Path:
    """A ``DDPMPipeline``: noise at every step, pictures of 16x16 pixels."""
    with seeded():
        return save(DDPMPipeline(unet=_plain_unet(), scheduler=DDPMScheduler()), folder)


def consistency(folder: Path) -> Path:
    """A ``ConsistencyModelPipeline`` with class labels: pictures of 16x16 pixels in one step or a few."""
    with seeded():
        unet = _plain_unet(num_class_embeds=10)
        return save(ConsistencyModelPipeline(unet=unet, scheduler=CMStochasticIterativeScheduler()), folder)


def unclip(folder: Path) -> Path:
    """An ``UnCLIPPipeline``: prior, decoder and two super-resolution UNets; pictures of 32x32 pixels.

    Its index names the library of ``text_proj`` as that of kakaobrain/karlo-v1-alpha does: ``unclip``. diffusers
    has moved this module since and finds it no more by itself, nor what it saves itself now.
    """
    with seeded():
        tokenizer = small_tokenizer()
        width, context = 32, 4 * HIDDEN
        prior = PriorTransformer(
            num_attention_heads=2, attention_head_dim=12, num_layers=1, embedding_dim=HIDDEN, num_embeddings=CONTEXT
        )
        torch.nn.init.ones_(prior.clip_std)  # zeros as made: the prior's noise would have no effect
        decoder = UNet2DConditionModel(
            sample_size=16,
            in_channels=3,
            out_channels=6,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            block_out_channels=(width, 2 * width),
            layers_per_block=1,
            cross_attention_dim=context,
            attention_head_dim=4,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        )
        pipeline = UnCLIPPipeline(
            prior=prior,
            decoder=decoder,
            text_encoder=CLIPTextModelWithProjection(text_config(len(tokenizer))),
            tokenizer=tokenizer,
            text_proj=UnCLIPTextProjModel(
                clip_embeddings_dim=HIDDEN, time_embed_dim=4 * width, cross_attention_dim=context
            ),
            super_res_first=_super_resolution(width),
            super_res_last=_super_resolution(width),
            prior_scheduler=UnCLIPScheduler(
                variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
            ),
            decoder_scheduler=UnCLIPScheduler(variance_type="learned_range"),
            super_res_scheduler=UnCLIPScheduler(variance_type="fixed_small_log"),
        )
        save(pipeline, folder)
    return edit_index(folder, text_proj=["unclip", "UnCLIPTextProjModel"])


def _super_resolution(width: int) -> UNet2DModel:
    return UNet2DModel(
        sample_size=32,
        in_channels=6,
        out_channels=3,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
    )


def _plain_unet(**config: Any) -> UNet2DModel:
    return UNet2DModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        **config,
    )
