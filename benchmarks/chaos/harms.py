"""What is done to a run: to its workers, its driver, its machines, its disk."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from disk import Disk
from hosts import Driver, Host, Network

LONG, SHORT = (12.0, 25.0), (0.5, 3.0)  # seconds beyond and below what Ray takes to call a machine dead


class Harms:
    """Every harm by its name. ``driver`` and ``out`` are the run's that is harmed now.

    ``late`` counts the shards that a machine put while it was cut off and nobody had heard of.
    """

    def __init__(self, network: Network, disk: Disk, dice: random.Random) -> None:
        self._network, self._disk, self._dice = network, disk, dice
        self.driver: Driver
        self.out: Path
        self.late = 0
        self.all: dict[str, Callable[[], None]] = {
            "worker killed": self._worker_killed,
            "worker stopped (SIGSTOP)": self._worker_stopped,
            "worker out of memory": self._worker_out_of_memory,
            "host killed, boots anew": self._host_killed,
            "host cut off for longer than Ray waits": lambda: self._host_cut(*LONG),
            "host cut off for less than Ray waits": lambda: self._host_cut(*SHORT),
            "raylet killed, starts anew": self._raylet_killed,
            "head killed, a new cluster": self._head_killed,
            "driver killed": lambda: self.driver.signal(signal.SIGKILL),
            "driver interrupted (Ctrl-C)": lambda: self.driver.signal(signal.SIGINT),
            "disk full for a while": lambda: self._while(self._disk.full(), 1, 5),
            "disk fails at fsync for a while": lambda: self._while(self._disk.losing(), 1, 5),
            "disk hangs for a while": lambda: self._while(self._disk.hanging(), 1, 20),
            "disk read-only on a host for a while": lambda: self._while(self._disk.read_only(self._host()), 1, 5),
        }

    def _host(self) -> Host:
        return self._dice.choice(self._network.hosts)

    def _while(self, trouble: AbstractContextManager[None], least: float, most: float) -> None:
        with trouble:
            time.sleep(self._dice.uniform(least, most))

    def _a_worker(self, harm: Callable[[int], object]) -> None:
        workers = [pid for host in self._network.hosts for pid in host.workers()]
        with suppress(ProcessLookupError, PermissionError):
            if workers:
                harm(self._dice.choice(workers))

    def _worker_killed(self) -> None:
        self._a_worker(lambda pid: os.kill(pid, signal.SIGKILL))

    def _worker_stopped(self) -> None:
        self._a_worker(lambda pid: os.kill(pid, signal.SIGSTOP))

    def _worker_out_of_memory(self) -> None:
        """Not a byte more than it has: the next allocation fails."""
        self._a_worker(lambda pid: resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, 1 << 20)))

    def _host_killed(self) -> None:
        host = self._host()
        host.die()
        time.sleep(self._dice.uniform(0, 3))
        host.boot()

    def _raylet_killed(self) -> None:
        self._host().kill("raylet")

    def _head_killed(self) -> None:
        """All of Ray's state is gone, and the driver with it."""
        machines = [self._network.head, *self._network.hosts]
        for host in machines:
            host.die()
        for host in machines:
            host.boot()
        self.driver.wait()

    def _host_cut(self, least: float, most: float) -> None:
        host, before = self._host(), self._shards()
        with _cut(host):
            time.sleep(self._dice.uniform(least, most))
            self.late += len(self._shards() - before - self._heard_of())

    def _shards(self) -> set[str]:
        return {path.name for path in (self.out / "data").glob("*")}

    def _heard_of(self) -> set[str]:
        events = [event for path in self.out.glob("log/*.jsonl") for event in read(path)]
        return {f"shard-{event['shard']:06d}.parquet" for event in events if event["event"] == "done"}


@contextmanager
def _cut(host: Host) -> Iterator[None]:
    host.cut(True)
    try:
        yield
    finally:
        host.cut(False)


def read(journal: Path) -> list[dict[str, object]]:
    """Events of a run; a line cut short is left out."""
    found = []
    for line in journal.read_text().splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found
