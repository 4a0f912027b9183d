"""Each pipeline family runs from a job file, and its items come back: replayed, alone, and by plain diffusers."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

import oracle
from families import FAMILIES, write_items
from local import PROMPTS, made, write_job
from reprobatch import export
from reprobatch.contract import Contract
from reprobatch.dataset import Dataset
from reprobatch.errors import JobError
from reprobatch.estimate import output_bytes
from reprobatch.pipeline import Pipeline
from reprobatch.regenerate import Regenerator
from reprobatch.resolve import load
from synthetic import Command

REPLAY_ONLY = {"Qwen-Image"}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Dataset, Path]:
    """A family's name, five items made by it in two batches, and its model's folder."""
    folder = tmp_path_factory.mktemp("family")
    found = FAMILIES[request.param]
    model = found.make(folder / found.make.__name__)
    write_items(folder, PROMPTS)
    return request.param, made(write_job(folder / "job.yaml", **found.job()), folder / "dataset"), model


def test_plain_diffusers_gets_the_stored_bytes(family: tuple[str, Dataset, Path]) -> None:
    _, dataset, model = family
    threads = torch.get_num_threads()
    pipe = oracle.load(dataset.job.as_dict(), model)
    try:
        counts = oracle.compare(Path(dataset.store.address), pipe)
    finally:
        torch.set_num_threads(threads)
    assert counts == (len(dataset), 0) == (5, 0)


def test_every_item_comes_back_as_its_contract_says(family: tuple[str, Dataset, Path]) -> None:
    name, dataset, _ = family
    contract = Contract.from_dict(dataset.manifest["contract"])
    assert not contract.broken and not contract.notes
    assert contract["alone"].holds is (name not in REPLAY_ONLY)
    regenerator = Regenerator(dataset)
    assert regenerator.agreement().agrees
    for index in (1, 4):
        for alone in (False, True):
            again = regenerator(index, alone=alone)
            assert again.comparison.verdict == "identical"
            assert again.method == ("alone" if alone and name not in REPLAY_ONLY else "replay")


def test_no_two_items_are_the_same(family: tuple[str, Dataset, Path]) -> None:
    _, dataset, _ = family
    assert len({record.checksum for record in dataset}) == len(dataset)


def test_the_column_is_called_what_the_pipelines_own_output_class_calls_it(family: tuple[str, Dataset, Path]) -> None:
    name, dataset, _ = family
    column = {"latent": "latents"}.get(FAMILIES[name].output, FAMILIES[name].output)
    assert dataset.job.column == column
    assert f"`{column}`" in (Path(dataset.store.address) / "README.md").read_text()


def test_the_size_of_an_output_is_told_beforehand_or_not_at_all(family: tuple[str, Dataset, Path]) -> None:
    name, dataset, model = family
    argument = FAMILIES[name].call.get
    told = output_bytes(dataset.job.output, dataset.job.pipeline.dtype, argument, model)
    assert told is None or [told] * len(dataset) == [len(record.output.data) for record in dataset]
    assert (told is None) == (name in ("Sana", "LTX", "Stable Audio", "UnCLIP", "Qwen-Image"))


@pytest.mark.parametrize("family", ["Stable Audio", "DDIM"], indirect=True)
def test_sound_can_be_listened_to_and_a_picture_is_none(family: tuple[str, Dataset, Path], tmp_path: Path) -> None:
    name, dataset, _ = family
    worker, output = Regenerator(dataset).worker, dataset[1].output
    path = tmp_path / "1.wav"
    if name == "DDIM":
        with pytest.raises(JobError, match=r"pixels of DDIMPipeline: no sound with a sampling rate; use \.npy"):
            export.save(output, path, worker.decode, worker.sampling_rate)
        return
    export.save(output, path, worker.decode, worker.sampling_rate)
    with wave.open(str(path)) as file:
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).T / 32767
        assert (file.getframerate(), file.getnframes(), file.getnchannels()) == (8, 28, 2)
    assert np.abs(heard - output.numpy().clip(-1, 1)).max() < 1 / 32767


def test_init_writes_a_job_that_the_class_takes_and_gives_what_it_says(
    family: tuple[str, Dataset, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, _, model = family
    job = tmp_path / "job.yaml"
    assert Command(capsys)("init", model, "--out", job)[0] == 0
    small = [f"call.{key}={json.dumps(value)}" for key, value in FAMILIES[name].call.items() if "steps" not in key]
    resolved = load(job, [*small, "batch_size=1", "shard_size=1"])
    pipeline, item = Pipeline(resolved.job, model), resolved.reader.read(0, 1)
    made, _ = pipeline.call(item, [1], short=True)
    assert len(made) == 1 and made[0].dtype == "float32"
    no_latents = {"DiT", "DDIM", "DDPM", "Consistency model", "UnCLIP"}
    wanted = "audios" if name == "Stable Audio" else "pixels" if name in no_latents else "latent"
    assert resolved.job.output == wanted
    files = {"DiT": "job-labels.csv", "Consistency model": "job-labels.csv", "DDIM": None, "DDPM": None}.get(
        name, "job-prompts.txt"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"job.yaml", files} - {None}
    assert any(f"{argument}: " in job.read_text() for argument in ("num_inference_steps", "prior_num_inference_steps"))
