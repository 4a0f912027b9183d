"""Machines that come and die, calls that hang, items that fail: the rest is made, and the bytes are the same."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cluster
from conftest import DIGITS, ROOT, SMALL, data, reprobatch
from reprobatch import journal
from reprobatch.dataset import Dataset
from reprobatch.errors import BatchHung, ItemFailed
from reprobatch.resolve import load
from reprobatch.worker import Worker


def events(out: Path, name: str) -> list[dict[str, object]]:
    return [event for run in journal.read(Dataset(out).store) for event in run if event["event"] == name]


def until(process: subprocess.Popen[str], condition: object) -> None:
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None:  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited two minutes"
        time.sleep(0.1)


def test_workers_come_with_nodes_and_go_with_them_and_nothing_is_lost(digits: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "d", [*SMALL, "-s", "shard_size=8"]
    with cluster.nodes({}) as nodes:
        command = [sys.executable, "-m", "reprobatch.cli", "run", str(DIGITS), "--out", str(out), "--json"]
        process = subprocess.Popen(
            [*command, "--address", nodes.address, *few, "-s", "call.num_inference_steps=80"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(process, lambda: (out / "job.json").exists() and len(events(out, "ready")) == 1)
        nodes.add()
        until(process, lambda: len(events(out, "ready")) == 2)
        nodes.remove(0)
        said, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert len(events(out, "ready")) >= 2 and len(events(out, "lost")) >= 1
    assert json.loads(said)["items"] == 70
    assert json.loads(reprobatch("verify", out, "--json").stdout)["verdict"] == "intact"
    made = [event["shard"] for event in events(out, "done")]
    assert sorted(made) == sorted(set(made))


def test_a_pipeline_call_that_hangs_is_ended_and_the_rest_completes(tmp_path: Path) -> None:
    steps = [4] * 8 + [900] * 8 + [4] * 8
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps({"prompt": "a one", "num_inference_steps": s}) + "\n" for s in steps))
    job = tmp_path / "job.yaml"
    job.write_text(
        f"name: hangs\nmaster_seed: 1\npipeline: {{model: 'builtin:digits'}}\nitems: {{prompts: {items.name}}}\n"
        "batch_size: 8\nshard_size: 8\noperation: {batch_seconds: 4, attempts: 1}\n"
    )
    done = reprobatch("run", job, "--out", tmp_path / "d", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "items 8 … 15: expected a batch within 4 s" in done.stderr
    assert sorted(data(tmp_path / "d")) == ["shard-000000.parquet", "shard-000002.parquet"]


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker(load(DIGITS, SMALL[1::2]).job, batch_seconds=2)


def test_an_item_that_fails_is_named_with_its_seed(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = load(DIGITS, SMALL[1::2])
    batches, items = resolved.plan.batches(1), resolved.reader.read(16, 32)
    items[5] = {"prompt": "poison"}
    call = worker._pipeline.call

    def poisoned(arguments: list[dict[str, str]], *rest: object, **options: object) -> object:
        if any(slot["prompt"] == "poison" for slot in arguments):
            raise ValueError("cannot be drawn")
        return call(arguments, *rest, **options)

    monkeypatch.setattr(worker._pipeline, "call", poisoned)
    with pytest.raises(ItemFailed) as error:
        worker.shard(1, batches, items)
    seed = worker.seed(21, {})
    expected = f"items 16 … 23: item 21 (seed {seed}) fails alone too: ValueError: cannot be drawn"
    assert str(error.value) == expected


def test_a_batch_that_takes_too_long_is_an_error_of_its_own(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = load(DIGITS, SMALL[1::2])
    call = worker._pipeline.call

    def slow(*arguments: object, **options: object) -> object:
        time.sleep(4)
        return call(*arguments, **options)

    monkeypatch.setattr(worker._pipeline, "call", slow)
    with pytest.raises(BatchHung, match=r"items 0 … 7: expected a batch within 2 s"):
        worker.shard(0, resolved.plan.batches(0), resolved.reader.read(0, 16))
