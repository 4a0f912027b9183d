"""What the tiny pipelines share: seeding, saving, a tokenizer, a VAE, a UNet, configurations of text encoders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, PreTrainedTokenizerFast, T5Config

SEED = 0
CONTEXT = 16  # tokens a prompt is padded to
HIDDEN = 32  # of text, and of UnCLIP's image embeddings
MARKERS = ("<pad>", "<start>", "<unk>", "<end>")  # not 2 for the end: CLIP takes that id for an old mistake of its own
TEXT = (
    "a an the in on of and with red green blue small large circle square handwritten digit zero one two three four "
    "five six seven eight nine bear is playing guitar times horse riding cat dog"
)


@contextmanager
def seeded(seed: int = SEED) -> Iterator[None]:
    """Weights from one seed, the caller's global generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def save(pipeline: DiffusionPipeline, folder: Path) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def small_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )


def text_config(vocabulary: int) -> CLIPTextConfig:
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


def t5_config(vocabulary: int) -> T5Config:
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


def small_tokenizer() -> PreTrainedTokenizerFast:
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


def guided_scheduler() -> DDIMScheduler:
    """DDIM with the betas of Stable Diffusion."""
    return DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)


def small_unet(**config: Any) -> UNet2DConditionModel:
    """Of two blocks, the second with attention to text of ``HIDDEN`` numbers a token."""
    settings = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": HIDDEN,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**settings, **config})


def edit_index(folder: Path, **entries: Any) -> Path:
    """Change entries of a pipeline folder's ``model_index.json``."""
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}, indent=2, sort_keys=True) + "\n")
    return folder
