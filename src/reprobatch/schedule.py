"""Which shard is in what state, and which comes next. No clock, no Ray.

======== ============== ===================================================
state    event          next state
======== ============== ===================================================
pending  start          running
running  finish         done
running  fail, lose     pending, or failed once its attempts are used up
running  release        pending, and no attempt counted
running  give up        failed, whatever attempts are left
running  copy           running, by one worker more
done     finish, fail   done: a copy that came second changes nothing
======== ============== ===================================================

A copy that fails while another worker has the shard changes nothing either: the other may finish it.

``lose`` is a worker's death: it counts as an attempt, or a shard that kills every worker it meets
would go round for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass
class Failure:
    """A shard that was given up: how often it was tried, and the last reason."""

    shard: int
    attempts: int
    reason: str


class Schedule:
    """States of shards 0 … total-1, those in ``done`` excepted from work.

    Memory grows with what is done out of order, running or failed, not with ``total``; every event
    takes the same time whatever there is of either.
    """

    def __init__(self, total: int, done: Iterable[int] = (), attempts: int = 3) -> None:
        self.total = total
        self.allowed = attempts
        self._done = _Done(done)
        self._next = 0
        self._again: deque[int] = deque()
        self._workers: dict[int, int] = {}  # how many have a shard, late copies too
        self._single: dict[int, None] = {}  # running on one worker, in the order of starting
        self._tried: dict[int, int] = {}
        self._running = self._given_up = 0
        self.failures: dict[int, Failure] = {}

    @property
    def done(self) -> int:
        """Shards that are done."""
        return len(self._done)

    def is_done(self, shard: int) -> bool:
        """Whether a shard was committed."""
        return shard in self._done

    @property
    def running(self) -> int:
        """Shards that a worker has and that are neither done nor given up."""
        return self._running

    @property
    def remaining(self) -> int:
        """Shards neither done nor given up."""
        return self.total - len(self._done) - self._given_up

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.remaining == 0

    def start(self) -> int | None:
        """Take the next shard and mark it running; ``None`` where none is pending."""
        while self._next < self.total and self._next in self._done:
            self._next += 1
        if self._next < self.total:
            shard, self._next = self._next, self._next + 1
        elif self._again:
            shard = self._again.popleft()
        else:
            return None
        self._workers[shard] = 1
        self._single[shard] = None
        self._running += 1
        self._tried[shard] = self._tried.get(shard, 0) + 1
        return shard

    def copy(self, is_slow: Callable[[int], bool]) -> int | None:
        """Have one worker more on the shard that one has had longest, if that ``is_slow``."""
        shard = next(iter(self._single), None)
        if shard is None or not is_slow(shard):
            return None
        del self._single[shard]
        self._workers[shard] = 2
        return shard

    def attempt(self, shard: int) -> int:
        """How often a shard that is not done has been started."""
        return self._tried.get(shard, 0)

    def finish(self, shard: int) -> None:
        """A running shard was committed."""
        self._leave(shard)
        if shard in self._done:
            return
        if shard in self.failures:
            self._given_up -= 1
        else:
            self._end(shard)
        self._done.add(shard)
        self._tried.pop(shard, None)

    def fail(self, shard: int, reason: str) -> bool:
        """A running shard failed; whether it will be tried again, or another worker still has it."""
        elsewhere = self._workers.get(shard, 0) > 1 or self._ended(shard)
        if not elsewhere and self.attempt(shard) >= self.allowed:
            self.give_up(shard, reason)
            return False
        self._leave(shard)
        if not elsewhere:
            self._end(shard)
            self._again.append(shard)
        return True

    lose = fail

    def release(self, shard: int) -> None:
        """A running shard was lost through no fault of its own: that counts as no attempt."""
        elsewhere = self._workers.get(shard, 0) > 1 or self._ended(shard)
        self._leave(shard)
        if not elsewhere:
            self._tried[shard] -= 1
            self._end(shard)
            self._again.append(shard)

    def give_up(self, shard: int, reason: str) -> None:
        """A running shard failed in a way that trying again cannot mend."""
        self._leave(shard)
        if not self._ended(shard):
            self._end(shard)
            self._given_up += 1
        self.failures[shard] = Failure(shard, self.attempt(shard), reason)

    def _ended(self, shard: int) -> bool:
        return shard in self._done or shard in self.failures

    def _end(self, shard: int) -> None:
        self._running -= 1
        self._single.pop(shard, None)

    def _leave(self, shard: int) -> None:
        if shard not in self._workers:
            raise ValueError(f"shard {shard} is not running")
        self._workers[shard] -= 1
        if not self._workers[shard]:
            del self._workers[shard]
        elif not self._ended(shard):
            self._single[shard] = None


class _Done:
    """A set of shards that takes no room for those below which all are in it."""

    def __init__(self, shards: Iterable[int]) -> None:
        self._below = 0
        self._beyond = set(shards)
        self._sink()

    def __contains__(self, shard: int) -> bool:
        return shard < self._below or shard in self._beyond

    def __len__(self) -> int:
        return self._below + len(self._beyond)

    def add(self, shard: int) -> None:
        self._beyond.add(shard)
        self._sink()

    def _sink(self) -> None:
        while self._below in self._beyond:
            self._beyond.remove(self._below)
            self._below += 1
