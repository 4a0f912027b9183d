"""The schedule: which shard is in what state. Nothing lost, nothing doubled, no shard tried for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reprobatch.schedule import Failure, Schedule


def state(schedule: Schedule) -> str:
    """Of the only shard, as far as others can tell."""
    if schedule.failures:
        return "failed"
    if schedule.done:
        return "done"
    return "running" if schedule.running else "pending"


def pending(attempts: int = 0) -> Schedule:
    """A schedule of one shard that has failed so often."""
    schedule = Schedule(1)
    for _ in range(attempts):
        assert schedule.start() == 0
        assert schedule.fail(0, "earlier")
    return schedule


def running(attempts: int = 1) -> Schedule:
    schedule = pending(attempts - 1)
    assert schedule.start() == 0
    return schedule


def done() -> Schedule:
    schedule = running()
    schedule.finish(0)
    return schedule


def failed() -> Schedule:
    schedule = running()
    schedule.give_up(0, "earlier")
    return schedule


EVENTS: dict[str, Callable[[Schedule], object]] = {
    "start": lambda schedule: schedule.start(),
    "finish": lambda schedule: schedule.finish(0),
    "fail": lambda schedule: schedule.fail(0, "reason"),
    "lose": lambda schedule: schedule.lose(0, "reason"),
    "give up": lambda schedule: schedule.give_up(0, "reason"),
}


@pytest.mark.parametrize(
    ("before", "event", "answer", "after"),
    [
        (pending, "start", 0, "running"),
        (running, "start", None, "running"),
        (done, "start", None, "done"),
        (failed, "start", None, "failed"),
        (running, "finish", None, "done"),
        (lambda: running(3), "finish", None, "done"),
        (lambda: running(1), "fail", True, "pending"),
        (lambda: running(2), "fail", True, "pending"),
        (lambda: running(3), "fail", False, "failed"),
        (lambda: running(1), "lose", True, "pending"),
        (lambda: running(2), "lose", True, "pending"),
        (lambda: running(3), "lose", False, "failed"),
        (lambda: running(1), "give up", None, "failed"),
        (lambda: running(3), "give up", None, "failed"),
    ],
)
def test_states_and_events(before: Callable[[], Schedule], event: str, answer: object, after: str) -> None:
    schedule = before()
    said = EVENTS[event](schedule)
    assert said == answer and type(said) is type(answer)
    assert state(schedule) == after


@pytest.mark.parametrize("event", ["finish", "fail", "lose", "give up"])
@pytest.mark.parametrize("before", [pending, done, failed])
def test_only_a_running_shard_can_end(before: Callable[[], Schedule], event: str) -> None:
    schedule = before()
    was = state(schedule)
    with pytest.raises(ValueError, match="shard 0 is not running"):
        EVENTS[event](schedule)
    assert state(schedule) == was


def test_a_failure_says_how_often_and_why_last() -> None:
    schedule = Schedule(2, attempts=2)
    assert (schedule.start(), schedule.start()) == (0, 1)
    schedule.give_up(1, "no such argument")
    schedule.fail(0, "first")
    schedule.start()
    schedule.lose(0, "second")
    assert schedule.failures == {1: Failure(1, 1, "no such argument"), 0: Failure(0, 2, "second")}
    assert schedule.finished


def test_what_is_done_already_is_not_started() -> None:
    schedule = Schedule(6, done=[0, 2, 3, 5])
    assert (schedule.done, schedule.remaining) == (4, 2)
    assert [schedule.start() for _ in range(3)] == [1, 4, None]


def test_all_done_already_is_finished() -> None:
    assert Schedule(3, done=range(3)).finished
    assert not Schedule(3, done=range(2)).finished


def test_a_shard_that_failed_comes_again_after_those_not_yet_tried() -> None:
    schedule = Schedule(4)
    assert [schedule.start(), schedule.start()] == [0, 1]
    schedule.fail(1, "x")
    schedule.fail(0, "x")
    assert [schedule.start() for _ in range(5)] == [2, 3, 1, 0, None]


@pytest.mark.parametrize("allowed", [1, 2, 5])
def test_a_shard_that_always_fails_is_tried_as_often_as_allowed(allowed: int) -> None:
    schedule = Schedule(1, attempts=allowed)
    tries = 0
    while schedule.start() is not None:
        tries += 1
        assert schedule.attempt(0) == tries
        assert schedule.fail(0, "x") == (tries < allowed)
    assert tries == allowed


def always(shard: int) -> bool:
    return True


def test_a_copy_is_of_the_shard_that_one_worker_has_had_longest() -> None:
    schedule = Schedule(3)
    assert [schedule.start() for _ in range(3)] == [0, 1, 2]
    assert [schedule.copy(always) for _ in range(4)] == [0, 1, 2, None]
    assert schedule.running == 3


def test_a_copy_waits_until_the_oldest_is_slow() -> None:
    schedule = Schedule(2)
    schedule.start(), schedule.start()
    assert schedule.copy(lambda shard: shard == 1) is None
    assert schedule.copy(lambda shard: shard == 0) == 0


def test_a_released_shard_comes_again_and_no_attempt_is_counted() -> None:
    schedule = running(attempts=3)
    schedule.release(0)
    assert (schedule.running, schedule.remaining) == (0, 1)
    assert schedule.start() == 0 and schedule.attempt(0) == 3
    assert not schedule.fail(0, "x")


def test_a_copy_that_is_released_leaves_the_shard_to_the_other_worker() -> None:
    schedule = running(attempts=2)
    schedule.copy(always)
    schedule.release(0)
    assert (schedule.running, schedule.attempt(0), schedule.start()) == (1, 2, None)


def test_memory_does_not_grow_with_what_is_done_in_order() -> None:
    schedule = Schedule(10_000)
    while (shard := schedule.start()) is not None:
        schedule.finish(shard)
    assert schedule.finished
    assert not schedule._tried and not schedule._done._beyond and not schedule._workers


def test_the_first_of_two_commits_wins_and_the_second_changes_nothing() -> None:
    for late in ("finish", "fail", "lose"):
        schedule = running()
        assert schedule.copy(always) == 0
        schedule.finish(0)
        assert (schedule.done, schedule.running, schedule.finished) == (1, 0, True)
        EVENTS[late](schedule)
        assert (schedule.done, schedule.running, schedule.failures) == (1, 0, {})
        assert schedule.start() is None and schedule.copy(always) is None


def test_a_copy_that_fails_leaves_the_shard_to_the_other_worker() -> None:
    schedule = running(attempts=3)
    schedule.copy(always)
    assert schedule.fail(0, "one")  # its attempts are used up, but another worker has it
    assert (schedule.running, schedule.failures, schedule.start()) == (1, {}, None)
    assert not schedule.fail(0, "other")
    assert schedule.failures == {0: Failure(0, 3, "other")}


class AnyRun(RuleBasedStateMachine):
    """Workers that start, copy, finish, fail, die and give up in any order."""

    @initialize(total=st.integers(0, 12), attempts=st.integers(1, 4), data=st.data())
    def begin(self, total: int, attempts: int, data: st.DataObject) -> None:
        there = data.draw(st.sets(st.integers(0, total - 1))) if total else set()
        self.schedule = Schedule(total, there, attempts)
        self.total, self.attempts = total, attempts
        self.done = self.there = set(there)
        self.workers: Counter[int] = Counter()  # on each shard, late copies too
        self.started: Counter[int] = Counter()
        self.given_up: set[int] = set()

    @rule()
    def start(self) -> None:
        shard = self.schedule.start()
        waiting = set(range(self.total)) - self.done - (+self.workers).keys() - self.given_up
        if shard is None:
            assert not waiting
            return
        assert shard in waiting
        self.workers[shard] += 1
        self.started[shard] += 1
        assert self.schedule.attempt(shard) == self.started[shard]

    @rule()
    def copy(self) -> None:
        shard = self.schedule.copy(always)
        slow = {s for s, workers in self.workers.items() if workers == 1} - self.done - self.given_up
        if shard is None:
            assert not slow
            return
        assert shard in slow
        self.workers[shard] += 1

    @precondition(lambda self: +self.workers)
    @rule(data=st.data(), event=st.sampled_from(["finish", "fail", "lose", "give up"]))
    def end(self, data: st.DataObject, event: str) -> None:
        shard = data.draw(st.sampled_from(sorted(+self.workers)))
        elsewhere = self.workers[shard] > 1 or shard in self.done | self.given_up
        self.workers[shard] -= 1
        self.workers = +self.workers
        if event == "finish":
            self.schedule.finish(shard)
            self.done = self.done | {shard}
        elif event == "give up":
            self.schedule.give_up(shard, "x")
            self.given_up.add(shard)
        else:
            again = (self.schedule.fail if event == "fail" else self.schedule.lose)(shard, "x")
            assert again == (elsewhere or self.started[shard] < self.attempts)
            if not again:
                self.given_up.add(shard)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert not self.there & self.started.keys()
        assert all(times <= self.attempts for times in self.started.values())
        assert self.schedule.failures.keys() == self.given_up
        assert self.schedule.done == len(self.done)
        assert self.schedule.running == len(self.workers.keys() - self.done - self.given_up)
        assert self.schedule.remaining == self.total - len(self.done | self.given_up)
        assert self.schedule.finished == (self.schedule.remaining == 0)

    def teardown(self) -> None:
        """Whatever happened: workers that only fail from now on bring it to an end."""
        for _ in range(self.attempts + 1):
            while (shard := self.schedule.start()) is not None:
                self.workers[shard] += 1
            for shard in self.workers.elements():
                self.schedule.fail(shard, "x")
            self.workers.clear()
        assert self.schedule.finished


TestAnyRun = AnyRun.TestCase
TestAnyRun.settings = settings(deadline=None, derandomize=True, max_examples=60, stateful_step_count=40)
