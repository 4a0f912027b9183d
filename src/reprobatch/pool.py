"""Workers as Ray actors: as many as there is room for, bounded work in flight, every result consumed.

Actors die with the driver, so nothing goes on unseen; what they committed stays. An actor has two
shards in flight: while one computes, the other's rows arrive or its file is encoded and put. Workers
come as nodes join and go as they leave; at the tail idle ones take copies of the slowest shards.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import ray
from ray import exceptions

from reprobatch import cluster, determinism
from reprobatch.actor import Actor
from reprobatch.admission import Admission, Arrival
from reprobatch.attachments import Hint
from reprobatch.contract import Samples
from reprobatch.errors import BatchHung, DataError, EnvironmentDiffers, JobError, ReprobatchError, RunFailed
from reprobatch.gate import Event, Gate, Task
from reprobatch.interrupt import interruptible
from reprobatch.job import ResolvedJob
from reprobatch.plan import Plan
from reprobatch.schedule import Schedule
from reprobatch.settings import Operation
from reprobatch.watch import DOING, Watch

IN_FLIGHT = 2  # shards an actor has at once
MAX_LOST = 5  # actors that may die before they have loaded, one after the other
LATER = 60.0  # seconds until others are tried after so many
SLOW = 1.5  # times the mean, after which an idle worker takes a copy of a shard
WAIT = 0.5  # seconds between two looks at the clock
LOOK = 5.0  # seconds between two looks at the cluster

Read = Callable[[int, int], list[dict[str, Any]]]


@dataclass
class _Member:
    """The driver's side of an actor."""

    name: int
    handle: Any
    since: float  # when it was spawned, came up or was last asked something
    up: bool = False  # its process runs
    ready: bool = False  # may be given work
    host: str | None = None  # known once it has loaded
    ended: bool = False  # by us, for a call that hangs: its other shard is not to blame
    arrival: Arrival | None = None
    shards: set[int] = field(default_factory=set)


class Pool:
    """Workers of one job on a Ray cluster.

    ``on_event`` is told what happens, as dictionaries with an ``event`` key: ``ready``, ``start``,
    ``done``, ``again``, ``failed``, ``lost``, ``waiting``, ``probing``, ``contract``, ``turned_away``,
    ``environment``. ``most`` is the most workers at once; ``local`` says that the cluster was started for
    this: it never grows, and its processes have the determinism's variables already. ``actor`` is the class
    that Ray runs, for measurements of the pool alone.
    """

    def __init__(
        self,
        job: ResolvedJob,
        model: Hint,
        out: str,
        samples: Samples,
        admission: Admission,
        operation: Operation,
        on_event: Callable[[Event], None],
        *,
        most: int | None = None,
        local: bool = True,
        actor: type = Actor,
    ) -> None:
        self._job, self._model, self._out, self._operation = job, model, out, operation
        self._tell = on_event
        self._gate = Gate(admission, samples, on_event, self._ask, self._dismiss)
        self._most, self._local = min(most or 10**6, operation.max_workers or 10**6), local
        self._members: dict[int, _Member] = {}
        self._pending: dict[ray.ObjectRef[Any], tuple[_Member, int | Task]] = {}
        self._started: dict[int, float] = {}
        self._durations: deque[float] = deque(maxlen=100)
        self._spawned = self._lost_in_row = self._room = self._wanted = 0
        self._looked = self._lost_at = float("-inf")
        needs = job.workers
        runtime_env = {} if local else {"env_vars": determinism.variables(job.determinism, needs.threads)}
        self._remote = ray.remote(actor).options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_restarts=0,
            max_concurrency=IN_FLIGHT,
            runtime_env=runtime_env,
        )
        if local and cluster.room(needs) < 1:
            raise JobError(f"{cluster.shortage(needs)}; lower workers.cpus or workers.gpus, or join a larger cluster")

    def run(self, schedule: Schedule, plan: Plan, read: Read) -> None:
        """Work until nothing is left. Raises for errors that no other attempt could mend."""
        needs, batches = self._job.workers, IN_FLIGHT * self._job.shard_size / self._job.batch_size
        now = time.monotonic()
        self._watch = Watch(self._operation, batches, lambda: cluster.shortage(needs), self._tell, now)
        with interruptible() as raise_if_interrupted:
            try:
                while not schedule.finished or self._gate.still_asking(self._members.values()):
                    raise_if_interrupted()
                    self._grow(schedule)
                    self._assign(schedule, plan, read)
                    self._listen(schedule)
                    self._look()
            finally:
                for member in self._members.values():
                    with suppress(Exception):  # it may be dead already; nothing is left to lose
                        ray.kill(member.handle)

    def _grow(self, schedule: Schedule) -> None:
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked, self._room = now, cluster.room(self._job.workers)
        # a cluster that scales from zero grows by what is asked of it; a local one never grows
        asked = min(self._most, max(self._room, self._operation.min_workers))
        if self._local and min(asked, schedule.remaining) > self._room:
            self._watch.missing(asked - self._room, asked)
            asked = self._room
        self._wanted = min(asked - len(self._gate.turned_away), schedule.remaining)
        if self._lost_in_row < MAX_LOST or now - self._lost_at > LATER:
            while len(self._members) < self._wanted:
                self._spawn(now)
        if not self._members and self._wanted < 1 and not schedule.finished:
            raise EnvironmentDiffers(
                f"expected workers that give the recorded bits, found none here: {self._gate.turned_away[-1]}; run "
                "where the dataset was begun, or set environments: many in a new dataset"
            )

    def _spawn(self, now: float) -> None:
        self._spawned += 1
        handle = self._remote.remote()
        member = _Member(self._spawned, handle, now)
        self._members[member.name] = member
        self._ask(member, "up", handle.up.remote())
        first, limit = self._gate.samples.first, self._operation.batch_seconds
        only = self._wanted == 1 and self._gate.admission.contract is None
        self._ask(member, "load", handle.load.remote(self._job.canonical, self._model, first, limit, only))

    def _ask(self, member: _Member, task: int | Task, reference: ray.ObjectRef[Any]) -> None:
        member.since = time.monotonic()
        self._pending[reference] = (member, task)

    def _dismiss(self, member: _Member) -> None:
        del self._members[member.name]
        ray.kill(member.handle)

    def _assign(self, schedule: Schedule, plan: Plan, read: Read) -> None:
        # a second shard in flight only while every worker, those still loading too, will have a first
        spare = schedule.remaining - schedule.running - sum(m.up and not m.shards for m in self._members.values())
        for depth in range(1, IN_FLIGHT + 1):
            for member in self._members.values():
                if not member.ready or len(member.shards) >= depth:
                    continue
                if depth > 1 and (spare := spare - 1) < 0:
                    return
                shard = schedule.start()
                if shard is None and not member.shards:
                    shard = self._copy(schedule)
                if shard is None:
                    return
                self._make(member, shard, schedule.attempt(shard), plan, read)

    def _copy(self, schedule: Schedule) -> int | None:
        if not self._durations:
            return None
        limit = time.monotonic() - SLOW * mean(self._durations)
        return schedule.copy(lambda shard: self._started[shard] < limit)

    def _make(self, member: _Member, shard: int, attempt: int, plan: Plan, read: Read) -> None:
        span = plan.shard(shard)
        reference = member.handle.make.remote(self._out, shard, plan.batches(shard), read(span.start, span.stop))
        member.shards.add(shard)
        self._started[shard] = time.monotonic()
        self._ask(member, shard, reference)
        self._tell({**_of(member, "start", shard), "attempt": attempt})

    def _listen(self, schedule: Schedule) -> None:
        """Take what has been answered; wait a moment for it."""
        if not self._pending:
            time.sleep(WAIT)
            return
        asked = list(self._pending)
        # with thousands of workers several have answered at any time: what a round costs is shared among these
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=0)
        if not ready:
            ready, _ = ray.wait(asked, num_returns=1, timeout=WAIT)
        for reference in ready:
            self._take(reference, schedule)

    def _take(self, reference: ray.ObjectRef[Any], schedule: Schedule) -> None:
        member, task = self._pending.pop(reference)
        try:
            result = ray.get(reference)
        except exceptions.RayTaskError as error:
            self._failed(member, task, error, schedule)
        except exceptions.RayError as error:
            self._lost(member, task, f"worker died: {cluster.one_line(error)}", schedule)
        else:
            if task == "up":
                member.up, member.since = True, time.monotonic()
                return
            if task == "load":
                self._lost_in_row, member.host = 0, result["host"]
            if isinstance(task, str):
                self._gate.answered(member, task, result, self._members.values(), only=self._wanted == 1)
            else:
                self._done(member, task, result, schedule)

    def _done(self, member: _Member, shard: int, receipt: Any, schedule: Schedule) -> None:
        member.shards.discard(shard)
        since = self._started.pop(shard, None)  # gone where another worker was first
        if since is not None:
            self._durations.append(time.monotonic() - since)
        first, attempt = not schedule.is_done(shard), schedule.attempt(shard)
        schedule.finish(shard)
        if first:
            self._tell({**_of(member, "done", shard), "attempt": attempt, "receipt": receipt})

    def _failed(self, member: _Member, task: int | Task, error: exceptions.RayTaskError, schedule: Schedule) -> None:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        reason = (
            str(cause) if isinstance(cause, ReprobatchError) else f"{type(cause).__name__}: {cluster.one_line(cause)}"
        )
        if isinstance(task, str):
            if isinstance(cause, ReprobatchError):
                raise type(cause)(str(cause)) from None
            trouble = f"a worker could not {DOING[task]}: {reason}"
            if member.ready or not self._any_ready():
                raise RunFailed(trouble) from None
            self._lost(member, task, trouble, schedule)
            return
        if isinstance(cause, BatchHung):  # its thread hangs on: only the end of the process ends it
            ray.kill(member.handle)
            self._lost(member, task, reason, schedule)
            member.ended = True
            return
        if isinstance(cause, JobError):
            raise JobError(str(cause)) from None
        member.shards.discard(task)
        if isinstance(cause, DataError):
            schedule.give_up(task, reason)
            self._tell_failed(member, task, reason, again=False)
        else:
            self._tell_failed(member, task, reason, again=schedule.fail(task, reason))

    def _lost(self, member: _Member, task: int | Task, reason: str, schedule: Schedule) -> None:
        if self._members.pop(member.name, None) is not None:
            with suppress(Exception):  # one that was only out of reach may live on
                ray.kill(member.handle)
            if not member.ready:
                self._lost_in_row, self._lost_at = self._lost_in_row + 1, time.monotonic()
            self._tell({"event": "lost", "worker": member.name, "reason": reason})
            self._gate.lost(member, self._members.values(), only=self._wanted == 1)
        if isinstance(task, int) and member.ended:
            schedule.release(task)
        elif isinstance(task, int):
            self._tell_failed(member, task, reason, again=schedule.lose(task, reason))
        if self._lost_in_row >= MAX_LOST and not self._any_ready():
            raise RunFailed(f"{MAX_LOST} workers died one after the other before they were ready; the last: {reason}")

    def _any_ready(self) -> bool:
        return any(member.ready for member in self._members.values())

    def _tell_failed(self, member: _Member, shard: int, reason: str, *, again: bool) -> None:
        self._tell({**_of(member, "again" if again else "failed", shard), "reason": reason})

    def _look(self) -> None:
        members, asked = self._members.values(), self._pending.values()
        for member in self._watch.look(time.monotonic(), members, asked, self._started):
            # what it was asked ends with an error that _lost takes
            ray.kill(member.handle)


def _of(member: _Member, event: str, shard: int) -> Event:
    return {"event": event, "shard": shard, "worker": member.name, "host": member.host}
