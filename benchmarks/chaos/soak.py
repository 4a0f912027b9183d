"""Faults at random moments of real runs on a real cluster, and a dataset that must not show any of them.

    python benchmarks/chaos/soak.py --faults 200           # as root; about an hour on 2 cores
    python benchmarks/chaos/soak.py --faults 10 --only worker --only driver

Runs a digits job on a Ray cluster of a head and two machines made of namespaces, into a folder and into a bucket in
turn, does harm to it, gives the same command again whenever it ended, and compares ``data/`` of every finished dataset
with an undisturbed one. What is harmed, and when, comes from ``--seed``. Prints a table of what was injected; exits 1
unless every dataset is byte-identical, whole and passes ``verify``.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bucket import Bucket
from disk import Disk
from harms import Harms
from hosts import Driver, Network

from reprobatch import journal
from reprobatch.store import DATA, open_store

JOB = ["jobs/digits.yaml", "-s", "shard_size=8", "-s", "call.num_inference_steps=10"]
LIMITS = ["batch_seconds=8", "start_seconds=60", "attempts=5"]
AGAIN = 2.0  # seconds until an ended run's command is given again, as an operator or a scheduler would


class Soak:
    """One cluster, a disk, a bucket, and runs that are harmed."""

    def __init__(self, folder: Path, dice: random.Random, items: int) -> None:
        self.folder, self.dice = folder, dice
        self.job = [*JOB, "-s", f"items.repeat={items // 10}"]
        for limit in LIMITS:
            self.job += ["-s", f"operation.{limit}"]
        self.disk = Disk(folder)
        self.network = Network(folder)
        self.bucket = Bucket(dice)
        self.network.boot(2, self.bucket.variables)
        self.harms = Harms(self.network, self.disk, self.bucket, dice)
        self.injected: Counter[str] = Counter()
        self.exits: Counter[int] = Counter()
        self.events: Counter[str] = Counter()
        self.longest = 0.0  # seconds without a new shard

    def close(self) -> None:
        self.network.close()
        self.bucket.close()
        self.disk.close()

    def run(self, out: str) -> Driver:
        """Give the command; the same one every time."""
        command = [sys.executable, "-m", "reprobatch.cli", "run", *self.job, "--out", out]
        return self.network.head.start([*command, "--address", self.network.address], self.folder / "said.log")

    def round(self, out: str, faults: int, only: list[str]) -> None:
        """Make a whole dataset, with at most ``faults`` harms on the way."""
        harms = self.harms
        harms.out, harms.driver = out, self.run(out)
        known = {**harms.to_all, **(harms.to_bucket if "://" in out else harms.to_disk)}
        chosen = [name for name in known if not only or any(part in name for part in only)]
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
                known[name]()
                self.injected[name] += 1
                at = time.strftime("%T")
                print(f"{at} {self.injected.total():4} {name}; {shards(out)} shards there", flush=True)
        for run in journal.read(open_store(out)):
            for event in run:
                new = event["event"] != "done" or event["receipt"]["new"]
                self.events[event["event"] if new else "done by a second one, equal"] += 1

    def _let_it_work(self, out: str) -> None:
        """Until a few shards more are there, or nothing has moved for a while."""
        patience = self.dice.choice([self.dice.uniform(2, 25), self.dice.uniform(25, 60)])
        wanted, until = shards(out) + self.dice.randint(0, 6), time.monotonic() + patience
        while self.harms.driver.poll() is None and shards(out) < wanted and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(self.dice.uniform(0, 1))


def shards(out: str) -> int:
    return len(list(open_store(out).names(DATA)))


def content(out: str) -> dict[str, bytes]:
    store = open_store(out)
    return {name: store.get(f"{DATA}/{name}") for name in store.names(DATA)}


def differences(reference: dict[str, bytes], out: str) -> list[str]:
    """Files of ``data/`` that are not the same on both sides, and what verify says."""
    found = content(out)
    differ = sorted(name for name in reference.keys() | found.keys() if reference.get(name) != found.get(name))
    checked = subprocess.run([sys.executable, "-m", "reprobatch.cli", "verify", out], capture_output=True, text=True)
    return [*differ, *([checked.stdout + checked.stderr] if checked.returncode else [])]


def soak(arguments: argparse.Namespace, folder: Path) -> int:
    begin, wrong, rounds = time.monotonic(), [], 0
    soak = Soak(folder, random.Random(arguments.seed), arguments.items)
    try:
        undisturbed = str(soak.disk.path / "reference")
        soak.round(undisturbed, 0, [])
        reference = content(undisturbed)
        print(f"undisturbed: {len(reference)} shards, {time.monotonic() - begin:.0f} s", flush=True)
        soak.events.clear()
        soak.exits.clear()
        soak.longest = 0.0
        while soak.injected.total() < arguments.faults:
            place = arguments.on[rounds % len(arguments.on)]
            rounds += 1
            out = f"{soak.bucket.url if place == 'bucket' else soak.disk.path}/dataset-{rounds}"
            soak.round(out, arguments.faults, arguments.only)
            found = differences(reference, out)
            wrong += found
            print(f"{out.split('/')[-1]}, {place}: {len(found)} differences; runs: {dict(soak.exits)}", flush=True)
    finally:
        soak.close()
    print("\n| harm | times |\n|---|---|")
    for harm in [*soak.harms.to_all, *soak.harms.to_disk, *soak.harms.to_bucket]:
        print(f"| {harm} | {soak.injected[harm]} |")
    print(f"| all | {soak.injected.total()} |\n")
    print(f"{rounds} datasets of {arguments.items} items, {len(wrong)} differences {wrong[:3]}")
    print(f"the journals say: {dict(soak.events)}")
    print(f"{soak.harms.late} shards were put by a host while it was cut off")
    print(f"requests to the bucket that were harmed: {soak.bucket.harmed}")
    print(f"at most {soak.longest:.0f} s without a new shard")
    print(f"runs ended with {dict(soak.exits)}; {time.monotonic() - begin:.0f} s, seed {arguments.seed}")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--on", action="append", choices=["disk", "bucket"], help="repeatable; both unless given")
    parser.add_argument("--only", action="append", default=[], help="harms whose name has this in it; repeatable")
    parser.add_argument("--said", type=Path, help="keep what the runs said in this file")
    arguments = parser.parse_args()
    arguments.on = arguments.on or ["disk", "bucket"]
    # not below /tmp: a machine has a folder of its own there
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        try:
            return soak(arguments, Path(name))
        finally:
            if arguments.said:
                arguments.said.write_bytes((Path(name) / "said.log").read_bytes())


if __name__ == "__main__":
    raise SystemExit(main())
