"""What the driver can do: shards a second with workers that do nothing, and how long a resume takes to begin.

    python benchmarks/driver.py                    # 20 000 shards through real Ray actors, 100 000 at resume

The workers are Ray actors that answer at once, so all the time is the driver's and Ray's. The resume is
of a folder in which all shards but the last are there as empty files: they are listed, never opened.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from reprobatch.actor import Receipt
from reprobatch.admission import Admission
from reprobatch.cluster import connected
from reprobatch.contract import QUESTIONS, Answer, Contract, samples
from reprobatch.folder import FolderStore
from reprobatch.plan import Plan
from reprobatch.pool import Pool
from reprobatch.resolve import load
from reprobatch.runner import _done
from reprobatch.schedule import Schedule
from reprobatch.store import shard_name


class NullActor:
    """Says yes to everything and makes nothing."""

    def up(self) -> None:
        pass

    def load(self, *_: Any) -> dict[str, Any]:
        return {"environment": {}, "canary": "00" * 32, "host": "here", "pid": 0}

    def probe(self, *_: Any) -> Contract:
        return Contract({name: Answer(True, 0.0) for name in QUESTIONS})

    def make(self, out: str, number: int, batches: Any, items: Any) -> Receipt:
        return Receipt(number, len(items), "00" * 32, "", 0, 0.0, 0.0, True)


def throughput(shards: int, workers: int) -> tuple[float, float]:
    """Shards a second, and the driver's CPU seconds a shard."""
    resolved = load("jobs/digits.yaml")
    job = resolved.job.model_copy(update={"batch_size": 1, "shard_size": 1})
    plan = Plan(shards, 1, 1)

    def read(start: int, stop: int) -> list[dict[str, Any]]:
        return [{"prompt": "a handwritten zero"}] * (stop - start)

    with connected(None):
        done: list[float] = []
        pool = Pool(
            job,
            None,
            "nowhere",
            samples(job, plan, read),
            Admission(None, None, many=False, insist=False),
            resolved.operation,
            lambda event: done.append(time.monotonic()) if event["event"] == "done" else None,
            most=workers,
            actor=NullActor,
        )
        before = time.process_time()
        pool.run(Schedule(shards), plan, read)
        return (len(done) - 1) / (done[-1] - done[0]), (time.process_time() - before) / shards


def listing(shards: int) -> float:
    """Seconds until a run knows what is left, where all shards but one are there."""
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(folder)
        store.create()
        for number in range(shards - 1):
            (Path(folder) / shard_name(number)).touch()
        begin = time.monotonic()
        schedule = Schedule(shards, _done(store, Plan(shards, 1, 1)))
        assert schedule.start() == shards - 1
        return time.monotonic() - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--resume", type=int, default=100_000)
    arguments = parser.parse_args()
    rate, cost = throughput(arguments.shards, arguments.workers)
    print(
        f"{arguments.shards} shards, {arguments.workers} workers that do nothing: {rate:.0f} shards/s, "
        f"{cost * 1e3:.2f} ms of the driver's CPU a shard"
    )
    print(f"{arguments.resume} shards there at resume: {listing(arguments.resume):.2f} s until the first is given out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
