"""Who is missing among the workers, and who takes too long. No Ray; whoever looks brings the time.

========================================== =================================================================
seen                                       what follows
========================================== =================================================================
no process runs for ``start_seconds``      the run ends: nothing says that one will ever come
some run, others have no place yet         these wait as long as there is work: the cluster may grow; said once
a process runs, not ready in start_seconds it is ended, and the run where it was the only one that runs
a shard is overdue (with batch_seconds)    its worker is ended: a stopped process, a machine that is cut off
========================================== =================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol, TypeVar

from reprobatch.actor import PATIENCE
from reprobatch.errors import RunFailed
from reprobatch.gate import Event, Task
from reprobatch.settings import Operation

GRACE = PATIENCE + 10.0  # seconds beyond its batches' that a shard may take: its store may be in trouble
SAY = 30.0  # seconds without a worker that was asked for, after which the reason is said
DOING: dict[Task, str] = {
    "up": "start its process",
    "load": "load the pipeline",
    "probe": "run the probes",
    "fresh": "start a new process",
}


class Member(Protocol):
    """What is looked at of a worker: whether its process is up, and since when that or what it was asked last."""

    since: float
    up: bool
    ready: bool
    shards: set[int]


M = TypeVar("M", bound=Member)


class Watch:
    """Looks at the workers of a run.

    ``batches`` are all that a worker may have before it when it is given a shard, ``shortage`` says what a
    worker needs and what there is, ``now`` is the time of the first look, in seconds.
    """

    def __init__(
        self,
        operation: Operation,
        batches: float,
        shortage: Callable[[], str],
        tell: Callable[[Event], None],
        now: float,
    ) -> None:
        self._operation, self._batches, self._shortage, self._tell = operation, batches, shortage, tell
        self._said = self._seen_up = now
        self._told = False

    def look(
        self,
        now: float,
        members: Collection[M],
        pending: Iterable[tuple[M, int | Task]],
        started: Mapping[int, float],
    ) -> list[M]:
        """Say who is missing and why; the members to end. Raises :class:`RunFailed`; see the table.

        ``pending`` is who was asked what and has not answered, ``started`` when shards were given out last.
        """
        if any(member.up for member in members):
            self._seen_up = now
        self._say(now, members)
        limit = self._operation.start_seconds
        if members and now - self._seen_up > limit:
            raise RunFailed(
                f"no worker came up in {limit:g} s: {self._shortage()}; give it longer with operation.start_seconds"
            )
        asked = list(pending)
        return [*self._slow(now, members, asked), *self._frozen(now, asked, started)]

    def missing(self, missing: int, asked: int) -> None:
        """Say, once, that so many of the workers asked for are not there."""
        if not self._told:
            self._told = True
            which = f"{missing} of the {asked} workers asked for {'is' if missing == 1 else 'are'} not there"
            self._waiting(f"{which}, the run goes on without: {self._shortage()}")

    def _say(self, now: float, members: Collection[Member]) -> None:
        absent = [member for member in members if not member.up]
        if not any(member.ready for member in members):
            if now - self._said > SAY:
                self._said = now
                loading = len(absent) < len(members)
                why = "its process runs and is not ready yet" if loading else self._shortage()
                self._waiting(f"no worker is ready: {why}")
            return
        self._said = now
        if absent and now - min(member.since for member in absent) > SAY:
            self.missing(len(absent), len(members))

    def _waiting(self, reason: str) -> None:
        self._tell({"event": "waiting", "reason": reason})

    def _slow(self, now: float, members: Collection[M], asked: list[tuple[M, int | Task]]) -> Iterable[M]:
        limit = self._operation.start_seconds
        for member, task in asked:
            if isinstance(task, int) or not member.up or now - member.since <= limit:
                continue
            if sum(other.up for other in members) == 1:
                raise RunFailed(
                    f"a worker did not {DOING[task]} in {limit:g} s; give it longer with operation.start_seconds"
                )
            yield member

    def _frozen(self, now: float, asked: list[tuple[M, int | Task]], started: Mapping[int, float]) -> Iterable[M]:
        """Workers that do not even say that their call hangs."""
        limit = self._operation.batch_seconds
        if limit is None:
            return
        for member, task in asked:
            since = started.get(task) if isinstance(task, int) else None
            if since is not None and now - since > limit * self._batches + GRACE and task in member.shards:
                yield member
