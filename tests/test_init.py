"""``init``: a first job for a model, from its files and its class alone, that can be planned as it stands."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import tiny
from conftest import reprobatch
from reprobatch import hub, proposal
from reprobatch.errors import JobError
from reprobatch.job import Job
from reprobatch.resolve import load
from reprobatch.survey import NOTHING, Room, Survey, is_loaded, survey
from synthetic import Command

GB = 10**9
SD = Survey(
    model="models/sd",
    revision=None,
    class_name="StableDiffusionPipeline",
    arguments={"prompt": None, "height": None, "num_inference_steps": 50, "guidance_scale": 7.5, "eta": 0.0},
    field="images",
    latent=True,
    labels=None,
    parameters={"float16": GB, "float32": 10},
    activations=200 * 10**6,
    item_bytes=65536,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def proposed(room: Room, made: Survey = SD) -> Job:
    import ruamel.yaml

    text = proposal.propose(made, room, "job.yaml", made.model).text
    assert all(len(line) <= 120 for line in text.splitlines())
    return Job.parse(ruamel.yaml.YAML(typ="safe", pure=True).load(text))


def test_a_job_for_a_built_in_model_is_planned_as_it_stands(command: Command, tmp_path: Path) -> None:
    code, printed, said = command("init", "builtin:digits", "--out", tmp_path / "my.yaml", "--json")
    facts = json.loads(printed)
    assert (code, said) == (0, "")
    assert facts["written"] == [str(tmp_path / "my.yaml"), str(tmp_path / "my-prompts.txt")]
    assert facts["weights"] == 4 * (69_760 + 2_005_252 + 242_327)  # float32, as the model's card counts them
    _, printed, _ = command("plan", tmp_path / "my.yaml", "--json")
    assert json.loads(printed)["items"] == 40
    assert load(tmp_path / "my.yaml").job.name == "my"


def test_what_is_there_is_not_overwritten(command: Command, tmp_path: Path) -> None:
    (tmp_path / "job-prompts.txt").write_text("mine\n")
    _, printed, _ = command("init", "builtin:digits", "--out", tmp_path / "job.yaml")
    assert f"{tmp_path / 'job-prompts.txt'} was there and is used as it is" in printed
    assert (tmp_path / "job-prompts.txt").read_text() == "mine\n"
    before = (tmp_path / "job.yaml").read_text()
    assert "is there already and is not overwritten" in command.refuses(
        "init", "builtin:digits", "--out", tmp_path / "job.yaml"
    )
    assert (tmp_path / "job.yaml").read_text() == before


def test_a_model_below_the_job_is_named_from_there_and_another_by_its_whole_path(
    command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a: b#c'ü").symlink_to(model)
    odd = tiny.edit_index(tiny.ddim(tmp_path / "x: y # 'ü'"), note="odd")
    command("init", odd, "--out", tmp_path / "below.yaml")
    assert load(tmp_path / "below.yaml").model.folder == odd
    assert Job.load(tmp_path / "below.yaml").pipeline.model == odd.name
    monkeypatch.chdir(tmp_path)
    command("init", model, "--out", "beside.yaml")
    assert Job.load("beside.yaml").pipeline.model == str(model)
    command("init", "a: b#c'ü", "--out", "linked.yaml")
    assert load("linked.yaml").model.folder == model


def test_a_pipeline_that_starts_from_pictures_gets_an_example(command: Command, model: Path, tmp_path: Path) -> None:
    folder = tiny.edit_index(tiny.stable_diffusion(tmp_path / "sd"), _class_name="StableDiffusionInpaintPipeline")
    command("init", folder, "--out", tmp_path / "job.yaml")
    code, printed, _ = command("plan", tmp_path / "job.yaml", "--json")
    assert code == 0 and json.loads(printed)["items"] == 4
    assert load(tmp_path / "job.yaml").job.items.inputs == ["image", "mask_image"]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"_class_name": ["pipeline", "MyPipeline"]}, "pipelines that bring their own code are not run"),
        ({"_class_name": "StableDifusionPipeline"}, "(did you mean 'StableDiffusionPipeline'?)"),
        ({"_class_name": "AutoencoderKL"}, "the pipeline class 'AutoencoderKL' is not in diffusers"),
        ({"_class_name": None}, "expected the name of a diffusers pipeline class in model_index.json, found None"),
    ],
)
def test_a_class_that_cannot_be_run_is_said_and_nothing_written(
    command: Command, tmp_path: Path, edit: dict[str, Any], expected: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps(edit))
    assert expected in command.refuses("init", folder, "--out", tmp_path / "job.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["."], "expected a diffusers pipeline folder with a readable model_index.json"),
        (["nowhere"], "expected builtin:NAME, an existing folder or a hub id (owner/name), found 'nowhere'"),
        (["builtin:digts"], "(did you mean 'digits'?)"),
        ([".", "--revision", "main"], "pipeline.revision belongs to hub ids"),
        (["builtin:digits", "--out", "job.json"], "expected a file ending in .yaml, found 'job.json'"),
        (["builtin:digits", "--out", "no/job.yaml"], "the folder of 'no/job.yaml' does not exist"),
    ],
)
def test_what_is_no_model_or_no_place_is_said_in_a_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in command.refuses("init", *arguments)
    assert not list(tmp_path.iterdir())


def test_a_hub_that_cannot_be_reached_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    done = reprobatch("init", "owner/name", "--out", tmp_path / "job.yaml", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "reprobatch: could not resolve revision 'main' of 'owner/name' on the hub (ConnectError); "
        "check the names and the network, or give a full commit\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_hub_model_is_looked_at_without_its_weights_and_pinned_to_a_commit(
    command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    read: list[str] = []
    monkeypatch.setattr(hub, "_commit", lambda reference, revision: commit if revision == "main" else "?")
    monkeypatch.setattr(hub, "download_configurations", lambda reference, revision: model)
    monkeypatch.setattr(hub, "parameters", lambda *asked: read.append(asked[0]) or {"float32": 5})
    command("init", "owner/name", "--out", tmp_path / "job.yaml")
    job = Job.load(tmp_path / "job.yaml")
    assert (job.pipeline.model, job.pipeline.revision, read) == ("owner/name", commit, ["owner/name"])


def test_of_a_hub_models_files_the_headers_of_those_are_read_that_would_be_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = {"unet/model-00001-of-00002.safetensors": {"F16": 7}, "vae/diffusion_pytorch_model.safetensors": {"F32": 5}}
    variants = ["unet/model.fp16.safetensors", "vae/diffusion_pytorch_model.bin", "sd_base.safetensors", "README.md"]

    class Hub:
        def list_repo_files(self, reference: str, revision: str) -> list[str]:
            return [*sizes, *variants]

        def parse_safetensors_file_metadata(self, reference: str, name: str, revision: str) -> Any:
            return SimpleNamespace(parameter_count=sizes[name])

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert hub.parameters("owner/name", "main", is_loaded) == {"float16": 7, "float32": 5}
    monkeypatch.setattr(Hub, "list_repo_files", lambda *asked, **options: [*sizes, "unet/model.safetensors"])
    with pytest.raises(JobError, match=r"could not read the weights' headers of 'owner/name' \(KeyError\)"):
        hub.parameters("owner/name", "main", is_loaded)


def test_parameters_are_counted_from_the_headers_of_what_is_loaded_and_of_no_variant(tmp_path: Path) -> None:
    folder = tiny.ddim(tmp_path / "ddim")
    own = survey(str(folder)).parameters
    save_file({"w": torch.zeros(10, 10, dtype=torch.bfloat16)}, folder / "unet" / "model-00001-of-00002.safetensors")
    save_file({"w": torch.zeros(7, dtype=torch.float16)}, folder / "unet" / "model.fp16.safetensors")
    assert survey(str(folder)).parameters == {**own, "bfloat16": 100}


def test_a_gpu_gets_the_dtype_of_the_weights_and_the_batch_that_fits_it() -> None:
    job = proposed(Room(24 * GB, "GPU", 16))
    assert (job.pipeline.dtype, job.batch_size, job.workers.gpus, job.workers.threads) == ("float16", 8, 1, 1)
    # 0.8 of 5 GB without 2 GB of weights leave room for 5 items of 0.4 GB
    assert proposed(Room(5 * GB, "GPU", 16)).batch_size == 4
    assert proposed(Room(2 * GB, "GPU", 16)).batch_size == 1


def test_workers_that_do_not_fit_beside_each_other_get_more_cpus_each() -> None:
    assert proposed(Room(64 * GB, "RAM", 8)).workers.cpus == 1
    narrow = proposed(Room(16 * GB, "RAM", 8))  # a worker takes 4 GB and 0.8 GB an item: two of them fit
    assert (narrow.workers.cpus, narrow.workers.threads, narrow.pipeline.dtype) == (3, 3, "float32")
    assert "the weights may not fit" in proposal.propose(SD, Room(3 * GB, "RAM", 8), "job.yaml", "m").text


def test_a_shard_holds_whole_batches_of_some_megabytes() -> None:
    assert proposed(Room(24 * GB, "GPU", 16)).shard_size == 256
    large = proposed(Room(24 * GB, "GPU", 1), Survey(**{**vars(SD), "item_bytes": 33 * 10**6, "activations": None}))
    assert (large.batch_size, large.shard_size) == (1, 4)  # of 16.5 MB each in float16


def test_arguments_without_a_default_or_of_no_use_in_a_job_are_left_out() -> None:
    arguments = {"prompt": NOTHING, "generator": None, "latents": None, "callback": None, "x": NOTHING, "eta": 0.5}
    text = proposal.propose(Survey(**{**vars(SD), "arguments": arguments}), Room(GB, "GPU", 1), "job.yaml", "m").text
    assert "call: {}" in text and "  # eta: 0.5\n" in text
    assert not any(f"{name}:" in text for name in ("generator", "latents", "callback", "x"))


@pytest.mark.parametrize("name", ["true", "no", "1", "a b", "a:", "ü", "-"])
def test_a_name_that_yaml_would_read_as_something_else_is_quoted(name: str) -> None:
    made = Survey(**{**vars(SD), "model": name})
    assert proposed(Room(GB, "GPU", 1), made).pipeline.model == name
