"""Pipelines that nothing in reprobatch knows of run from a job file: AuraFlow, Marigold's depth, Latte's video."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    LattePipeline,
    LatteTransformer3DModel,
    MarigoldDepthPipeline,
)
from PIL import Image
from transformers import CLIPTextModel, T5EncoderModel

import oracle
from local import PROMPTS, made, write_job
from reprobatch.contract import Contract
from reprobatch.dataset import Dataset
from reprobatch.regenerate import Regenerator
from tiny.common import (
    HIDDEN,
    guided_scheduler,
    save,
    seeded,
    small_tokenizer,
    small_unet,
    small_vae,
    t5_config,
    text_config,
)


def aura_flow(folder: Path) -> Path:
    with seeded():
        tokenizer = small_tokenizer()
        transformer = AuraFlowTransformer2DModel(
            sample_size=8,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=2 * HIDDEN,
            caption_projection_dim=32,
            pos_embed_max_size=64,
        )
        text_encoder = T5EncoderModel(t5_config(len(tokenizer)))
        scheduler = FlowMatchEulerDiscreteScheduler()
        return save(AuraFlowPipeline(tokenizer, text_encoder, small_vae(), transformer, scheduler), folder)


def marigold(folder: Path) -> Path:
    with seeded():
        tokenizer = small_tokenizer()
        text_encoder = CLIPTextModel(text_config(len(tokenizer)))
        pipeline = MarigoldDepthPipeline(
            unet=small_unet(in_channels=8),
            vae=small_vae(),
            scheduler=guided_scheduler(),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            prediction_type="depth",
            scale_invariant=True,
            shift_invariant=True,
            default_denoising_steps=2,
            default_processing_resolution=0,
        )
        return save(pipeline, folder)


def latte(folder: Path) -> Path:
    with seeded():
        tokenizer = small_tokenizer()
        transformer = LatteTransformer3DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_channels=2 * HIDDEN,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=32,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
            video_length=2,
        )
        text_encoder = T5EncoderModel(t5_config(len(tokenizer)))
        return save(LattePipeline(tokenizer, text_encoder, small_vae(), transformer, guided_scheduler()), folder)


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [png(number) for number in range(len(PROMPTS))]
STRANGERS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "AuraFlow": (
        aura_flow,
        {
            "call": {"num_inference_steps": 2, "height": 16, "width": 16, "max_sequence_length": 16},
            "items": {"prompts": "prompts.txt"},
        },
    ),
    "Marigold": (
        marigold,
        {
            "call": {"num_inference_steps": 2, "processing_resolution": 0},
            "items": {"prompts": "pictures.parquet", "images": ["image"]},
            "output": "prediction",
        },
    ),
    "Latte": (
        latte,
        {
            "call": {"num_inference_steps": 2, "height": 16, "width": 16, "video_length": 2, "clean_caption": False},
            "items": {"prompts": "prompts.txt"},
            "output": "frames",
        },
    ),
}


@pytest.fixture(scope="module", params=STRANGERS)
def stranger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Dataset, Path]:
    folder = tmp_path_factory.mktemp("stranger")
    make, job = STRANGERS[request.param]
    make(folder / "model")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    pq.write_table(pa.table({"image": PICTURES}), folder / "pictures.parquet")
    path = write_job(folder / "job.yaml", pipeline={"model": "model"}, **job)
    return request.param, made(path, folder / "dataset"), folder / "model"


def test_every_item_comes_back(stranger: tuple[str, Dataset, Path]) -> None:
    _, stored, _ = stranger
    measured = Contract.from_dict(stored.manifest["contract"])
    assert not measured.broken
    regenerator = Regenerator(stored)
    for index in (1, 4):
        for alone in (False, True):
            again = regenerator(index, alone=alone)
            assert again.comparison.verdict == "identical"
            assert again.method == ("alone" if alone and measured["alone"].holds else "replay")
    assert len({record.checksum for record in stored}) == len(stored)


def test_plain_diffusers_gets_the_stored_bytes(stranger: tuple[str, Dataset, Path]) -> None:
    name, stored, model = stranger

    def given(batch: list[dict[str, Any]]) -> dict[str, Any]:
        pictures = [Image.open(io.BytesIO(PICTURES[row["index"]])) for row in batch]
        return {"image": pictures} if name == "Marigold" else {}

    threads = torch.get_num_threads()
    counts = oracle.compare(Path(stored.store.address), oracle.load(stored.job.as_dict(), model), given)
    torch.set_num_threads(threads)
    assert counts == (len(PROMPTS), 0)
