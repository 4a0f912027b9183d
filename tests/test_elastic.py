"""Machines that come and die, calls that hang, items that fail: the rest is made, and the bytes are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

import cluster
from conftest import DIGITS, ROOT, SMALL, data, reprobatch
from reprobatch import journal, runner, seeds
from reprobatch.actor import Actor, Receipt
from reprobatch.admission import Admission
from reprobatch.cluster import connected
from reprobatch.contract import QUESTIONS, Answer, Contract, samples
from reprobatch.dataset import Dataset
from reprobatch.errors import BatchHung, ItemFailed, RunFailed
from reprobatch.job import ResolvedJob
from reprobatch.plan import Plan
from reprobatch.pool import Pool
from reprobatch.record import Output
from reprobatch.resolve import load
from reprobatch.schedule import Schedule
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
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with cluster.nodes({}) as found:
        yield found


class Idle:
    """An actor that says yes to everything, and takes its time for a shard."""

    def up(self) -> None:
        pass

    def load(self, *_: Any) -> dict[str, Any]:
        return {"environment": {}, "canary": "00" * 32, "host": "here", "pid": os.getpid()}

    def probe(self, *_: Any) -> Contract:
        return Contract({name: Answer(True, 0.0) for name in QUESTIONS})

    def make(self, out: str, number: int, batches: Any, items: Any) -> Receipt:
        time.sleep(0.2)
        return Receipt(number, len(items), "00" * 32, "", 0, 0.0, 0.0, True)


def work(
    nodes: cluster.Nodes, shards: int, on_event: Callable[[dict[str, Any]], None], *, local: bool, **operation: Any
) -> Schedule:
    """Run so many shards of one item through a pool."""
    resolved = load(DIGITS)
    job = resolved.job.model_copy(update={"batch_size": 1, "shard_size": 1})
    plan = Plan(shards, 1, 1)

    def read(start: int, stop: int) -> list[dict[str, Any]]:
        return [{"prompt": "a handwritten zero"}] * (stop - start)

    admission = Admission(None, None, many=False, insist=False)
    asked = resolved.operation.model_copy(update=operation)
    chosen = samples(job, plan, read)
    schedule = Schedule(shards)
    with connected(nodes.address):
        pool = Pool(job, None, "nowhere", chosen, admission, asked, on_event, local=local, actor=Idle)
        pool.run(schedule, plan, read)
    return schedule


def test_a_cluster_that_never_grows_is_not_asked_for_more_than_it_has(nodes: cluster.Nodes) -> None:
    events: list[dict[str, Any]] = []
    assert work(nodes, 4, events.append, local=True, min_workers=3).finished
    told = [event["reason"] for event in events if event["event"] == "waiting"]
    assert [reason.split(",")[0] for reason in told] == ["2 of the 3 workers asked for are not there"]
    assert sum(event["event"] == "ready" for event in events) == 1


def test_more_workers_than_there_is_room_for_hold_nothing_up_and_come_when_the_cluster_grows(
    nodes: cluster.Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reprobatch.watch.SAY", 1.0)
    events: list[dict[str, Any]] = []
    added: list[int] = []

    def told(name: str) -> list[dict[str, Any]]:
        return [event for event in events if event["event"] == name]

    def listen(event: dict[str, Any]) -> None:
        events.append(event)
        if event["event"] == "done" and len(told("done")) == 12:
            added.append(nodes.add())

    schedule = work(nodes, 60, listen, local=False, min_workers=3)
    assert schedule.finished and not schedule.failures and not told("lost")
    (missing,) = [event["reason"] for event in told("waiting") if "asked for" in event["reason"]]
    assert missing.startswith("2 of the 3 workers asked for are not there, the run goes on without: a worker needs 1")
    at_work = {event["worker"] for event in told("done")}
    assert at_work == {event["worker"] for event in told("ready")} and len(at_work) == 2
    nodes.remove(added[0])


class Accident(Worker):
    """A worker whose pipeline raises for one item while a file is there, and makes the others' bytes of their seeds."""

    def __init__(self, job: ResolvedJob, *_: Any, **options: Any) -> None:
        super().__init__(job, None, **options)

    def _load(self, _: str | None) -> Any:
        return self

    def generate(self, arguments: Sequence[dict[str, Any]], seeds: Sequence[int]) -> list[Output]:
        return self.call(arguments, seeds)[0]

    def call(self, items: Sequence[dict[str, Any]], seeds: Sequence[int], **_: Any) -> tuple[list[Output], list[Any]]:
        if any(Path(item["prompt"]).exists() for item in items):
            raise ValueError("cannot be drawn")
        return [Output("float32", (2,), seed.to_bytes(8, "little")) for seed in seeds], []


class Harmed(Idle, Actor):
    """An actor with such a worker; loads no torch."""

    def load(self, job_json: str, *rest: Any) -> dict[str, Any]:
        self.worker, self.made_in = Accident(ResolvedJob.from_json(job_json)), None
        return Idle.load(self)

    make = Actor.make


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
    for made in ({0, 1, 2, 3, 4}, {2}):
        with pytest.raises(RunFailed, match=said) as error:
            runner.run(resolved, out, address=nodes.address)
        assert error.value.exit_code == 1
        assert {event["shard"] for event in journal.read(Dataset(out).store)[-1] if event["event"] == "start"} == made
        assert data(out) == {name: there for name, there in data(whole).items() if name != "shard-000002.parquet"}
    accident.unlink()
    assert runner.run(resolved, out, address=nodes.address).made == 8
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
