"""Actors that load no model, for tests of the pool and of a run on real Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cluster
from conftest import DIGITS
from reprobatch.actor import Actor, Receipt
from reprobatch.admission import Admission
from reprobatch.cluster import connected
from reprobatch.contract import QUESTIONS, Answer, Contract, samples
from reprobatch.job import ResolvedJob
from reprobatch.plan import Plan
from reprobatch.pool import Pool
from reprobatch.record import Output
from reprobatch.resolve import load
from reprobatch.schedule import Schedule
from reprobatch.worker import Worker


class Idle:
    """An actor that says yes to everything, and takes its time for a shard."""

    def up(self) -> None:
        pass

    def load(self, *arguments: Any) -> dict[str, Any]:
        """Says besides whether it was told that no other worker comes."""
        told = {"only": arguments[-1]}
        return {"environment": {}, "canary": "00" * 32, "host": "here", "pid": os.getpid(), **told}

    def probe(self, *_: Any) -> Contract:
        return Contract({name: Answer(True, 0.0) for name in QUESTIONS})

    def make(self, out: str, number: int, batches: Any, items: Any) -> Receipt:
        time.sleep(0.1)
        return Receipt(number, len(items), "00" * 32, "", 0, 0.0, 0.0, True)


class Patient(Idle):
    """An actor whose shards wait until a file is there."""

    folder: Path
    awaited = "go"

    def make(self, *arguments: Any) -> Receipt:
        while not (self.folder / self.awaited).exists():
            time.sleep(0.05)
        return super().make(*arguments)


class Broken(Patient):
    """An actor that cannot load, but for the first; that one's shards wait until another has tried.

    The others fail once the first is known to be ready: before, a failure would end the run.
    """

    awaited = "second"

    def load(self, *rest: Any) -> dict[str, Any]:
        try:
            (self.folder / "first").touch(exist_ok=False)
        except FileExistsError:
            while not (self.folder / "ready").exists():
                time.sleep(0.05)
            (self.folder / "second").touch()
            raise SystemError("error return without exception set") from None
        return super().load(*rest)


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
        return Idle.load(self, *rest)

    make = Actor.make


def work(
    nodes: cluster.Nodes,
    shards: int,
    on_event: Callable[[dict[str, Any]], None],
    *,
    local: bool,
    actor: type = Idle,
    **operation: Any,
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
        pool = Pool(job, None, "nowhere", chosen, admission, asked, on_event, local=local, actor=actor)
        pool.run(schedule, plan, read)
    return schedule
