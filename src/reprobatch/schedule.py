"""Which shard is in what state, and which comes next. No clock, no Ray.

======== ============== ===================================================
state    event          next state
======== ============== ===================================================
pending  start          running
running  finish         done
running  fail, lose     pending, or failed once its attempts are used up
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
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass
class Failure:
    """A shard that was given up: how often it was tried, and the last reason."""

    shard: int
    attempts: int
    reason: str


class Schedule:
    """States of shards 0 … total-1, those in ``done`` excepted from work.

    Memory grows with what is done out of order, running or failed, not with ``total``.
    """

    def __init__(self, total: int, done: Iterable[int] = (), attempts: int = 3) -> None:
        self.total = total
        self.allowed = attempts
        self._done = set(done)
        self._next = 0
        self._again: deque[int] = deque()
        self._running: dict[int, int] = {}  # to how many workers have it, in the order of starting
        self._tried: dict[int, int] = {}
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
        return sum(not self._ended(shard) for shard in self._running)

    @property
    def remaining(self) -> int:
        """Shards neither done nor given up."""
        return self.total - len(self._done) - sum(shard not in self._done for shard in self.failures)

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
        self._running[shard] = 1
        self._tried[shard] = self._tried.get(shard, 0) + 1
        return shard

    def copy(self, held: Collection[int]) -> int | None:
        """Have one worker more on the shard that has been running longest; ``None`` where there is none.

        Not one that is ``held`` by the worker that asks, nor one that has two already.
        """
        for shard, workers in self._running.items():
            if workers == 1 and shard not in held and not self._ended(shard):
                self._running[shard] = 2
                return shard
        return None

    def attempt(self, shard: int) -> int:
        """How often a shard has been started."""
        return self._tried.get(shard, 0)

    def finish(self, shard: int) -> None:
        """A running shard was committed."""
        self._leave(shard)
        self._done.add(shard)

    def fail(self, shard: int, reason: str) -> bool:
        """A running shard failed; whether it will be tried again, or another worker still has it."""
        if self._elsewhere(shard):
            self._leave(shard)
            return True
        if self.attempt(shard) >= self.allowed:
            self.give_up(shard, reason)
            return False
        self._leave(shard)
        self._again.append(shard)
        return True

    lose = fail

    def give_up(self, shard: int, reason: str) -> None:
        """A running shard failed in a way that trying again cannot mend."""
        self._leave(shard)
        self.failures[shard] = Failure(shard, self.attempt(shard), reason)

    def _elsewhere(self, shard: int) -> bool:
        return self._running.get(shard, 0) > 1 or (shard in self._running and self._ended(shard))

    def _ended(self, shard: int) -> bool:
        return shard in self._done or shard in self.failures

    def _leave(self, shard: int) -> None:
        if shard not in self._running:
            raise ValueError(f"shard {shard} is not running")
        self._running[shard] -= 1
        if not self._running[shard]:
            del self._running[shard]
