"""Pipelines that refuse a batch or a list of generators are found out, told of, and called as they want to be."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import tiny
from local import PROMPTS, made, write_job
from reprobatch import contract
from reprobatch.errors import JobError
from reprobatch.regenerate import Regenerator
from reprobatch.resolve import load
from reprobatch.worker import Worker


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusals")
    tiny.ltx(folder / "ltx", timestep_conditioning=True)
    tiny.kandinsky_emb2emb(folder / "kandinsky")
    tiny.stable_diffusion(folder / "stable_diffusion")
    pictures = [png(number) for number in range(len(PROMPTS))]
    pq.write_table(pa.table({"prompt": PROMPTS, "image": pictures}), folder / "pictures.parquet")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return folder


ITEMS = {"prompts": "pictures.parquet", "images": ["image"]}
JOBS: dict[str, dict[str, Any]] = {
    "ltx": {
        "pipeline": {"model": "ltx", "class_name": "LTXImageToVideoPipeline"},
        "call": {
            "num_inference_steps": 2,
            "height": 32,
            "width": 32,
            "num_frames": 9,
            "max_sequence_length": 16,
            "decode_timestep": 0.05,
            "decode_noise_scale": 0.025,
        },
        "items": ITEMS,
        "output": "frames",
    },
    "kandinsky": {
        "pipeline": {"model": "kandinsky"},
        "call": {"num_inference_steps": 4, "strength": 0.9, "negative_prompt": "a dog"},
        "items": ITEMS,
        "output": "image_embeds",
    },
}
REFUSED = {
    "ltx": "LTXImageToVideoPipeline refuses a batch of 4 (TypeError: randn() received an invalid combination",
    "kandinsky": "KandinskyV22PriorEmb2EmbPipeline refuses a batch of 4 (IndexError: list index out of range)",
}


@pytest.mark.parametrize("name", JOBS)
def test_a_batch_that_is_refused_is_said_with_why_and_what_to_do(folder: Path, name: str) -> None:
    resolved = load(write_job(folder / f"{name}-4.yaml", **JOBS[name]))
    worker = Worker(resolved.job, resolved.model_hint)
    with pytest.raises(JobError) as refused:
        worker.canary(contract.samples(resolved.job, resolved.plan, resolved.reader.read).first)
    assert str(refused.value).startswith(REFUSED[name])
    assert str(refused.value).endswith("and takes one item a call; set batch_size: 1")


@pytest.mark.parametrize("name", JOBS)
def test_with_batches_of_one_it_runs_and_items_come_back(folder: Path, name: str, tmp_path: Path) -> None:
    stored = made(write_job(folder / f"{name}-1.yaml", **JOBS[name], batch_size=1), tmp_path / "made")
    measured = contract.Contract.from_dict(stored.manifest["contract"])
    assert not measured.broken and len({record.checksum for record in stored}) == len(stored)
    for index in (0, 4):
        for alone in (False, True):
            assert Regenerator(stored)(index, alone=alone).comparison.verdict == "identical"
    wants = "called with one generator instead of lists, which it refuses (TypeError: randn() received an invalid"
    assert [note[: len(wants)] for note in measured.notes] == ([wants] if name == "ltx" else [])
    assert ("note: called with one generator" in measured.table()) == (name == "ltx")


def test_an_item_that_fails_by_itself_is_no_refusal_of_batches(folder: Path) -> None:
    resolved = load(write_job(folder / "bad.yaml", **{**JOBS["kandinsky"], "call": {"num_inference_steps": 4}}))
    worker = Worker(resolved.job, resolved.model_hint)
    pipe, items = worker._pipeline.pipe, resolved.reader.read(0, 4)
    encode = pipe._encode_prompt

    def fails_on_the_cat(prompt: list[str], *rest: Any) -> Any:
        if "the cat" in prompt:
            raise ValueError("no cats")
        return encode(prompt, *rest)

    pipe._encode_prompt = fails_on_the_cat
    with pytest.raises(ValueError, match=r"^no cats$"):
        worker.canary(list(enumerate(items)))


def test_want_of_memory_is_no_refusal_of_batches(folder: Path) -> None:
    resolved = load(write_job(folder / "large.yaml", **{**JOBS["kandinsky"], "call": {"num_inference_steps": 4}}))
    worker = Worker(resolved.job, resolved.model_hint)
    calls: list[int] = []

    def too_large(prompt: list[str], *rest: Any) -> Any:
        calls.append(len(prompt))
        raise torch.OutOfMemoryError("out of memory")

    worker._pipeline.pipe._encode_prompt = too_large
    with pytest.raises(torch.OutOfMemoryError):
        worker.canary(list(enumerate(resolved.reader.read(0, 4))))
    assert set(calls) == {4}  # smaller batches are not tried behind the author's back


def test_noise_that_a_job_draws_is_the_noise_that_the_pipeline_would_draw(folder: Path) -> None:
    job = {
        "pipeline": {"model": "stable_diffusion", "scheduler": "DDIMScheduler"},
        "call": {"num_inference_steps": 2},
        "items": {"prompts": "prompts.txt"},
    }
    drawn = load(write_job(folder / "noise.yaml", **job, noise={"latents": [4, 8, 8]}))
    plain = load(write_job(folder / "plain.yaml", **job))
    found = [
        Worker(resolved.job, resolved.model_hint).batch(resolved.reader.read(0, 4), [1, 2, 3, 4])
        for resolved in (drawn, plain)
    ]
    assert found[0] == found[1]
    assert drawn.job.digest != plain.job.digest and '"noise"' not in plain.job.canonical


@pytest.mark.parametrize(
    "noise, said",
    [
        ({"latent": [4, 8, 8]}, "takes no argument 'latent' (did you mean 'latents'?)"),
        ({"prompt": [4]}, "'prompt' is drawn as noise and set in call or a column of the items"),
        ({"latents": [0]}, "noise.latents.0: expected a number of at least 1"),
        ({"generator": [4]}, "'generator' cannot be set here"),
    ],
)
def test_noise_that_cannot_be_drawn_is_refused(folder: Path, noise: dict[str, Any], said: str) -> None:
    spec = {"pipeline": {"model": "stable_diffusion"}, "items": {"prompts": "prompts.txt"}, "noise": noise}
    with pytest.raises(JobError) as refused:
        resolved = load(write_job(folder / "wrong.yaml", **spec))
        Worker(resolved.job, resolved.model_hint)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "output, said",
    [
        ("audios", "StableDiffusionPipeline gives 'images', not 'audios'; correct 'output'"),
        ("frames", "StableDiffusionPipeline gives 'images', not 'frames'; correct 'output'"),
    ],
)
def test_an_output_that_the_pipeline_does_not_have_is_said_with_those_it_has(
    folder: Path, output: str, said: str
) -> None:
    job = {"pipeline": {"model": "stable_diffusion"}, "items": {"prompts": "prompts.txt"}, "output": output}
    resolved = load(write_job(folder / "output.yaml", **job))
    with pytest.raises(JobError) as refused:
        Worker(resolved.job, resolved.model_hint).canary([(0, {"prompt": "a dog"})])
    assert said in str(refused.value)


def test_latents_of_a_pipeline_that_takes_no_notice_of_output_type_are_refused(tmp_path: Path) -> None:
    tiny.dit(tmp_path / "dit")
    job = {"pipeline": {"model": "dit"}, "call": {"class_labels": 1}, "items": {"count": 4}}
    resolved = load(write_job(tmp_path / "job.yaml", **job))
    with pytest.raises(JobError, match="DiTPipeline gives no latents; set output: images"):
        Worker(resolved.job, resolved.model_hint).canary([(0, {})])


def test_sound_is_no_picture(tmp_path: Path) -> None:
    tiny.stable_audio(tmp_path / "audio")
    job = {"pipeline": {"model": "audio"}, "call": {"prompt": "a dog", "audio_end_in_s": 2.0}, "items": {"count": 4}}
    resolved = load(write_job(tmp_path / "job.yaml", **job, output="pixels"))
    with pytest.raises(JobError, match="StableAudioPipeline gives 'audios', which is no picture; set output: audios"):
        Worker(resolved.job, resolved.model_hint).canary([(0, {})])


def test_bits_with_a_bare_generator_are_those_of_plain_diffusers(folder: Path) -> None:
    resolved = load(write_job(folder / "ltx-plain.yaml", **JOBS["ltx"], batch_size=1))
    items = resolved.reader.read(2, 3)
    [output] = Worker(resolved.job, resolved.model_hint).batch(items, [7])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    import diffusers

    pipe = diffusers.LTXImageToVideoPipeline.from_pretrained(folder / "ltx")
    pipe.set_progress_bar_config(disable=True)
    picture = Image.open(io.BytesIO(png(2)))
    generator = torch.Generator().manual_seed(7)
    expected = pipe(image=picture, prompt=PROMPTS[2], generator=generator, output_type="np", **JOBS["ltx"]["call"])
    torch.set_num_threads(threads)
    assert output.data == expected.frames[0].tobytes()
