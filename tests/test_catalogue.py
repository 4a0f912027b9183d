"""The jobs in ``jobs/``: each fits its pipeline's class, the catalogue tells the truth, and those of the guide run."""

from __future__ import annotations

import inspect
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDPMPipeline, DDPMScheduler
from huggingface_hub.errors import HfHubHTTPError

import reprobatch
import tiny
from reprobatch import items, models, resolve
from reprobatch.job import Job
from reprobatch.jobitems import ResolvedItems
from reprobatch.pipeline import Pipeline
from reprobatch.record import ITEM_SIZE, Output

JOBS = Path(__file__).parents[1] / "jobs"
NAMES = sorted(path.stem for path in JOBS.glob("*.yaml"))
BUILTIN = Path(reprobatch.__file__).parent / "builtin"

# what the hub's model_index.json names; no hub is needed to check a job against it
CLASSES = {
    "ddpm-cifar10": "DDPMPipeline",
    "stable-diffusion-v1-5": "StableDiffusionPipeline",
    "unclip": "UnCLIPPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "flux": "FluxPipeline",
    "wan": "WanPipeline",
    "pixart": "PixArtSigmaPipeline",
    "dit": "DiTPipeline",
    "stable-audio": "StableAudioPipeline",
}
OUTPUTS: dict[str, tuple[tuple[int, ...], str]] = {
    "digits": ((4, 8, 8), "float32"),
    "ddpm-cifar10": ((32, 32, 3), "float32"),
    "stable-diffusion-v1-5": ((4, 64, 64), "float32"),
    "unclip": ((256, 256, 3), "float32"),
    "sdxl": ((4, 128, 128), "float16"),
    "flux": ((4096, 64), "bfloat16"),
    "wan": ((16, 21, 60, 104), "float32"),  # whatever the job's dtype: WanPipeline keeps latents in float32
    "pixart": ((4, 128, 128), "float16"),
    "dit": ((256, 256, 3), "float32"),
    "stable-audio": ((2, 441000), "float32"),
}
COUNTS = {
    "digits": 1000,
    "ddpm-cifar10": 100,
    "stable-diffusion-v1-5": 1000,
    "unclip": 100,
    "sdxl": 1000,
    "flux": 1000,
    "wan": 20,
    "pixart": 1000,
    "dit": 1000,
    "stable-audio": 100,
}
ON_CPU = ["pipeline.revision=", "workers.gpus=0", "shard_size=4", "batch_size=4"]
FIELDS = {"dit": "images", "stable-audio": "audios"}  # of the pipeline's own output class
GUIDE_SUM = 1491.1711
TOLERANCE = 1e-2  # the guide: similar, not identical, on other hardware and versions


def load(name: str) -> Job:
    return Job.load(JOBS / f"{name}.yaml")


def pinned(job: Job) -> ResolvedItems:
    return items.resolve(job.items, items.find(job.items.prompts, JOBS) if job.items.prompts else None)


def pipeline_class(name: str) -> Any:
    reference = load(name).pipeline.model
    if reference.startswith("builtin:"):
        return getattr(diffusers, models.read_index(BUILTIN / reference.removeprefix("builtin:"))["_class_name"])
    return getattr(diffusers, CLASSES[name])


def given(job: Job) -> set[str]:
    """The arguments that a pipeline call gets from the job or from its items' columns."""
    found = pinned(job)
    return {*job.call, *(c for c in found.columns if c not in found.metadata and c != "seed")}


def first_batch(name: str, folder: Path, *overrides: str) -> list[Output]:
    """The first batch of a catalogue's job, with a tiny model in place of its own, on the CPU."""
    file = JOBS / f"{name}.yaml"
    job = Job.load(file, [*ON_CPU, f"pipeline.model={folder}", *overrides])
    resolved = resolve.resolve(job, file)
    rows = resolved.reader.read(0, job.batch_size)
    return Pipeline(resolved.job, folder).generate(rows, [row.get("seed", i) for i, row in enumerate(rows)])


@pytest.mark.parametrize("name", NAMES)
def test_a_job_begins_with_one_or_two_lines_on_what_it_makes_and_needs(name: str) -> None:
    lines = (JOBS / f"{name}.yaml").read_text().splitlines()
    comment = [line for line in lines[:3] if line.startswith("# ")]
    assert lines[: len(comment)] == comment and len(comment) in (1, 2)
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_a_job_is_named_after_its_file_and_pins_what_it_can(name: str) -> None:
    job = load(name)
    assert job.name == name
    assert (job.pipeline.revision is None) == job.pipeline.model.startswith("builtin:")
    assert job.workers.gpus or job.pipeline.dtype == "float32"


@pytest.mark.parametrize("name", NAMES)
def test_every_call_argument_is_one_of_the_pipeline_class(name: str) -> None:
    known = inspect.signature(pipeline_class(name).__call__).parameters
    assert given(load(name)) <= known.keys()
    assert "generator" in known
    assert "prompt" not in known or "prompt" in given(load(name))


@pytest.mark.parametrize("name", NAMES)
def test_columns_that_vary_within_a_batch_are_lists_for_the_pipeline(name: str) -> None:
    found = pinned(load(name))
    assert found.batched == [c for c in found.columns if c in ("prompt", "class_labels")]
    assert items.splitting_columns(found) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_output_and_the_scheduler_are_ones_that_the_class_has(name: str) -> None:
    job, cls = load(name), pipeline_class(name)
    parts = inspect.signature(cls.__init__).parameters
    assert (job.output == "pixels") == ("vae" not in parts)
    assert name in FIELDS or job.output in ("latent", "pixels")
    assert job.output == FIELDS.get(name, job.output)
    if job.pipeline.scheduler is not None:
        assert "scheduler" in parts
        assert issubclass(getattr(diffusers, job.pipeline.scheduler.name), diffusers.SchedulerMixin)


@pytest.mark.parametrize("name", NAMES)
def test_items_are_there_and_as_many_as_expected(name: str) -> None:
    assert pinned(load(name)).count == COUNTS[name]


def test_every_table_knows_every_job() -> None:
    assert sorted(COUNTS) == sorted(OUTPUTS) == sorted(catalogue()) == NAMES
    assert sorted([*CLASSES, "digits"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_tells_class_items_and_sizes(name: str) -> None:
    row = catalogue()[name]
    shape, dtype = OUTPUTS[name]
    each = math.prod(shape) * ITEM_SIZE[dtype]
    assert row["link"] == f"{name}.yaml"
    assert row["pipeline"].startswith(f"`{pipeline_class(name).__name__}`")
    assert row["one item"] == f"{'x'.join(map(str, shape))} {dtype}"
    assert number(row["items"]) == COUNTS[name]
    assert number(row["bytes an item"]) == each
    assert number(row["bytes in all"]) == each * COUNTS[name]
    assert ("hub" in row["needs"]) == (name in CLASSES)
    assert ("GPU" in row["needs"]) == bool(load(name).workers.gpus)


def test_the_first_cifar_item_has_the_guides_seed_and_a_batch_of_its_own() -> None:
    job = load("ddpm-cifar10")
    assert job.items.prompts is not None and job.batch_size == 1
    reader = items.ItemReader(pinned(job), items.find(job.items.prompts, JOBS))
    assert [row["seed"] for row in reader.read(0, 100)] == list(range(100))


def test_the_cifar_job_computes_the_bits_of_the_guides_first_block(tmp_path: Path, torch_as_it_was: None) -> None:
    guide = DDIMPipeline.from_pretrained(tiny.ddim(tmp_path / "ddim"))
    guide.set_progress_bar_config(disable=True)
    generator = torch.Generator(device="cpu").manual_seed(0)
    expected = guide(num_inference_steps=2, output_type="np", generator=generator).images
    # the hub's model is a DDPMPipeline with a DDPM scheduler; the job gives it DDIM
    DDPMPipeline(unet=guide.unet, scheduler=DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    [made] = first_batch("ddpm-cifar10", tmp_path / "ddpm", "batch_size=1")
    assert np.array_equal(made.numpy()[None], expected)


def test_the_bear_job_runs_on_a_tiny_model_of_its_class(tmp_path: Path, torch_as_it_was: None) -> None:
    folder = tiny.stable_diffusion(tmp_path / "model")
    made = first_batch("stable-diffusion-v1-5", folder, "call.num_inference_steps=2")
    assert [(o.dtype, o.shape) for o in made] == [("float32", (4, 8, 8))] * 4
    assert len({o.checksum for o in made}) == 4


UNCLIP_STEPS = [f"call.{part}_num_inference_steps=2" for part in ("prior", "decoder", "super_res")]


def test_the_unclip_job_runs_on_a_tiny_model_of_its_class(tmp_path: Path, torch_as_it_was: None) -> None:
    made = first_batch("unclip", tiny.unclip(tmp_path / "model"), *UNCLIP_STEPS)
    assert [(o.dtype, o.shape) for o in made] == [("float32", (32, 32, 3))] * 4
    assert len({o.checksum for o in made}) == 4


def test_weights_at_the_top_of_a_model_folder_are_part_of_its_digest(tmp_path: Path) -> None:
    """As google/ddpm-cifar10-32 has them: no component folders, everything beside ``model_index.json``."""
    folder = tiny.ddim(tmp_path / "model")
    for part in ("unet", "scheduler"):
        for file in (folder / part).iterdir():
            file.rename(folder / file.name)
        (folder / part).rmdir()
    DDIMPipeline.from_pretrained(folder)  # diffusers loads it so
    before = models.folder_digest(folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert models.folder_digest(folder) != before


@pytest.mark.hub
def test_the_guides_sum_for_seed_zero(torch_as_it_was: None) -> None:
    job = load("ddpm-cifar10")
    if reason := unreachable(job.pipeline.model):
        pytest.skip(reason)
    resolved = resolve.load(JOBS / "ddpm-cifar10.yaml")
    [image] = Pipeline(resolved.job, resolved.model.folder).generate([{"seed": 0}], [0])
    assert abs(float(np.abs(image.numpy()).sum()) - GUIDE_SUM) <= TOLERANCE


@pytest.fixture
def torch_as_it_was() -> Iterator[None]:
    """One thread, as the jobs have it; the number that was there before comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def catalogue() -> dict[str, dict[str, str]]:
    """The table in ``jobs/README.md``, by job."""
    lines = [line for line in (JOBS / "README.md").read_text().splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = {}
    for row in rows:
        link = re.fullmatch(r"\[`(.+)`\]\((.+)\)", row[0])
        assert link, row[0]
        found[link[1]] = {**dict(zip(header, row, strict=True)), "link": link[2]}
    return found


def number(text: str) -> int:
    assert f"{int(text.replace(',', '')):,}" == text, text
    return int(text.replace(",", ""))


def unreachable(model: str) -> str | None:
    """Why the hub cannot be asked for a model, found out in at most five seconds; ``None`` where it can."""
    answers: list[str | None] = []

    def ask() -> None:
        url = huggingface_hub.hf_hub_url(model, models.INDEX)
        try:
            huggingface_hub.get_hf_file_metadata(url, timeout=4)
            answers.append(None)
        except HfHubHTTPError as error:
            # an answer of the hub's own is one for the test to fail on; a proxy's refusal is none
            answers.append(None if error.response.headers.get("x-request-id") else type(error).__name__)
        except Exception as error:  # no name service, no route, no TLS, offline mode: each has its own
            answers.append(type(error).__name__)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(5)
    reason = answers[0] if answers else "no answer within 5 s"
    return reason and f"the hub cannot be reached ({reason}), and {model} is read from it"
