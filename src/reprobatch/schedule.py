"""Which shard is in what state, and which comes next. No clock, no Ray.

======== ============== ===================================================
state    event          next state
======== ============== ===================================================
pending  start          running
running  finish         done
running  fail, lose     pending, or failed once its attempts are used up
running  give up        failed, whatever attempts are left
======== ============== ===================================================

``lose`` is a worker's death: it counts as an attempt, or a shard that kills every worker it meets
would go round for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
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
        self._running: set[int] = set()
        self._tried: dict[int, int] = {}
        self.failures: dict[int, Failure] = {}

    @property
    def done(self) -> int:
        """Shards that are done."""
        return len(self._done)

    @property
    def running(self) -> int:
        """Shards that a worker has."""
        return len(self._running)

    @property
    def remaining(self) -> int:
        """Shards neither done nor given up."""
        return self.total - len(self._done) - len(self.failures)

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
        self._running.add(shard)
        self._tried[shard] = self._tried.get(shard, 0) + 1
        return shard

    def attempt(self, shard: int) -> int:
        """How often a shard has been started."""
        return self._tried.get(shard, 0)

    def finish(self, shard: int) -> None:
        """A running shard was committed."""
        self._leave(shard)
        self._done.add(shard)

    def fail(self, shard: int, reason: str) -> bool:
        """A running shard failed; whether it will be tried again."""
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

    def _leave(self, shard: int) -> None:
        if shard not in self._running:
            raise ValueError(f"shard {shard} is not running")
        self._running.remove(shard)
