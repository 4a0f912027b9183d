"""Machines that come and die, calls that hang, items that fail: the rest is made, and the bytes are the same."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

import actors
import cluster
from actors import Broken, Harmed, Patient, work
from conftest import DIGITS, ROOT, SMALL, data, reprobatch
from reprobatch import journal, runner, seeds
from reprobatch.dataset import Dataset
from reprobatch.errors import BatchHung, ItemFailed, RunFailed
from reprobatch.pool import Pool
from reprobatch.resolve import load
from reprobatch.status import status
from reprobatch.worker import Worker


def events(out: Path, name: str) -> list[dict[str, object]]:
    return [event for run in journal.read(Dataset(out).store) for event in run if event["event"] == name]


def until(process: subprocess.Popen[str], condition: object) -> None:
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None:  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited two minutes"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def nodes() -> Iterator[cluster.Nodes]:
    """A cluster of one node with one CPU; a test leaves one."""
    for module in (__name__, actors.__name__):
        cloudpickle.register_pickle_by_value(sys.modules[module])
    with cluster.nodes({}) as found:
        yield found


def test_a_cluster_that_never_grows_is_not_asked_for_more_than_it_has(nodes: cluster.Nodes) -> None:
    events: list[dict[str, Any]] = []
    assert work(nodes, 4, events.append, local=True, min_workers=3).finished
    told = [event["reason"] for event in events if event["event"] == "waiting"]
    assert [reason.split(",")[0] for reason in told] == ["2 of the 3 workers asked for are not there"]
    assert [event["only"] for event in events if event["event"] == "ready"] == [True]


def test_more_workers_than_there_is_room_for_hold_nothing_up_and_come_when_the_cluster_grows(
    nodes: cluster.Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Here(Patient):
        folder = tmp_path

    monkeypatch.setattr("reprobatch.watch.SAY", 1.0)
    events: list[dict[str, Any]] = []
    added: list[int] = []

    def told(name: str, text: str = "") -> list[dict[str, Any]]:
        return [event for event in events if event["event"] == name and text in event.get("reason", "")]

    def listen(event: dict[str, Any]) -> None:
        events.append(event)
        if not added and told("waiting", "asked for"):
            added.append(nodes.add())
        if len(told("ready")) == 2:
            (tmp_path / "go").touch()

    schedule = work(nodes, 20, listen, actor=Here, local=False, min_workers=3)
    nodes.remove(added[0])
    assert schedule.finished and not schedule.failures and not told("lost")
    (missing,) = (event["reason"] for event in told("waiting", "asked for"))
    assert missing.startswith("2 of the 3 workers asked for are not there, the run goes on without: a worker needs 1")
    at_work = {event["worker"] for event in told("done")}
    assert at_work == {event["worker"] for event in told("ready")} and len(at_work) == 2
    assert [event["only"] for event in told("ready")] == [False, False]


def test_where_no_other_can_load_the_worker_that_could_goes_on_and_others_are_not_tried_for_ever(
    nodes: cluster.Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Here(Broken):
        folder = tmp_path

    monkeypatch.setattr("reprobatch.pool.MAX_LOST", 1)
    events: list[dict[str, Any]] = []

    def listen(event: dict[str, Any]) -> None:
        events.append(event)
        if event["event"] == "ready":
            (tmp_path / "ready").touch()

    number = nodes.add()
    schedule = work(nodes, 20, listen, actor=Here, local=False)
    nodes.remove(number)
    assert schedule.finished and not schedule.failures
    lost = [event["reason"] for event in events if event["event"] == "lost"]
    assert lost == ["a worker could not load the pipeline: SystemError: error return without exception set"]


def test_an_item_that_failed_is_all_that_a_later_run_makes_and_what_was_an_accident_then_completes(
    nodes: cluster.Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accident, prompts = tmp_path / "accident", tmp_path / "prompts.txt"
    prompts.write_text("".join(f"{accident if index == 21 else 'a one'}\n" for index in range(40)))
    resolved = load(DIGITS, [f"items.prompts={prompts}", "items.repeat=1", "shard_size=8"])
    monkeypatch.setattr(runner, "Pool", partial(Pool, actor=Harmed))
    whole, out = tmp_path / "whole", tmp_path / "harmed"
    runner.run(resolved, whole, address=nodes.address)
    accident.touch()
    seed = seeds.derive(resolved.job.master_seed, 21)
    said = rf"1 of 5 shards failed.*tried 3 times.*item 21 \(seed {seed}\) fails alone too: ValueError: cannot be drawn"
    with pytest.raises(RunFailed, match=said) as error:
        runner.run(resolved, out, address=nodes.address)
    assert error.value.exit_code == 1
    assert data(out) == {name: there for name, there in data(whole).items() if name != "shard-000002.parquet"}
    accident.unlink()
    assert runner.run(resolved, out, address=nodes.address).made == 8
    assert {event["shard"] for event in journal.read(Dataset(out).store)[-1] if event["event"] == "start"} == {2}
    assert data(out) == data(whole)


def test_workers_come_with_nodes_and_go_with_them_and_nothing_is_lost(nodes: cluster.Nodes, tmp_path: Path) -> None:
    out, few = tmp_path / "d", [*SMALL, "-s", "shard_size=8"]
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
    seen = status(Dataset(out))  # by somebody who knows nothing of the driver
    assert sum(seen.workers.values()) == 2
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


def test_a_timeout_that_the_pipeline_raises_is_its_own_error_and_no_hung_call(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> object:
        raise TimeoutError("the text encoder's server did not answer")

    monkeypatch.setattr(worker._pipeline, "call", refuses)
    resolved = load(DIGITS, SMALL[1::2])
    with pytest.raises(ItemFailed, match=r"TimeoutError: the text encoder's server did not answer"):
        worker.shard(0, resolved.plan.batches(0), resolved.reader.read(0, 16))


def test_a_batch_that_takes_too_long_is_an_error_of_its_own(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = load(DIGITS, SMALL[1::2])
    call = worker._pipeline.call

    def slow(*arguments: object, **options: object) -> object:
        time.sleep(4)
        return call(*arguments, **options)

    monkeypatch.setattr(worker._pipeline, "call", slow)
    with pytest.raises(BatchHung, match=r"items 0 … 7: expected a batch within 2 s"):
        worker.shard(0, resolved.plan.batches(0), resolved.reader.read(0, 16))
