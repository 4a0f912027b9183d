"""LoRAs and new words are part of a job: their bytes, their order and their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import oracle
import tiny
from local import PROMPTS, made, write_job
from reprobatch import canonical
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError
from reprobatch.regenerate import Regenerator
from reprobatch.resolve import load
from reprobatch.worker import Worker

RED, BLUE = {"kind": "lora", "path": "red.safetensors"}, {"kind": "lora", "path": "blue.safetensors"}
WORD = {"kind": "textual_inversion", "path": "thing.safetensors", "token": "<thing>"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion, two LoRAs and a new word."""
    folder = tmp_path_factory.mktemp("adapters")
    tiny.stable_diffusion(folder / "model")
    tiny.lora(folder / "red.safetensors", seed=1)
    tiny.lora(folder / "blue.safetensors", seed=2)
    tiny.textual_inversion(folder / "thing.safetensors")
    (folder / "prompts.txt").write_text("\n".join([*PROMPTS[:3], "a <thing> is red"]) + "\n")
    return folder


def write(folder: Path, *adapters: dict[str, Any], name: str = "job") -> Path:
    pipeline = {"model": "model", "scheduler": "DDIMScheduler", "adapters": list(adapters)}
    call = {"num_inference_steps": 2}
    return write_job(folder / f"{name}.yaml", pipeline=pipeline, call=call, items={"prompts": "prompts.txt"})


def outputs(path: Path) -> list[str]:
    """Checksums of the first batch."""
    resolved = load(path)
    items = resolved.reader.read(0, 4)
    return [o.checksum for o in Worker(resolved.job, resolved.model_hint).batch(items, [1, 2, 3, 4])]


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    adapters = ({**RED, "name": "red", "scale": 0.75}, {**BLUE, "name": "blue", "scale": -0.5}, WORD)
    return made(write(folder, *adapters), folder / "dataset")


def test_plain_diffusers_with_the_same_adapters_gets_the_stored_bytes(dataset: Dataset, folder: Path) -> None:
    threads = torch.get_num_threads()
    pipe = oracle.load(dataset.job.as_dict(), folder / "model")
    pipe.load_lora_weights(str(folder), weight_name="red.safetensors", adapter_name="red")
    pipe.load_lora_weights(str(folder), weight_name="blue.safetensors", adapter_name="blue")
    pipe.set_adapters(["red", "blue"], [0.75, -0.5])
    pipe.load_textual_inversion(str(folder), weight_name="thing.safetensors", token="<thing>")
    counts = oracle.compare(Path(dataset.store.address), pipe)
    torch.set_num_threads(threads)
    assert counts == (4, 0)


def test_items_with_adapters_come_back_replayed_and_alone(dataset: Dataset) -> None:
    assert dataset.manifest["contract"]["alone"]["holds"]
    regenerator = Regenerator(dataset)
    for alone in (False, True):
        again = regenerator(3, alone=alone)
        assert (again.comparison.verdict, again.method) == ("identical", "alone" if alone else "replay")


def test_each_adapter_its_scale_and_its_word_change_bits(folder: Path) -> None:
    chosen = [(), (RED,), (BLUE,), (RED, BLUE), ({**RED, "scale": 0.5},), (WORD,)]
    found = [outputs(write(folder, *adapters)) for adapters in chosen]
    assert len({tuple(sums) for sums in found}) == len(chosen)
    assert found[0][:3] == found[-1][:3] and found[0][3] != found[-1][3]  # only the last prompt has the word


def test_order_and_scale_are_part_of_the_job(folder: Path) -> None:
    chosen = [(), (RED, BLUE), (BLUE, RED), (RED, {**BLUE, "scale": 0.5}), (RED,)]
    jobs = [load(write(folder, *adapters)).job for adapters in chosen]
    assert len({job.digest for job in jobs}) == len(jobs)
    assert "adapters" not in canonical.dumps(jobs[0].as_dict())
    assert jobs[1].pipeline.model_digest not in {jobs[0].pipeline.model_digest, jobs[4].pipeline.model_digest}
    assert str(folder) not in jobs[1].canonical


def test_a_lora_that_changed_under_its_name_is_refused_with_both_digests(folder: Path, tmp_path: Path) -> None:
    for name in ("model", "prompts.txt"):
        (tmp_path / name).symlink_to(folder / name)
    tiny.lora(tmp_path / "red.safetensors", seed=1)
    made_with = made(write(tmp_path, RED), tmp_path / "dataset")
    was = made_with.job.pipeline.adapters[0].digest
    tiny.lora(tmp_path / "red.safetensors", seed=7)
    now = load(write(tmp_path, RED, name="again")).job.pipeline.adapters[0].digest
    assert was != now
    with pytest.raises(DataError, match=f"adapters.0 file:red.safetensors: expected digest {was}, found {now}; "):
        Regenerator(made_with)
    tiny.lora(tmp_path / "elsewhere.safetensors", seed=1)
    moved = Regenerator(made_with, places={"adapters.0": str(tmp_path / "elsewhere.safetensors")})
    assert moved(0).comparison.verdict == "identical"
    (tmp_path / "red.safetensors").unlink()
    with pytest.raises(JobError, match=r"found nothing at .*; give it with --place adapters\.0=PATH"):
        Regenerator(made_with)


@pytest.mark.parametrize(
    "adapter, said",
    [
        ({"kind": "lora", "path": "none.safetensors"}, "pipeline.adapters.0: no file or folder at 'none.safetensors'"),
        ({"kind": "lora", "path": "."}, "pipeline.adapters.0: expected one file; name it with 'file'"),
        ({"kind": "lora", "path": ".", "file": "red"}, "pipeline.adapters.0: no 'red' in"),
        ({"kind": "lora", "path": "model", "file": "../red.safetensors"}, "no '../red.safetensors' in 'model'"),
        ({"kind": "lora", "path": "prompts.txt"}, "expected a .safetensors file, found 'prompts.txt'; other formats"),
        (
            {"kind": "lora", "path": "owner/name"},
            "hub repository 'owner/name' may hold several files; name one with 'file'",
        ),
        ({"kind": "lora", "path": "owner/name", "file": "a.safetensors"}, "hub id 'owner/name' needs a revision"),
        ({**RED, "revision": "main"}, "revision belongs to hub ids"),
        ({**RED, "token": "<x>"}, "expected 'token' with a textual_inversion and nothing else"),
        ({"kind": "textual_inversion", "path": "thing.safetensors"}, "expected 'token' with a textual_inversion"),
        ({**WORD, "scale": 0.5}, "a textual_inversion has no scale and no name"),
        ({"kind": "dora", "path": "red.safetensors"}, "expected 'lora', 'textual_inversion' or 'ip_adapter'"),
    ],
)
def test_adapters_that_are_wrong_are_said_before_anything_runs(
    folder: Path, adapter: dict[str, Any], said: str
) -> None:
    with pytest.raises(JobError) as refused:
        load(write(folder, adapter, name="wrong"))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_lora_from_the_hub_is_pinned_by_commit_and_digest_and_fetched_where_it_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def fetched(reference: str, commit: str, file: str | None) -> Path:
        asked.append((reference, commit, file))
        return folder

    monkeypatch.setattr("reprobatch.hub.download_attached", fetched)
    hub = {"kind": "lora", "path": "owner/name", "revision": "a" * 40, "file": "red.safetensors"}
    resolved = load(write(folder, hub, name="hub"))
    assert resolved.places == {}
    Worker(resolved.job, resolved.model_hint)
    assert asked == [("owner/name", "a" * 40, "red.safetensors")] * 2
    pinned, here = resolved.job.pipeline.adapters[0], load(write(folder, RED)).job.pipeline.adapters[0]
    assert (pinned.reference, pinned.revision, pinned.digest) == ("owner/name", "a" * 40, here.digest)


def test_a_file_that_is_no_lora_is_refused_when_it_is_loaded(folder: Path) -> None:
    resolved = load(write(folder, {**RED, "path": "thing.safetensors"}, name="wrong"))
    with pytest.raises(JobError, match=r"StableDiffusionPipeline cannot load the LoRA 'file:thing\.safetensors': "):
        Worker(resolved.job, resolved.model_hint)
