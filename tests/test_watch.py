"""Workers that do not come, or do not get on: said, waited for, ended, or the end of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from reprobatch.errors import RunFailed
from reprobatch.gate import Task
from reprobatch.settings import Operation
from reprobatch.watch import GRACE, SAY, Watch

LIMIT = 100.0


@dataclass(eq=False)
class Worker:
    since: float = 0.0
    up: bool = True
    ready: bool = True
    shards: set[int] = field(default_factory=set)


def at_work() -> Worker:
    return Worker()


def absent() -> Worker:
    return Worker(up=False, ready=False)


def loading() -> Worker:
    return Worker(ready=False)


class Run:
    """A watch and what it said; times are seconds since the run began."""

    def __init__(self, *members: Worker, **operation: Any) -> None:
        self.members, self.said = list(members), []
        options = Operation(start_seconds=LIMIT, **operation)
        self.watch = Watch(options, 2, lambda: "too few machines", lambda event: self.said.append(event["reason"]), 0.0)

    def look(self, now: float, *pending: tuple[Worker, int | Task], **started: float) -> list[Worker]:
        return self.watch.look(now, self.members, pending, {int(k[1:]): v for k, v in started.items()})


def test_workers_that_have_no_place_are_waited_for_while_another_is_at_work_and_that_is_said_once() -> None:
    missing = [absent(), absent()]
    run = Run(at_work(), *missing)
    for now in range(0, 10 * int(LIMIT)):
        assert run.look(now, *((worker, "load") for worker in missing)) == []
    assert run.said == ["2 of the 3 workers asked for are not there, the run goes on without: too few machines"]


def test_a_cluster_on_which_no_process_comes_up_ends_the_run_with_the_shortage() -> None:
    run = Run(absent(), absent())
    run.look(LIMIT)
    with pytest.raises(RunFailed, match=r"no worker came up in 100 s: too few machines; .*start_seconds"):
        run.look(LIMIT + 1)
    assert run.said == ["no worker is ready: too few machines"]


def test_after_the_last_worker_at_work_has_died_others_have_all_the_time_to_come() -> None:
    run, late = Run(at_work(), absent()), 10 * LIMIT
    run.look(late)
    del run.members[0]
    run.look(late + LIMIT)
    with pytest.raises(RunFailed, match="no worker came up in 100 s"):
        run.look(late + LIMIT + 1)


@pytest.mark.parametrize("task", ["load", "probe", "fresh"])
def test_a_worker_that_does_not_get_ready_is_ended_where_another_runs(task: Task) -> None:
    slow = loading()
    run = Run(slow, at_work())
    assert run.look(LIMIT, (slow, task)) == []
    assert run.look(LIMIT + 1, (slow, task)) == [slow]


def test_the_only_worker_that_runs_and_does_not_get_ready_ends_the_run() -> None:
    slow = loading()
    run = Run(slow, absent())
    with pytest.raises(RunFailed, match=r"a worker did not load the pipeline in 100 s; give it longer"):
        run.look(LIMIT + 1, (slow, "load"))


def test_the_time_to_load_begins_when_the_process_is_up() -> None:
    slow = loading()
    slow.since = 5 * LIMIT  # the machine took that long
    run = Run(slow, at_work())
    assert run.look(6 * LIMIT, (slow, "load")) == []


def test_one_that_waits_for_anothers_probes_is_not_asked_anything_and_not_ended() -> None:
    prober, waits = loading(), loading()
    prober.since = LIMIT
    assert Run(prober, waits).look(2 * LIMIT, (prober, "probe")) == []


def test_a_worker_whose_shards_are_overdue_is_ended() -> None:
    frozen = at_work()
    frozen.shards = {7}
    run = Run(frozen, batch_seconds=5.0)
    due = 2 * 5.0 + GRACE
    assert run.look(due, (frozen, 7), _7=0.0) == []
    assert run.look(due + 1, (frozen, 7), _7=0.0) == [frozen]
    assert run.look(due + 1, (frozen, 7), _7=2.0) == []  # given out again since: the newer one's time
    assert Run(frozen).look(10**6, (frozen, 7), _7=0.0) == []  # without batch_seconds nothing is overdue


def test_nobody_ready_is_said_again_and_again_but_not_while_one_is() -> None:
    run = Run(loading())
    for now in range(0, 3 * int(SAY) + 4):
        run.look(now)
    assert run.said == ["no worker is ready: its process runs and is not ready yet"] * 3
    run.members[0].ready = True
    run.look(LIMIT)
    assert len(run.said) == 3
