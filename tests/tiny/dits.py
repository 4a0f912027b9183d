"""Tiny pipelines around a transformer, for pictures."""

from __future__ import annotations

from pathlib import Path

from diffusers import (
    AutoencoderDC,
    AutoencoderKLQwenImage,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    T5EncoderModel,
)

from tiny.common import (
    HIDDEN,
    MARKERS,
    guided_scheduler,
    save,
    seeded,
    small_tokenizer,
    small_vae,
    t5_config,
    text_config,
)


def stable_diffusion_3(folder: Path) -> Path:
    """A ``StableDiffusion3Pipeline``, flow matching with a transformer and three text encoders: latents of 4x8x8.

    Pads prompts to fixed lengths. Its default ``max_sequence_length`` of 256 is far more than these texts need.
    """
    with seeded():
        tokenizer = small_tokenizer()
        transformer = SD3Transformer2DModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            patch_size=2,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=2 * HIDDEN,  # the two CLIPs' side by side, which T5 is as wide as
            caption_projection_dim=32,
            pooled_projection_dim=2 * HIDDEN,
            pos_embed_max_size=8,
        )
        pipeline = StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=small_vae(),
            text_encoder=CLIPTextModelWithProjection(text_config(len(tokenizer))),
            tokenizer=tokenizer,
            text_encoder_2=CLIPTextModelWithProjection(text_config(len(tokenizer))),
            tokenizer_2=tokenizer,
            text_encoder_3=T5EncoderModel(t5_config(len(tokenizer))),
            tokenizer_3=tokenizer,
        )
        return save(pipeline, folder)


def qwen_image(folder: Path) -> Path:
    """A ``QwenImagePipeline``, which pads prompts to the longest of the batch: latents of 16 patches of 16.

    An item's bits depend on its neighbours' lengths: the padding is masked, yet kernels sum over another number of
    tokens, and a batch of equal lengths is computed without any mask.
    """
    with seeded():
        tokenizer = small_tokenizer()
        transformer = QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=HIDDEN,
            axes_dims_rope=(8, 4, 4),
        )
        vae = AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        )
        pipeline = QwenImagePipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            vae=vae,
            text_encoder=Qwen2_5_VLForConditionalGeneration(_qwen_config(len(tokenizer))),
            tokenizer=tokenizer,
        )
        return save(pipeline, folder)


def _qwen_config(vocabulary: int) -> Qwen2_5_VLConfig:
    """Its eye is as small as can be: prompts alone never open it."""
    text = {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        "pad_token_id": MARKERS.index("<pad>"),
        "bos_token_id": MARKERS.index("<start>"),
        "eos_token_id": MARKERS.index("<end>"),
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": HIDDEN}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision)


def flux(folder: Path) -> Path:
    """A ``FluxPipeline``, flow matching: latents of 16 patches of 16 numbers, two text encoders."""
    with seeded():
        tokenizer = small_tokenizer()
        transformer = FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=2 * HIDDEN,
            pooled_projection_dim=HIDDEN,
            axes_dims_rope=(4, 4, 8),
        )
        pipeline = FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=small_vae(),
            text_encoder=CLIPTextModel(text_config(len(tokenizer))),
            tokenizer=tokenizer,
            text_encoder_2=T5EncoderModel(t5_config(len(tokenizer))),
            tokenizer_2=tokenizer,
            transformer=transformer,
        )
        return save(pipeline, folder)


def pixart_sigma(folder: Path) -> Path:
    """A ``PixArtSigmaPipeline``: T5 text with a mask over its padding; latents of 4x8x8."""
    with seeded():
        tokenizer = small_tokenizer()
        transformer = PixArtTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_channels=2 * HIDDEN,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=32,
            use_additional_conditions=False,
        )
        pipeline = PixArtSigmaPipeline(
            tokenizer=tokenizer,
            text_encoder=T5EncoderModel(t5_config(len(tokenizer))),
            vae=small_vae(),
            transformer=transformer,
            scheduler=guided_scheduler(),
        )
        return save(pipeline, folder)


def sana(folder: Path) -> Path:
    """A ``SanaPipeline``: Gemma reads the text, linear attention; latents of 4x16x16."""
    with seeded():
        tokenizer = small_tokenizer()
        transformer = SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=HIDDEN,
            sample_size=16,
        )
        vae = AutoencoderDC(
            latent_channels=4,
            attention_head_dim=4,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            scaling_factor=0.41,
        )
        pipeline = SanaPipeline(
            tokenizer=tokenizer,
            text_encoder=Gemma2Model(_gemma_config(len(tokenizer))),
            vae=vae,
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
        return save(pipeline, folder)


def dit(folder: Path) -> Path:
    """A ``DiTPipeline``: class labels instead of prompts, pictures of 16x16 pixels."""
    with seeded():
        transformer = DiTTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=4,
            in_channels=4,
            out_channels=8,
            num_embeds_ada_norm=1000,  # the pipeline takes class 1000 for none
        )
        return save(DiTPipeline(transformer=transformer, vae=small_vae(), scheduler=guided_scheduler()), folder)


def _gemma_config(vocabulary: int) -> Gemma2Config:
    return Gemma2Config(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        head_dim=8,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_hidden_layers=1,
        pad_token_id=MARKERS.index("<pad>"),
        bos_token_id=MARKERS.index("<start>"),
        eos_token_id=MARKERS.index("<end>"),
    )
