"""What the driver can do: shards a second with workers that do nothing, and how long a resume takes to begin.

    python benchmarks/driver.py                    # 20 000 shards through real Ray actors, 1 000 000 at resume

The workers are Ray actors that answer at once, so all the time is the driver's and Ray's. The resume is
of a folder in which all shards but the last are there as empty files: they are listed, never opened. At the
end the driver puts the root together: from what workers said of the shards they made, or from the files.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ray import cloudpickle

sys.path.insert(0, str(Path(__file__).parent / "dataset"))
import made_up

from reprobatch import manifest
from reprobatch.actor import Receipt
from reprobatch.admission import Admission
from reprobatch.claim import claim
from reprobatch.cluster import connected
from reprobatch.contract import QUESTIONS, Answer, Contract, samples
from reprobatch.folder import FolderStore
from reprobatch.merkle import CompactRange
from reprobatch.plan import Plan
from reprobatch.pool import Pool
from reprobatch.resolve import load
from reprobatch.runner import _done
from reprobatch.schedule import Schedule
from reprobatch.store import SUMS, shard_name


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


def throughput(shards: int, workers: int, cpus: float = 1.0) -> tuple[float, float]:
    """Shards a second, and the driver's CPU seconds a shard."""
    resolved = load("jobs/digits.yaml")
    needs = resolved.job.workers.model_copy(update={"cpus": cpus})
    job = resolved.job.model_copy(update={"batch_size": 1, "shard_size": 1, "workers": needs})
    plan = Plan(shards, 1, 1)

    def read(start: int, stop: int) -> list[dict[str, Any]]:
        return [{"prompt": "a handwritten zero"}] * (stop - start)

    cloudpickle.register_pickle_by_value(sys.modules[NullActor.__module__])
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
    """CPU seconds until a run knows what is left, where all shards but one are there."""
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(folder)
        store.create()
        for number in range(shards - 1):
            (Path(folder) / shard_name(number)).touch()
        begin = time.process_time()
        schedule = Schedule(shards, _done(store, Plan(shards, 1, 1)))
        assert schedule.start() == shards - 1
        return time.process_time() - begin


def completing(shards: int) -> float:
    """CPU seconds to put the root together, where this run made every shard and holds what its workers said of it."""
    with tempfile.TemporaryDirectory() as folder:
        job, store = made_up.job(shards, 1, 1), FolderStore(folder)
        claim(store, job, lambda start, stop: [{}] * (stop - start))
        leaf = hashlib.sha256(b"an item").digest()
        known = {shard: manifest.Hashes(CompactRange.of(shard, [leaf]).to_text(), "00" * 32) for shard in range(shards)}
        begin = time.process_time()
        manifest.complete(store, job, Plan(shards, 1, 1), known)
        return time.process_time() - begin


def reading_back(shards: int) -> float:
    """CPU seconds to put the root together, where other runs made every shard: each is opened and hashed."""
    with tempfile.TemporaryDirectory() as folder:
        made_up.make(Path(folder), 8 * shards, (4, 8, 8), "float32", 8)
        job, store = made_up.job(8 * shards, 8), FolderStore(folder)
        (Path(folder) / SUMS).unlink()
        begin = time.process_time()
        manifest.complete(store, job, Plan(8 * shards, 8, 8), {})
        return time.process_time() - begin


def alone(measure: Callable[..., Any], *arguments: int) -> tuple[Any, float]:
    """A measurement in a process of its own, and the most memory that this took, in MB."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, measure, *arguments).result()


def _measured(measure: Callable[..., Any], *arguments: int) -> tuple[Any, float]:
    return measure(*arguments), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=20_000, help="through real Ray actors")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--resume", type=int, default=1_000_000, help="there already, or said to be made")
    parser.add_argument("--back", type=int, default=20_000, help="to be read back, of 8 kilobytes each")
    arguments = parser.parse_args()
    (rate, cost), memory = alone(throughput, arguments.shards, arguments.workers)
    print(
        f"{arguments.shards} shards, {arguments.workers} workers that do nothing: {rate:.0f} shards/s, "
        f"{cost * 1e3:.2f} ms of the driver's CPU a shard; {memory:.0f} MB",
        flush=True,
    )
    for measure, shards, done in (
        (listing, arguments.resume, "there at resume: {:.1f} s of CPU until the first is given out"),
        (completing, arguments.resume, "made now: {:.1f} s of CPU for root and hashes"),
        (reading_back, arguments.back, "made by others: {:.1f} s of CPU for root and hashes"),
    ):
        seconds, memory = alone(measure, shards)
        print(f"{shards} shards {done.format(seconds)}; {memory:.0f} MB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
