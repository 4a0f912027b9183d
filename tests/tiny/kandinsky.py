"""Kandinsky 2.2's prior that starts from a picture's embedding."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import KandinskyV22PriorEmb2EmbPipeline, PriorTransformer, UnCLIPScheduler
from transformers import (
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from tiny.common import CONTEXT, HIDDEN, save, seeded, small_tokenizer, text_config


def kandinsky_emb2emb(folder: Path) -> Path:
    """A ``KandinskyV22PriorEmb2EmbPipeline``: from a picture and a prompt to an embedding of 32 numbers."""
    with seeded():
        tokenizer = small_tokenizer()
        prior = PriorTransformer(
            num_attention_heads=2, attention_head_dim=12, num_layers=1, embedding_dim=HIDDEN, num_embeddings=CONTEXT
        )
        torch.nn.init.ones_(prior.clip_std)  # zeros as made: the prior's noise would have no effect
        eye = CLIPVisionConfig(
            hidden_size=HIDDEN,
            intermediate_size=HIDDEN,
            projection_dim=HIDDEN,
            num_hidden_layers=1,
            num_attention_heads=4,
            image_size=16,
            patch_size=8,
        )
        pipeline = KandinskyV22PriorEmb2EmbPipeline(
            prior=prior,
            image_encoder=CLIPVisionModelWithProjection(eye),
            text_encoder=CLIPTextModelWithProjection(text_config(len(tokenizer))),
            tokenizer=tokenizer,
            scheduler=UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0),
            image_processor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        )
        return save(pipeline, folder)
