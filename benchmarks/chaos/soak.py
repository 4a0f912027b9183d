"""Faults at random moments of real runs on a real cluster, and a dataset that must not show any of them.

    python benchmarks/chaos/soak.py --faults 200           # as root; about an hour on 2 cores
    python benchmarks/chaos/soak.py --faults 10 --only worker --only driver

Runs a digits job on a Ray cluster of two nodes, does harm to it, gives the same command again whenever it
ended, and compares ``data/`` of every finished dataset with an undisturbed one. What is harmed, and when,
comes from ``--seed``. Prints a table of what was injected; exits 1 unless every dataset is byte-identical,
whole and passes ``verify``.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from cluster import Nodes

JOB = ["jobs/digits.yaml", "-s", "shard_size=8", "-s", "call.num_inference_steps=10"]
LIMITS = ["-s", "operation.batch_seconds=5", "-s", "operation.attempts=5"]
DISK = 64 << 20  # bytes of the file system that the datasets are on


class Soak:
    """One cluster, one disk, and runs that are harmed."""

    def __init__(self, folder: Path, dice: random.Random, items: int) -> None:
        self.folder, self.dice = folder, dice
        self.job = [*JOB, "-s", f"items.repeat={items // 10}"]
        self.disk = folder / "disk"
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "soak", self.disk], check=True)
        self.nodes = Nodes([{}, {}])
        self.alive = [0, 1]
        self.added = 2
        self.injected: Counter[str] = Counter()
        self.exits: Counter[int] = Counter()
        self.harms: dict[str, Callable[[], None]] = {
            "worker killed": self._worker,
            "worker stopped (SIGSTOP)": self._stopped,
            "worker out of memory": self._memory,
            "node killed, another joins": self._node,
            "driver killed": self._driver,
            "driver interrupted (Ctrl-C)": self._interrupted,
            "disk full for a while": self._disk_full,
        }

    def close(self) -> None:
        self.nodes.stop()
        subprocess.run(["umount", "-l", self.disk], check=False)

    def run(self, out: Path, *, wait: bool = False) -> subprocess.Popen[bytes]:
        """Give the command; the same one every time."""
        command = [sys.executable, "-m", "reprobatch.cli", "run", *self.job, *LIMITS, "--out", str(out)]
        with (self.folder / "said.log").open("ab") as log:
            process = subprocess.Popen([*command, "--address", self.nodes.address], stdout=log, stderr=log)
        if wait:
            process.wait()
        return process

    def round(self, out: Path, faults: int, only: list[str]) -> None:
        """Make a whole dataset, with at most ``faults`` harms on the way."""
        self.out, self.process = out, self.run(out)
        chosen = [name for name in self.harms if not only or any(part in name for part in only)]
        while True:
            self._let_it_work()
            code = self.process.poll()
            if code is not None:
                self.exits[code] += 1
                if code == 0:
                    return
                self.process = self.run(out)
            elif self.injected.total() < faults:
                name = self.dice.choice(chosen)
                self.harms[name]()
                self.injected[name] += 1
                print(f"{self.injected.total():4} {name}; {self._shards()} shards there", flush=True)

    def _let_it_work(self) -> None:
        """Until a few shards more are there, or nothing has moved for a while."""
        wanted, until = self._shards() + self.dice.randint(0, 6), time.monotonic() + self.dice.uniform(2, 25)
        while self.process.poll() is None and self._shards() < wanted and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(self.dice.uniform(0, 1))

    def _shards(self) -> int:
        return len(list((self.out / "data").glob("*")))

    def _workers(self) -> list[int]:
        """Process ids of the newest run's workers, from its journal."""
        newest = max(self.out.glob("log/attempts-*.jsonl"), key=lambda path: path.stat().st_mtime, default=None)
        found = []
        for line in newest.read_text().splitlines() if newest else []:
            with suppress(ValueError):
                event = json.loads(line)
                found += [event["pid"]] if event["event"] == "ready" else []
        return [pid for pid in found if Path(f"/proc/{pid}").exists()]

    def _each(self, harm: Callable[[int], object]) -> None:
        for pid in self._workers()[-1:]:
            with suppress(ProcessLookupError, PermissionError):
                harm(pid)

    def _worker(self) -> None:
        self._each(lambda pid: os.kill(pid, signal.SIGKILL))

    def _stopped(self) -> None:
        self._each(lambda pid: os.kill(pid, signal.SIGSTOP))

    def _memory(self) -> None:
        """Not a byte more than it has: the next allocation fails."""
        self._each(lambda pid: resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, 1 << 20)))

    def _node(self) -> None:
        self.nodes.remove(self.alive.pop(self.dice.randrange(len(self.alive))))
        time.sleep(self.dice.uniform(0, 3))
        self.nodes.add()
        self.alive.append(self.added)
        self.added += 1

    def _driver(self) -> None:
        self.process.kill()
        self.process.wait()

    def _interrupted(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def _disk_full(self) -> None:
        ballast = self.disk / "ballast"
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        time.sleep(self.dice.uniform(1, 5))
        ballast.unlink()


def differences(reference: Path, out: Path) -> list[str]:
    """Files of ``data/`` that are not the same on both sides, and what verify says."""
    names = sorted(path.name for path in (reference / "data").iterdir())
    found = sorted(path.name for path in (out / "data").iterdir())
    _, differ, _ = filecmp.cmpfiles(reference / "data", out / "data", names, shallow=False)
    checked = subprocess.run(
        [sys.executable, "-m", "reprobatch.cli", "verify", str(out)], capture_output=True, text=True
    )
    wrong = [checked.stdout] if checked.returncode else []
    return [*(set(names) ^ set(found)), *differ, *wrong]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], help="harms whose name has this in it; repeatable")
    arguments = parser.parse_args()
    begin, wrong, rounds = time.monotonic(), [], 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        soak = Soak(Path(name), random.Random(arguments.seed), arguments.items)
        try:
            reference = soak.disk / "reference"
            if soak.run(reference, wait=True).returncode != 0:
                print((Path(name) / "said.log").read_text())
                return 1
            while soak.injected.total() < arguments.faults:
                rounds += 1
                out = soak.disk / "dataset"
                soak.round(out, arguments.faults, arguments.only)
                wrong += differences(reference, out)
                subprocess.run(["rm", "-rf", out], check=True)
        finally:
            soak.close()
    print("\n| harm | times |\n|---|---|")
    for harm, times in sorted(soak.injected.items()):
        print(f"| {harm} | {times} |")
    print(f"| all | {soak.injected.total()} |\n")
    print(f"{rounds} datasets of {arguments.items} items, {len(wrong)} differences {wrong[:3]}")
    print(f"runs ended with {dict(soak.exits)}; {time.monotonic() - begin:.0f} s, seed {arguments.seed}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
