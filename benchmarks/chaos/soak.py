"""Faults at random moments of real runs on a real cluster, and a dataset that must not show any of them.

    python benchmarks/chaos/soak.py --faults 200           # as root; about an hour on 2 cores
    python benchmarks/chaos/soak.py --faults 10 --only worker --only driver

Runs a digits job on a Ray cluster of a head and two machines made of namespaces, does harm to it, gives the same
command again whenever it ended, and compares ``data/`` of every finished dataset with an undisturbed one. What is
harmed, and when, comes from ``--seed``. Prints a table of what was injected; exits 1 unless every dataset is
byte-identical, whole and passes ``verify``.
"""

from __future__ import annotations

import argparse
import filecmp
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from disk import Disk
from harms import Harms, read
from hosts import Driver, Network

JOB = ["jobs/digits.yaml", "-s", "shard_size=8", "-s", "call.num_inference_steps=10"]
LIMITS = ["batch_seconds=8", "start_seconds=60", "attempts=5"]
AGAIN = 2.0  # seconds until an ended run's command is given again, as an operator or a scheduler would


class Soak:
    """One cluster, one disk, and runs that are harmed."""

    def __init__(self, folder: Path, dice: random.Random, items: int) -> None:
        self.folder, self.dice = folder, dice
        self.job = [*JOB, "-s", f"items.repeat={items // 10}"]
        for limit in LIMITS:
            self.job += ["-s", f"operation.{limit}"]
        self.disk = Disk(folder)
        self.network = Network(folder, hosts=2)
        self.harms = Harms(self.network, self.disk, dice)
        self.injected: Counter[str] = Counter()
        self.exits: Counter[int] = Counter()
        self.events: Counter[str] = Counter()
        self.longest = 0.0  # seconds without a new shard

    def close(self) -> None:
        self.network.close()
        self.disk.close()

    def run(self, out: Path) -> Driver:
        """Give the command; the same one every time."""
        command = [sys.executable, "-m", "reprobatch.cli", "run", *self.job, "--out", str(out)]
        return self.network.head.start([*command, "--address", self.network.address], self.folder / "said.log")

    def round(self, out: Path, faults: int, only: list[str]) -> None:
        """Make a whole dataset, with at most ``faults`` harms on the way."""
        harms = self.harms
        harms.out, harms.driver = out, self.run(out)
        chosen = [name for name in harms.all if not only or any(part in name for part in only)]
        there, since = 0, time.monotonic()
        while True:
            self._let_it_work(out)
            if shards(out) > there:
                there, since = shards(out), time.monotonic()
            self.longest = max(self.longest, time.monotonic() - since)
            code = harms.driver.poll()
            if code is not None:
                self.exits[code] += 1
                if code == 0:
                    break
                time.sleep(AGAIN)
                harms.driver = self.run(out)
            elif self.injected.total() < faults:
                name = self.dice.choice(chosen)
                harms.all[name]()
                self.injected[name] += 1
                at = time.strftime("%T")
                print(f"{at} {self.injected.total():4} {name}; {shards(out)} shards there", flush=True)
        for journal in out.glob("log/*.jsonl"):
            for event in read(journal):
                new = event["event"] != "done" or event["receipt"]["new"]
                self.events[event["event"] if new else "done by a second one, equal"] += 1

    def _let_it_work(self, out: Path) -> None:
        """Until a few shards more are there, or nothing has moved for a while."""
        wanted, until = shards(out) + self.dice.randint(0, 6), time.monotonic() + self.dice.uniform(2, 25)
        while self.harms.driver.poll() is None and shards(out) < wanted and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(self.dice.uniform(0, 1))


def shards(out: Path) -> int:
    return len(list((out / "data").glob("*")))


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


def soak(arguments: argparse.Namespace, folder: Path) -> int:
    begin, wrong, rounds = time.monotonic(), [], 0
    soak = Soak(folder, random.Random(arguments.seed), arguments.items)
    try:
        reference, out = soak.disk.path / "reference", soak.disk.path / "dataset"
        soak.round(reference, 0, [])
        print(f"undisturbed: {shards(reference)} shards, {time.monotonic() - begin:.0f} s", flush=True)
        soak.events.clear()
        soak.exits.clear()
        soak.longest = 0.0
        while soak.injected.total() < arguments.faults:
            rounds += 1
            soak.round(out, arguments.faults, arguments.only)
            wrong += differences(reference, out)
            subprocess.run(["rm", "-rf", out], check=True)
    finally:
        soak.close()
    print("\n| harm | times |\n|---|---|")
    for harm in soak.harms.all:
        print(f"| {harm} | {soak.injected[harm]} |")
    print(f"| all | {soak.injected.total()} |\n")
    print(f"{rounds} datasets of {arguments.items} items, {len(wrong)} differences {wrong[:3]}")
    print(f"the journals say: {dict(soak.events)}")
    print(f"{soak.harms.late} shards were put by a host while it was cut off")
    print(f"at most {soak.longest:.0f} s without a new shard")
    print(f"runs ended with {dict(soak.exits)}; {time.monotonic() - begin:.0f} s, seed {arguments.seed}")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], help="harms whose name has this in it; repeatable")
    parser.add_argument("--said", type=Path, help="keep what the runs said in this file")
    arguments = parser.parse_args()
    # not below /tmp: a machine has a folder of its own there
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        try:
            return soak(arguments, Path(name))
        finally:
            if arguments.said:
                arguments.said.write_bytes((Path(name) / "said.log").read_bytes())


if __name__ == "__main__":
    raise SystemExit(main())
