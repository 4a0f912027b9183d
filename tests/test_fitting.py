"""What makes a pipeline fit its machine is part of the job: dtypes, slicing, tiling, offloading, quantisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import diffusers
import pytest
import torch

import tiny
from local import PROMPTS, stable_diffusion_folder, write_job
from reprobatch import contract, loading
from reprobatch.contract import INFORMATION, QUESTIONS
from reprobatch.errors import JobError
from reprobatch.record import Output
from reprobatch.resolve import Resolved, load
from reprobatch.worker import Worker

SEEDS = [1, 2, 3, 4]
CALL = {"num_inference_steps": 2, "height": 32, "width": 32, "guidance_scale": 1.0}
PLAIN: dict[str, Any] = {}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "vae tiling": {"memory": {"vae_tiling": True}},
    "vae slicing": {"memory": {"vae_slicing": True}},
    "attention slicing": {"memory": {"attention_slicing": 1}},
    "bfloat16": {"dtype": "bfloat16"},
}
HELD = [name for name in QUESTIONS if name not in (*INFORMATION, "fresh_process")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion_folder(tmp_path_factory.mktemp("fitting"))


def pinned(folder: Path, pipeline: dict[str, Any], **parts: Any) -> Resolved:
    spec = {"model": "model", "scheduler": "DDIMScheduler", **pipeline}
    job = {"pipeline": spec, "call": CALL, "items": {"prompts": "prompts.txt"}, "output": "pixels", **parts}
    return load(write_job(folder / "job.yaml", **job))


def plain(folder: Path, option: str) -> list[bytes]:
    """The same batch by whoever calls diffusers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    dtype = torch.bfloat16 if option == "bfloat16" else torch.float32
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder / "model", dtype=dtype)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    if option == "vae tiling":
        pipe.vae.enable_tiling()
    if option == "vae slicing":
        pipe.vae.enable_slicing()
    if option == "attention slicing":
        pipe.enable_attention_slicing(1)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    images = pipe(prompt=list(PROMPTS[:4]), generator=generators, output_type="np", **CALL).images
    torch.set_num_threads(threads)
    return [image.tobytes() for image in images]


@pytest.fixture(scope="module")
def unchanged(folder: Path) -> list[Output]:
    resolved = pinned(folder, PLAIN)
    return Worker(resolved.job, resolved.model_hint).batch(resolved.reader.read(0, 4), SEEDS)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_gives_the_bits_that_diffusers_gives_with_it_and_its_contract_is_measured(
    folder: Path, unchanged: list[Output], option: str
) -> None:
    resolved = pinned(folder, OPTIONS[option])
    worker = Worker(resolved.job, resolved.model_hint)
    made = worker.batch(resolved.reader.read(0, 4), SEEDS)
    assert [output.data for output in made] == plain(folder, option)
    assert (made == unchanged) == (option == "plain")  # each of them is another job for good reason
    found = worker.probe(contract.samples(resolved.job, resolved.plan, resolved.reader.read), fresh=False)
    assert {name: found[name].holds for name in HELD} == dict.fromkeys(HELD, True)


def test_each_option_is_another_job_and_none_of_them_the_same_as_before(folder: Path) -> None:
    jobs = {option: pinned(folder, spec).job for option, spec in OPTIONS.items()}
    assert len({job.digest for job in jobs.values()}) == len(jobs)
    defaults = {"dtypes": {}, "memory": {}, "adapters": [], "components": {}, "quantization": None}
    assert pinned(folder, defaults).job.digest == jobs["plain"].digest
    assert not {"dtypes", "memory", "quantization"} & set(jobs["plain"].as_dict()["pipeline"])


def test_components_of_wan_keep_their_dtypes(tmp_path: Path) -> None:
    """As its authors run it: a VAE in float32 beside a transformer in bfloat16."""
    tiny.wan(tmp_path / "model")
    call = {"num_inference_steps": 2, "height": 16, "width": 16, "num_frames": 5, "max_sequence_length": 16}
    pipeline = {"model": "model", "dtype": "bfloat16", "dtypes": {"vae": "float32"}}
    spec = {"pipeline": pipeline, "call": {**call, "prompt": "a dog"}, "items": {"count": 4}, "output": "frames"}
    resolved = load(write_job(tmp_path / "job.yaml", **spec))
    worker = Worker(resolved.job, resolved.model_hint)
    pipe = worker._pipeline.pipe
    assert (pipe.vae.dtype, pipe.transformer.dtype, pipe.text_encoder.dtype) == (
        torch.float32,
        torch.bfloat16,
        torch.bfloat16,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    dtypes = {"vae": torch.float32, "default": torch.bfloat16}
    plainly = diffusers.WanPipeline.from_pretrained(tmp_path / "model", dtype=dtypes)
    plainly.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    frames = plainly(prompt=["a dog"] * 4, generator=generators, output_type="np", **call).frames
    torch.set_num_threads(threads)
    assert [output.data for output in worker.batch([{}] * 4, SEEDS)] == [video.tobytes() for video in frames]


@pytest.mark.parametrize(
    "pipeline, parts, said",
    [
        ({"memory": {"offload": "model"}}, {}, "pipeline.memory.offload needs a GPU, found workers.gpus 0; give GPUs"),
        ({"memory": {"offload": "sequential"}}, {}, "pipeline.memory.offload needs a GPU, found workers.gpus 0"),
        ({"memory": {"device_map": "balanced"}}, {}, "pipeline.memory.device_map needs a GPU, found workers.gpus 0"),
        (
            {"memory": {"device_map": "balanced", "offload": "model"}},
            {"workers": {"gpus": 2}},
            "expected one of 'offload' and 'device_map', found both",
        ),
        ({"memory": {"offload": "disk"}}, {"workers": {"gpus": 1}}, "expected 'model' or 'sequential'"),
        ({"memory": {"attention_slicing": 0}}, {}, "expected auto, max or a whole number of at least 1, found 0"),
        (
            {"class_name": "StableDifusionPipeline"},
            {},
            "has no 'StableDifusionPipeline' (did you mean 'StableDiffusionPipeline'?)",
        ),
        ({"class_name": "AutoencoderKL"}, {}, "pipeline.class_name: diffusers has no 'AutoencoderKL'"),
        (
            {"scheduler": "DDIMMScheduler"},
            {},
            "pipeline.scheduler: diffusers has no 'DDIMMScheduler' (did you mean 'DDIMScheduler'?)",
        ),
        ({"memory": {"tiling": True}}, {}, "unknown key 'pipeline.memory.tiling' (did you mean 'vae_tiling'?)"),
        ({"dtypes": {"vae": "int8"}}, {}, "expected 'float32', 'float16' or 'bfloat16'"),
        ({"quantization": {"backend": "gguf", "components": ["unet"]}}, {}, "pipeline.quantization.backend: expected"),
        ({"quantization": {"backend": "torchao", "components": []}}, {}, "pipeline.quantization.components"),
    ],
)
def test_options_that_cannot_be_had_are_said_in_one_line_before_anything_runs(
    folder: Path, pipeline: dict[str, Any], parts: dict[str, Any], said: str
) -> None:
    with pytest.raises(JobError) as refused:
        pinned(folder, pipeline, **parts)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "pipeline, said",
    [
        ({"dtypes": {"va": "float16"}}, "StableDiffusionPipeline has no component 'va' (did you mean 'vae'?)"),
        ({"components": {"unet": "model"}}, "expected a config.json that names a class, found none"),
        (
            {"quantization": {"backend": "torchao", "components": ["unett"]}},
            "pipeline.quantization: the model has no component 'unett' (did you mean 'unet'?)",
        ),
        (
            {"quantization": {"backend": "torchao", "components": ["unet"], "settings": {"quant_type": "NoConfig"}}},
            "pipeline.quantization: torchao cannot be set up: ",
        ),
        ({"quantization": {"backend": "bitsandbytes_8bit", "components": ["unet"]}}, "could not load StableDiffusion"),
    ],
)
def test_options_that_do_not_fit_the_model_are_said_in_one_line(
    folder: Path, pipeline: dict[str, Any], said: str
) -> None:
    resolved = pinned(folder, pipeline)
    with pytest.raises(JobError) as refused:
        Worker(resolved.job, resolved.model_hint)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "memory, expected",
    [
        ({}, ["to cuda"]),
        ({"offload": "model"}, ["enable_model_cpu_offload cuda"]),
        ({"offload": "sequential"}, ["enable_sequential_cpu_offload cuda"]),
        ({"device_map": "balanced"}, []),
    ],
)
def test_with_a_gpu_components_are_placed_as_the_job_says(
    folder: Path, memory: dict[str, str], expected: list[str]
) -> None:
    """Which of diffusers' methods is called; the bits are for a machine with a GPU to measure."""
    calls: list[str] = []

    class Pipe:
        components: ClassVar[dict[str, Any]] = {}

        def to(self, device: str) -> Pipe:
            calls.append(f"to {device}")
            return self

        def enable_model_cpu_offload(self, device: str) -> None:
            calls.append(f"enable_model_cpu_offload {device}")

        def enable_sequential_cpu_offload(self, device: str) -> None:
            calls.append(f"enable_sequential_cpu_offload {device}")

    job = pinned(folder, {"memory": memory}, workers={"gpus": 1}).job
    loading._placed(job, Pipe())
    assert calls == expected
    assert ("device_map" in loading._options(job, folder / "model")) == ("device_map" in memory)
