"""Ray: actors around workers, bounded work in flight, every result consumed.

Actors die with the driver, so nothing goes on unseen; what they committed stays. An actor has two
shards in flight: while one computes, the other's rows arrive or its file is encoded and put.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray import exceptions

from reprobatch import determinism
from reprobatch.actor import Actor
from reprobatch.admission import Admission, Arrival
from reprobatch.contract import Samples
from reprobatch.errors import DataError, EnvironmentDiffers, JobError, ReprobatchError, RunFailed
from reprobatch.interrupt import interruptible
from reprobatch.job import ResolvedJob
from reprobatch.plan import Plan
from reprobatch.schedule import Schedule

IN_FLIGHT = 2  # shards an actor has at once
MAX_LOST = 5  # actors that may die before their first shard, one after the other
WAIT = 0.5  # seconds between two looks at the clock

Event = dict[str, Any]
_Task = Literal["load", "probe", "fresh"]  # what an actor is asked besides shards


@dataclass
class _Member:
    """The driver's side of an actor."""

    name: int
    handle: Any
    ready: bool = False  # may be given work
    arrival: Arrival | None = None
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


class Pool:
    """Workers of one job on a Ray cluster.

    ``on_event`` is told what happens, as dictionaries with an ``event`` key: ``ready``, ``start``,
    ``done``, ``again``, ``failed``, ``lost``, ``waiting``, ``probing``, ``contract``, ``turned_away``,
    ``environment``.
    """

    def __init__(
        self,
        job: ResolvedJob,
        model: str | None,
        out: str,
        samples: Samples,
        admission: Admission,
        limit: int | None,
        on_event: Callable[[Event], None],
    ) -> None:
        self._job, self._model, self._out = job, model, out
        self._samples, self._admission = samples, admission
        self._tell = on_event
        self._limit = min(limit or 10**6, _room(job))
        self._members: dict[int, _Member] = {}
        self._pending: dict[ray.ObjectRef[Any], tuple[_Member, int | _Task]] = {}
        self._spawned = self._lost_in_row = 0
        self._turned_away: list[str] = []
        needs = job.workers
        self._remote = ray.remote(Actor).options(
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
        with interruptible() as raise_if_interrupted:
            try:
                while not schedule.finished or self._unanswered():
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
        wanted = self._wanted = min(self._limit - len(self._turned_away), schedule.remaining)
        while len(self._members) < wanted:
            self._spawned += 1
            member = _Member(self._spawned, self._remote.remote())
            self._members[member.name] = member
            reference = member.handle.load.remote(self._job.canonical, self._model, self._samples.first)
            self._pending[reference] = (member, "load")
        if not self._members and not schedule.finished:
            raise EnvironmentDiffers(
                f"expected workers that give the recorded bits, found none here: {self._turned_away[-1]}; run where "
                "the dataset was begun, or set environments: many in a new dataset"
            )

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
        member, task = self._pending.pop(reference)
        try:
            result = ray.get(reference)
        except exceptions.RayTaskError as error:
            self._failed(member, task, error, schedule)
        except exceptions.RayError as error:
            self._lost(member, task, error, schedule)
        else:
            self._lost_in_row = 0
            if isinstance(task, str):
                self._answered(member, task, result)
            else:
                member.shards.discard(task)
                schedule.finish(task)
                self._tell({"event": "done", "shard": task, "worker": member.name, "receipt": result})

    def _answered(self, member: _Member, task: _Task, result: Any) -> None:
        if task == "load":
            member.arrival = Arrival(member.name, result["canary"], result["environment"])
            self._tell({"event": "ready", "worker": member.name, **result})
            self._admit([member])
        elif task == "probe":
            self._admission.settle(result)
            self._tell_contract()
            self._admit([m for m in self._members.values() if m.arrival is not None])
        else:
            self._admission.answer_fresh(result)
            self._tell_contract()

    def _admit(self, members: list[_Member]) -> None:
        known = self._admission.contract
        for member in members:
            assert member.arrival is not None
            decision = self._admission.arrive(member.arrival)
            if decision == "probe":
                self._tell({"event": "probing", "worker": member.name})
                # with others on the way, the first of them answers what a new process gives
                self._pending[member.handle.probe.remote(self._samples, self._wanted == 1)] = (member, "probe")
            elif decision == "turn away":
                self._turn_away(member, member.arrival)
            elif decision == "admit":
                member.ready = True
                self._tell_differences(member.arrival)
        if known is not None and known != self._admission.contract:
            self._tell_contract()

    def _turn_away(self, member: _Member, arrival: Arrival) -> None:
        reason = self._admission.reason(arrival)
        self._turned_away.append(reason)
        del self._members[member.name]
        ray.kill(member.handle)
        self._tell({"event": "turned_away", "worker": member.name, "reason": reason})

    def _tell_contract(self) -> None:
        contract, reference = self._admission.contract, self._admission.reference
        assert contract is not None and reference is not None
        event = {"event": "contract", "contract": contract.as_dict(), "canary": reference.canary}
        self._tell({**event, "environment": reference.facts})

    def _tell_differences(self, arrival: Arrival) -> None:
        assert self._admission.reference is not None
        differs = self._admission.differences(arrival)
        if differs or arrival.canary != self._admission.reference.canary:
            event = {"event": "environment", "worker": arrival.worker, "canary": arrival.canary, "differs": differs}
            self._tell({**event, "environment": arrival.facts})

    def _unanswered(self) -> bool:
        """Whether *fresh process* is still open: no second worker came, so a new process is started."""
        contract = self._admission.contract
        if contract is None or contract["fresh_process"].holds is not None:
            return False
        asked = any(task == "fresh" for _, task in self._pending.values())
        if not asked:
            member = next((m for m in self._members.values() if m.ready), None)
            if member is None:
                return False
            self._pending[member.handle.fresh.remote(self._samples)] = (member, "fresh")
        return True

    def _failed(self, member: _Member, task: int | _Task, error: exceptions.RayTaskError, schedule: Schedule) -> None:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        reason = str(cause) if isinstance(cause, ReprobatchError) else f"{type(cause).__name__}: {_line(cause)}"
        if isinstance(task, str):
            if isinstance(cause, ReprobatchError):
                raise type(cause)(str(cause)) from None
            doing = {"load": "load the pipeline", "probe": "run the probes", "fresh": "start a new process"}[task]
            raise RunFailed(f"a worker could not {doing}: {reason}") from None
        shard = task
        member.shards.discard(shard)
        if isinstance(cause, JobError):
            raise JobError(str(cause)) from None
        if isinstance(cause, DataError):
            schedule.give_up(shard, reason)
            again = False
        else:
            again = schedule.fail(shard, reason)
        self._tell({"event": "again" if again else "failed", "shard": shard, "worker": member.name, "reason": reason})

    def _lost(self, member: _Member, task: int | _Task, error: exceptions.RayError, schedule: Schedule) -> None:
        reason = f"worker died: {_line(error)}"
        if self._members.pop(member.name, None) is not None:
            self._lost_in_row += 1
            self._admission.lose(member.name)
            self._tell({"event": "lost", "worker": member.name, "reason": reason})
        if isinstance(task, int):
            shard = task
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
