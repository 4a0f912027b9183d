"""Tiny pipelines with random weights: real diffusers classes, made in a second, and the same every time.

Each function writes a pipeline folder as ``save_pretrained`` does, and returns it. Components are made
in a fixed order from one seed; the caller's global generator is left as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DDIMPipeline,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    PriorTransformer,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UnCLIPPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

SEED = 0
CONTEXT = 16  # tokens a prompt is padded to
HIDDEN = 32  # of text, and of UnCLIP's image embeddings
MARKERS = ("<pad>", "<start>", "<unk>", "<end>")  # not 2 for the end: CLIP takes that id for an old mistake of its own
TEXT = (
    "a an the in on of and with red green blue small large circle square handwritten digit zero one two three four "
    "five six seven eight nine bear is playing guitar times horse riding cat dog"
)


def ddim(folder: Path) -> Path:
    """A ``DDIMPipeline``, as in the guide's first blocks: pictures of 16x16 pixels, without a prompt."""
    with _seeded():
        unet = UNet2DModel(
            sample_size=16,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=8,
        )
        return _save(DDIMPipeline(unet=unet, scheduler=DDIMScheduler()), folder)


def stable_diffusion(folder: Path) -> Path:
    """A ``StableDiffusionPipeline`` with the scheduler that Stable Diffusion 1.5 brings (PNDM): latents of 4x8x8."""
    with _seeded():
        tokenizer = _tokenizer()
        vae = _vae()
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=HIDDEN,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        scheduler = PNDMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            skip_prk_steps=True,
            steps_offset=1,
        )
        pipeline = StableDiffusionPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(_text_config(len(tokenizer))),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        return _save(pipeline, folder)


def unclip(folder: Path) -> Path:
    """An ``UnCLIPPipeline``: prior, decoder and two super-resolution UNets; pictures of 32x32 pixels.

    Its index names the library of ``text_proj`` as that of kakaobrain/karlo-v1-alpha does: ``unclip``. diffusers
    has moved this module since and finds it no more by itself, nor what it saves itself now.
    """
    with _seeded():
        tokenizer = _tokenizer()
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
            text_encoder=CLIPTextModelWithProjection(_text_config(len(tokenizer))),
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
        _save(pipeline, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["text_proj"] = ["unclip", "UnCLIPTextProjModel"]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return folder


def stable_diffusion_3(folder: Path) -> Path:
    """A ``StableDiffusion3Pipeline``, flow matching with a transformer and three text encoders: latents of 4x8x8.

    Pads prompts to fixed lengths. Its default ``max_sequence_length`` of 256 is far more than these texts need.
    """
    with _seeded():
        tokenizer = _tokenizer()
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
            vae=_vae(),
            text_encoder=CLIPTextModelWithProjection(_text_config(len(tokenizer))),
            tokenizer=tokenizer,
            text_encoder_2=CLIPTextModelWithProjection(_text_config(len(tokenizer))),
            tokenizer_2=tokenizer,
            text_encoder_3=T5EncoderModel(_t5_config(len(tokenizer))),
            tokenizer_3=tokenizer,
        )
        return _save(pipeline, folder)


def qwen_image(folder: Path) -> Path:
    """A ``QwenImagePipeline``, which pads prompts to the longest of the batch: latents of 16 patches of 16.

    An item's bits depend on its neighbours' lengths: the padding is masked, yet kernels sum over another number of
    tokens, and a batch of equal lengths is computed without any mask.
    """
    with _seeded():
        tokenizer = _tokenizer()
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
        return _save(pipeline, folder)


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield


def _save(pipeline: DiffusionPipeline, folder: Path) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )


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


def _text_config(vocabulary: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        projection_dim=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        pad_token_id=MARKERS.index("<pad>"),
        bos_token_id=MARKERS.index("<start>"),
        eos_token_id=MARKERS.index("<end>"),
    )


def _t5_config(vocabulary: int) -> T5Config:
    return T5Config(
        vocab_size=vocabulary,
        d_model=2 * HIDDEN,
        d_kv=8,
        d_ff=HIDDEN,
        num_layers=2,
        num_heads=4,
        pad_token_id=MARKERS.index("<pad>"),
        eos_token_id=MARKERS.index("<end>"),
    )


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


def _tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; words it does not know become ``<unk>``."""
    vocabulary = {word: number for number, word in enumerate([*MARKERS, *TEXT.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(m, vocabulary[m]) for m in ("<start>", "<end>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unk>",
        model_max_length=CONTEXT,
    )
