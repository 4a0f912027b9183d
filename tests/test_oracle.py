"""Plain diffusers, with nothing of ours, gets the stored bytes; for each of the guide's pipelines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import local
import tiny
from conftest import ROOT, reprobatch
from reprobatch import models
from reprobatch.dataset import Dataset
from reprobatch.regenerate import Regenerator

BEAR = "A bear is playing a guitar on Times Square"
PROMPTS = ["a red circle", "a small blue square on a green square", "a dog", "the cat", BEAR]
JOBS: dict[str, dict[str, Any]] = {
    "ddim": {
        "call": {"num_inference_steps": 2},
        "items": {"count": 11},
        "output": "pixels",
    },
    "ddim-eta": {
        "call": {"num_inference_steps": 3, "eta": 1.0},
        "items": {"count": 5},
        "output": "pixels",
    },
    "stable-diffusion": {
        "call": {"num_inference_steps": 5},
        "items": {"grid": {"guidance_scale": [1.0, 7.5]}},
        "output": "latent",
        "scheduler": "DDIMScheduler",
    },
    "unclip": {
        "call": {"prior_num_inference_steps": 2, "decoder_num_inference_steps": 2, "super_res_num_inference_steps": 2},
        "items": {"repeat": 2},
        "output": "pixels",
    },
}
MAKERS = {"ddim": tiny.ddim, "ddim-eta": tiny.ddim, "stable-diffusion": tiny.stable_diffusion, "unclip": tiny.unclip}


@pytest.fixture(scope="module", params=JOBS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset of one of the pipelines, and its model's folder."""
    folder = tmp_path_factory.mktemp(request.param)
    model = MAKERS[request.param](folder / "model")
    spec = JOBS[request.param]
    items = dict(spec["items"])
    if "count" not in items:
        (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
        items["prompts"] = "prompts.txt"
    job = {
        "name": request.param,
        "master_seed": 2**70 + 1,
        "pipeline": {"model": "model", "scheduler": spec.get("scheduler")},
        "call": spec["call"],
        "items": items,
        "output": spec["output"],
        "batch_size": 4,
        "shard_size": 8,
    }
    with (folder / "job.yaml").open("w") as file:
        YAML(typ="safe").dump(job, file)
    if request.param == "stable-diffusion":
        reprobatch("run", folder / "job.yaml", "--out", folder / "dataset", "--workers", 1)
    else:  # the same by the plain worker, which takes a fraction of the time
        local.made(folder / "job.yaml", folder / "dataset")
    return folder / "dataset", model


def test_plain_diffusers_gets_the_stored_bytes(made: tuple[Path, Path]) -> None:
    dataset, model = made
    script = [sys.executable, str(ROOT / "tests" / "oracle.py"), str(dataset), str(model)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) == len(Dataset(dataset))


def test_every_item_regenerates_by_replay_and_alone(made: tuple[Path, Path]) -> None:
    regenerator = Regenerator(Dataset(made[0]))
    for index in range(len(regenerator.dataset)):
        assert regenerator(index).comparison.verdict == "identical"
        assert regenerator(index, alone=True).comparison.verdict == "identical"


def test_an_argument_that_is_no_list_splits_batches(made: tuple[Path, Path]) -> None:
    dataset = Dataset(made[0])
    if "guidance_scale" not in dataset.job.items.columns:
        assert all(len({row.batch for row in group}) == -(-len(group) // 4) for group in dataset.groups(0))
        return
    rows = [record.row for record in dataset]
    by_batch: dict[tuple[int, int], set[float]] = {}
    for row in rows:
        by_batch.setdefault((row.index // 8, row.batch), set()).add(row.item["guidance_scale"])
    assert {len(values) for values in by_batch.values()} == {1}
    assert [row.item["guidance_scale"] for row in rows] == [1.0] * 5 + [7.5] * 5


def test_shipped_digits_equal_plain_diffusers(digits: Path) -> None:
    folder = models.resolve("builtin:digits").folder
    script = [sys.executable, str(ROOT / "tests" / "oracle.py"), str(digits), str(folder)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) == json.loads((digits / "manifest.json").read_text())["plan"]["items"]
