"""What is done to a run: to its workers, its driver, its machines, its storage."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from bucket import Bucket
from disk import Disk
from hosts import Driver, Host, Network

from reprobatch import journal
from reprobatch.store import open_store

LONG, SHORT = (12.0, 25.0), (0.5, 3.0)  # seconds beyond and below what Ray takes to call a machine dead


class Harms:
    """Every harm by its name: those ``to_all`` runs, and to those whose dataset is ``to_disk`` or ``to_bucket``.

    ``driver`` and ``out`` are the run's that is harmed now. ``late`` counts the shards that a machine put on the
    disk while it was cut off.
    """

    def __init__(self, network: Network, disk: Disk, bucket: Bucket, dice: random.Random) -> None:
        self._network, self._dice = network, dice
        self.driver: Driver
        self.out: str
        self.late = 0
        self.to_all: dict[str, Callable[[], None]] = {
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
        }
        self.to_disk: dict[str, Callable[[], None]] = {
            "disk full for a while": lambda: self._while(disk.full(), 1, 5),
            "disk fails at fsync for a while": lambda: self._while(disk.losing(), 1, 5),
            "disk hangs for a while": lambda: self._while(disk.hanging(), 1, 20),
            "disk read-only on a host for a while": lambda: self._while(disk.read_only(self._host()), 1, 5),
        }
        self.to_bucket: dict[str, Callable[[], None]] = {
            "bucket unreliable for a while": lambda: self._while(bucket.unreliable(), 5, 15),
            "bucket answers with errors for a while": lambda: self._while(bucket.refusing(), 1, 15),
            "bucket does not answer for a while": lambda: self._while(bucket.hanging(), 1, 20),
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
            if "://" not in self.out:  # a bucket is out of its reach
                self.late += len(self._shards() - before - self._heard_of())

    def _shards(self) -> set[int]:
        return set(open_store(self.out).shards())

    def _heard_of(self) -> set[int]:
        runs = journal.read(open_store(self.out))
        return {event["shard"] for run in runs for event in run if event["event"] == "done"}


@contextmanager
def _cut(host: Host) -> Iterator[None]:
    host.cut(True)
    try:
        yield
    finally:
        host.cut(False)
