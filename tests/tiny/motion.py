"""Tiny pipelines whose outputs last: video and sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    AutoencoderOobleck,
    CosineDPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import T5EncoderModel, UMT5Config, UMT5EncoderModel

from tiny.common import HIDDEN, MARKERS, save, seeded, small_tokenizer, t5_config


def wan(folder: Path) -> Path:
    """A ``WanPipeline``: video of 5 frames of 16x16 pixels, from latents of 4x2x4x4."""
    with seeded():
        tokenizer = small_tokenizer()
        vae = AutoencoderKLWan(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[True, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
            scale_factor_spatial=4,
        )
        transformer = WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=2 * HIDDEN,
            freq_dim=32,
            ffn_dim=32,
            num_layers=1,
            rope_max_seq_len=32,
        )
        pipeline = WanPipeline(
            tokenizer=tokenizer,
            text_encoder=UMT5EncoderModel(_umt5_config(len(tokenizer))),
            vae=vae,
            scheduler=UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
            ),
            transformer=transformer,
        )
        return save(pipeline, folder)


def ltx(folder: Path, **vae_config: Any) -> Path:
    """An ``LTXPipeline``: video of 9 frames of 32x32 pixels, from packed latents of 2x8x8 tokens of 8 numbers."""
    with seeded():
        tokenizer = small_tokenizer()
        transformer = LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=1,
            caption_channels=2 * HIDDEN,
        )
        vae = AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            patch_size=1,
            patch_size_t=1,
            **vae_config,
        )
        pipeline = LTXPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=vae,
            text_encoder=T5EncoderModel(t5_config(len(tokenizer))),
            tokenizer=tokenizer,
            transformer=transformer,
        )
        return save(pipeline, folder)


def stable_audio(folder: Path) -> Path:
    """A ``StableAudioPipeline``: stereo sound of up to 32 samples, from latents of 4x16."""
    with seeded():
        tokenizer = small_tokenizer()
        transformer = StableAudioDiTModel(
            sample_size=16,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            num_key_value_attention_heads=2,
            out_channels=4,
            cross_attention_dim=16,
            time_proj_dim=8,
            global_states_input_dim=16,
            cross_attention_input_dim=8,
        )
        vae = AutoencoderOobleck(
            encoder_hidden_size=6,
            downsampling_ratios=[1, 2],
            decoder_channels=4,
            decoder_input_channels=4,
            channel_multiples=[2, 4],
            sampling_rate=8,
        )
        projection = StableAudioProjectionModel(
            text_encoder_dim=2 * HIDDEN, conditioning_dim=8, min_value=0, max_value=32
        )
        pipeline = StableAudioPipeline(
            vae=vae,
            text_encoder=T5EncoderModel(t5_config(len(tokenizer))),
            projection_model=projection,
            tokenizer=tokenizer,
            transformer=transformer,
            scheduler=CosineDPMSolverMultistepScheduler(
                solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"
            ),
        )
        return save(pipeline, folder)


def _umt5_config(vocabulary: int) -> UMT5Config:
    return UMT5Config(
        vocab_size=vocabulary,
        d_model=2 * HIDDEN,
        d_kv=8,
        d_ff=HIDDEN,
        num_layers=1,
        num_heads=4,
        pad_token_id=MARKERS.index("<pad>"),
        eos_token_id=MARKERS.index("<end>"),
    )
