"""Ray: actors around workers, bounded work in flight, every result consumed.

Actors die with the driver, so nothing goes on unseen; what they committed stays. An actor has two
shards in flight: while one computes, the other's rows arrive or its file is encoded and put.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions

from reprobatch import determinism
from reprobatch.errors import DataError, JobError, ReprobatchError, RunFailed
from reprobatch.job import ResolvedJob
from reprobatch.plan import Batch, Plan
from reprobatch.schedule import Schedule
from reprobatch.store import Store, shard_name
from reprobatch.worker import Worker

IN_FLIGHT = 2  # shards an actor has at once
MAX_LOST = 5  # actors that may die before their first shard, one after the other
WAIT = 0.5  # seconds between two looks at the clock

Event = dict[str, Any]


@dataclass(frozen=True)
class Receipt:
    """What a worker says of a shard it committed; ``sha256`` is the file's."""

    shard: int
    items: int
    sha256: str
    compact: str
    size: int
    seconds: float
    pipeline_seconds: float
    new: bool


class _Actor:
    """Runs in the worker process; Ray calls it from as many threads as there are shards in flight."""

    def load(self, job_json: str, model: str | None) -> dict[str, Any]:
        self.worker = Worker(ResolvedJob.from_json(job_json), model)
        return {"environment": self.worker.environment(), "host": socket.gethostname(), "pid": os.getpid()}

    def make(self, out: str, number: int, batches: Sequence[Batch], items: Sequence[dict[str, Any]]) -> Receipt:
        start = time.monotonic()
        shard = self.worker.shard(number, batches, items)
        new = Store(out).put_new(shard_name(number), memoryview(shard.data))
        seconds = time.monotonic() - start
        return Receipt(
            number,
            shard.items,
            shard.sha256,
            shard.compact,
            shard.data.size,
            seconds,
            shard.pipeline_seconds,
            new,
        )


@dataclass
class _Member:
    """The driver's side of an actor."""

    name: int
    handle: Any
    ready: bool = False
    shards: set[int] = field(default_factory=set)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray for the length of a block: the cluster at ``address`` (or in ``RAY_ADDRESS``), else a local one."""
    address = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise JobError(f"cannot reach a Ray cluster at '{address or 'local'}': {_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM as a question to ask between two steps, for the length of a block.

    An exception that a signal raises anywhere may land in a callback, where Python drops it and the run
    goes on. A second signal is as abrupt as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    caught: list[int] = []

    def handler(number: int, _: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    def ask() -> None:
        if caught:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ask
    finally:
        for number, former in before.items():
            signal.signal(number, former)


class Pool:
    """Workers of one job on a Ray cluster.

    ``on_event`` is told what happens, as dictionaries with an ``event`` key: ``ready``, ``start``,
    ``done``, ``again``, ``failed``, ``lost``, ``waiting``.
    """

    def __init__(
        self,
        job: ResolvedJob,
        model: str | None,
        out: str,
        limit: int | None,
        on_event: Callable[[Event], None],
    ) -> None:
        self._job, self._model, self._out = job, model, out
        self._tell = on_event
        self._limit = min(limit or 10**6, _room(job))
        self._members: dict[int, _Member] = {}
        self._pending: dict[ray.ObjectRef[Any], tuple[_Member, int | None]] = {}
        self._spawned = self._lost_in_row = 0
        needs = job.workers
        self._remote = ray.remote(_Actor).options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_restarts=0,
            max_concurrency=IN_FLIGHT,
            runtime_env={"env_vars": determinism.variables(job.determinism, needs.threads)},
        )

    def run(
        self,
        schedule: Schedule,
        plan: Plan,
        read: Callable[[int, int], list[dict[str, Any]]],
    ) -> None:
        """Work until nothing is left. Raises for errors that no other attempt could mend."""
        waiting_since = time.monotonic()
        with _interruptible() as raise_if_interrupted:
            try:
                while not schedule.finished:
                    raise_if_interrupted()
                    self._grow(schedule)
                    self._assign(schedule, plan, read)
                    ready, _ = ray.wait(list(self._pending), num_returns=1, timeout=WAIT)
                    for reference in ready:
                        self._take(reference, schedule)
                    if ready or any(m.ready for m in self._members.values()):
                        waiting_since = time.monotonic()
                    elif time.monotonic() - waiting_since > 30:
                        self._tell({"event": "waiting", "reason": self._why_waiting()})
                        waiting_since = time.monotonic()
            finally:
                for member in self._members.values():
                    with suppress(Exception):  # it may be dead already; nothing is left to lose
                        ray.kill(member.handle)

    def _grow(self, schedule: Schedule) -> None:
        wanted = min(self._limit, schedule.remaining)
        while len(self._members) < wanted:
            self._spawned += 1
            member = _Member(self._spawned, self._remote.remote())
            self._members[member.name] = member
            self._pending[member.handle.load.remote(self._job.canonical, self._model)] = (member, None)

    def _assign(self, schedule: Schedule, plan: Plan, read: Callable[[int, int], list[dict[str, Any]]]) -> None:
        # a second shard in flight only while every worker, those still loading too, will have a first
        spare = schedule.remaining - schedule.running - sum(not m.shards for m in self._members.values())
        for depth in range(1, IN_FLIGHT + 1):
            for member in self._members.values():
                if not member.ready or len(member.shards) >= depth:
                    continue
                if depth > 1 and (spare := spare - 1) < 0:
                    return
                shard = schedule.start()
                if shard is None:
                    return
                span = plan.shard(shard)
                reference = member.handle.make.remote(
                    self._out, shard, plan.batches(shard), read(span.start, span.stop)
                )
                member.shards.add(shard)
                self._pending[reference] = (member, shard)
                self._tell(
                    {
                        "event": "start",
                        "shard": shard,
                        "attempt": schedule.attempt(shard),
                        "worker": member.name,
                    }
                )

    def _take(self, reference: ray.ObjectRef[Any], schedule: Schedule) -> None:
        member, shard = self._pending.pop(reference)
        try:
            result = ray.get(reference)
        except exceptions.RayTaskError as error:
            self._failed(member, shard, error, schedule)
        except exceptions.RayError as error:
            self._lost(member, shard, error, schedule)
        else:
            self._lost_in_row = 0
            if shard is None:
                member.ready = True
                self._tell({"event": "ready", "worker": member.name, **result})
            else:
                member.shards.discard(shard)
                schedule.finish(shard)
                self._tell({"event": "done", "shard": shard, "worker": member.name, "receipt": result})

    def _failed(self, member: _Member, shard: int | None, error: exceptions.RayTaskError, schedule: Schedule) -> None:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        reason = str(cause) if isinstance(cause, ReprobatchError) else f"{type(cause).__name__}: {_line(cause)}"
        if shard is None:
            if isinstance(cause, ReprobatchError):
                raise type(cause)(str(cause)) from None
            raise RunFailed(f"a worker could not load the pipeline: {reason}") from None
        member.shards.discard(shard)
        if isinstance(cause, JobError):
            raise JobError(str(cause)) from None
        if isinstance(cause, DataError):
            schedule.give_up(shard, reason)
            again = False
        else:
            again = schedule.fail(shard, reason)
        self._tell({"event": "again" if again else "failed", "shard": shard, "worker": member.name, "reason": reason})

    def _lost(self, member: _Member, shard: int | None, error: exceptions.RayError, schedule: Schedule) -> None:
        reason = f"worker died: {_line(error)}"
        if self._members.pop(member.name, None) is not None:
            self._lost_in_row += 1
            self._tell({"event": "lost", "worker": member.name, "reason": reason})
        if shard is not None:
            again = schedule.lose(shard, reason)
            self._tell(
                {
                    "event": "again" if again else "failed",
                    "shard": shard,
                    "worker": member.name,
                    "reason": reason,
                }
            )
        if self._lost_in_row >= MAX_LOST:
            raise RunFailed(f"{MAX_LOST} workers died one after the other; the last: {reason}")

    def _why_waiting(self) -> str:
        free = ray.available_resources()
        return (
            f"no worker is up: each needs {self._job.workers.cpus:g} CPU and {self._job.workers.gpus:g} GPU, "
            f"free now are {free.get('CPU', 0):g} CPU and {free.get('GPU', 0):g} GPU"
        )


def _room(job: ResolvedJob) -> int:
    """How many workers the cluster has room for now; raises where a local machine never will."""
    have, needs = ray.cluster_resources(), job.workers
    fits = [int(have.get(kind, 0) / need) for kind, need in (("CPU", needs.cpus), ("GPU", needs.gpus)) if need]
    room = min(fits, default=int(have.get("CPU", 1)))
    if room < 1:
        raise JobError(
            f"a worker needs {needs.cpus:g} CPU and {needs.gpus:g} GPU, the cluster has {have.get('CPU', 0):g} CPU "
            f"and {have.get('GPU', 0):g} GPU; lower workers.cpus or workers.gpus, or join a larger cluster"
        )
    return room


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300] if lines else type(error).__name__
