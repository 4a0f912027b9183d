"""The schedule at a size nobody has at hand: 10 000 workers, 1 000 000 shards, failures and preemptions.

    python benchmarks/simulate.py                         # about a minute
    python benchmarks/simulate.py --workers 100 --shards 10000

A discrete-event simulation around the real :class:`reprobatch.schedule.Schedule`: only the workers and
the clock are made up. Shard times vary by worker (some are slow throughout) and by shard; an attempt
fails with ``--failure``, and a worker is preempted, with all it has in flight, with ``--preemption``
an hour and comes back two minutes later. Idle workers take copies at the tail, as in a run. Exits 1
unless every shard is done exactly once or was given up after as many attempts as allowed.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator

from reprobatch.schedule import Schedule

IN_FLIGHT = 2
SLOW = 1.5
AWAY = 120.0  # seconds until a preempted worker is back
MEAN = 60.0  # seconds a shard takes


class Simulation:
    """Workers with a clock of their own around one schedule."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.dice = random.Random(arguments.seed)
        self.schedule = Schedule(arguments.shards, attempts=arguments.attempts)
        self.failure, self.preemption = arguments.failure, arguments.preemption
        self.speed = [self.dice.choice([1.0] * 19 + [0.3]) for _ in range(arguments.workers)]
        self.has: list[list[int]] = [[] for _ in range(arguments.workers)]
        self.life = [0] * arguments.workers  # a worker that was preempted is another one afterwards
        self.since: dict[int, float] = {}
        self.events: list[tuple[float, int, str, int, int, int]] = []
        self.number: Iterator[int] = itertools.count()
        self.idle: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.now = 0.0
        for worker in range(arguments.workers):
            self._arrive(worker)

    def run(self) -> None:
        while not self.schedule.finished:
            self.now, _, kind, worker, shard, life = heapq.heappop(self.events)
            if kind == "back":
                self._arrive(worker)
            elif life == self.life[worker]:
                getattr(self, f"_{kind}")(worker, shard)

    def _at(self, after: float, kind: str, worker: int, shard: int = -1) -> None:
        heapq.heappush(self.events, (self.now + after, next(self.number), kind, worker, shard, self.life[worker]))

    def _arrive(self, worker: int) -> None:
        self.counts["arrivals"] += 1
        if self.preemption:
            self._at(self.dice.expovariate(self.preemption / 3600), "preempted", worker)
        self._fill(worker)

    def _fill(self, worker: int) -> None:
        while len(self.has[worker]) < IN_FLIGHT:
            shard = self.schedule.start()
            if shard is None and not self.has[worker]:
                shard = self.schedule.copy(lambda shard: self.now - self.since[shard] > SLOW * MEAN)
                self.counts["copies"] += shard is not None
            if shard is None:
                if not self.has[worker]:
                    self.idle.add(worker)
                return
            self.counts["starts"] += 1
            self.since[shard] = self.now
            self.has[worker].append(shard)
            if len(self.has[worker]) == 1:
                self._compute(worker)

    def _compute(self, worker: int) -> None:
        took = MEAN * self.dice.lognormvariate(0, 0.2) / self.speed[worker]
        kind = "fail" if self.dice.random() < self.failure else "finish"
        self._at(took, kind, worker, self.has[worker][0])

    def _finish(self, worker: int, shard: int) -> None:
        self.counts["second commits"] += self.schedule.is_done(shard)
        self.schedule.finish(shard)
        self.since.pop(shard, None)
        self._next(worker, shard)

    def _fail(self, worker: int, shard: int) -> None:
        self.counts["failures"] += 1
        self.schedule.fail(shard, "simulated")
        self._next(worker, shard)

    def _next(self, worker: int, shard: int) -> None:
        self.has[worker].remove(shard)
        if self.has[worker]:
            self._compute(worker)
        self._fill(worker)
        for other in list(itertools.islice(self.idle, IN_FLIGHT)):  # what came back may be for them
            self.idle.discard(other)
            self._fill(other)

    def _preempted(self, worker: int, _: int) -> None:
        self.counts["preemptions"] += 1
        self.life[worker] += 1
        self.idle.discard(worker)
        for shard in self.has[worker]:
            self.counts["lost"] += 1
            self.schedule.lose(shard, "preempted")
        self.has[worker] = []
        self._at(AWAY, "back", worker)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=1_000_000)
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--failure", type=float, default=0.01)
    parser.add_argument("--preemption", type=float, default=0.1, help="a worker and hour")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    simulation = Simulation(arguments)
    begin = time.perf_counter()
    simulation.run()
    spent, schedule = time.perf_counter() - begin, simulation.schedule
    work = arguments.shards * MEAN / sum(simulation.speed)
    print(f"{arguments.workers} workers, {arguments.shards} shards, seed {arguments.seed}")
    print(f"{schedule.done} done, {len(schedule.failures)} given up; {dict(simulation.counts)}")
    print(f"{simulation.now:.0f} simulated seconds, {simulation.now / work:.3f} times the work over all workers")
    events = simulation.counts["starts"]
    print(f"{spent:.1f} s in all, {spent / events * 1e6:.1f} us a start with all that follows from it")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")
    whole = schedule.done + len(schedule.failures) == arguments.shards
    tried = all(failure.attempts == arguments.attempts for failure in schedule.failures.values())
    return 0 if whole and tried else 1


if __name__ == "__main__":
    raise SystemExit(main())
