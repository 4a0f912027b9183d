"""What an item costs besides its pipeline: against the number of items, the size of a shard and the workers.

    python benchmarks/growth.py                  # 100 … 1 000 000 items: about four minutes on 2 cores
    python benchmarks/growth.py --most 10000     # a look

The pipeline answers at once with 1 KB an item (a latent of the digits model); everything else is what a run
does: Ray, items, seeds, rows, checksums, Parquet, the store and the root. Simulated workers beyond this
machine's cores are in ``benchmarks/simulate.py``.
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import cloudpickle

from reprobatch import journal, runner
from reprobatch.actor import Actor
from reprobatch.contract import QUESTIONS, Answer, Contract
from reprobatch.dataset import Dataset
from reprobatch.job import Job
from reprobatch.pool import Pool
from reprobatch.record import Output
from reprobatch.resolve import resolve
from reprobatch.worker import Worker

SHARD = 1000  # items
SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
SHARDS = (100, 1_000, 10_000)
REPETITIONS = 3
SHAPE, BYTES = (4, 8, 8), 1024


class NullPipeline:
    """Zeros with the seed in front: nothing to compute, and no two items alike."""

    def generate(self, items: Sequence[Any], seeds: Sequence[int]) -> list[Output]:
        return [Output("float32", SHAPE, seed.to_bytes(8, "little") + bytes(BYTES - 8)) for seed in seeds]

    def call(self, items: Sequence[Any], seeds: Sequence[int], *, short: bool) -> tuple[list[Output], list[Any]]:
        return self.generate(items, seeds), []


class NullWorker(Worker):
    def _load(self, hint: Any) -> Any:
        return NullPipeline()

    def environment(self) -> dict[str, Any]:
        return {}


class NullActor(Actor):
    def load(
        self, job_json: str, model: Any, first: Any, batch_seconds: float | None, only: bool = False
    ) -> dict[str, Any]:
        from reprobatch import actor

        actor.Worker = NullWorker  # type: ignore[misc]
        return super().load(job_json, model, first, batch_seconds)

    def probe(self, samples: Any, only: bool) -> Contract:
        return Contract({name: Answer(True, 0.0) for name in QUESTIONS})


def seconds(items: int, shard: int, workers: int) -> float:
    """From the first shard's start to the last shard's end of a whole run; start-up does not grow."""
    job = Job.parse(
        {
            "name": "nothing",
            "master_seed": 1,
            "pipeline": {"model": "builtin:digits"},
            "call": {"prompt": "nothing", "num_inference_steps": 2},
            "items": {"count": items},
            "batch_size": 10,
            "shard_size": shard,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        outcome = runner.run(resolve(job, Path("job.yaml")), out, workers=workers)
        assert outcome.root is not None and outcome.items == items
        (events,) = journal.read(Dataset(out).store)
    at = [event["time"] for event in events if event["event"] in ("start", "done")]
    return float(max(at) - min(at))


def report(title: str, rows: list[tuple[str, int, list[float]]]) -> None:
    print(f"\n| {title} | s | µs an item |\n|---:|---:|---:|")
    for name, items, taken in rows:
        middle = statistics.median(taken)
        print(f"| {name} | {middle:.2f} | {1e6 * middle / items:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="items")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    given = parser.parse_args()
    most = given.most
    cloudpickle.register_pickle_by_value(sys.modules[NullActor.__module__])
    runner.Pool = functools.partial(Pool, actor=NullActor)  # type: ignore[misc, assignment]
    cores = os.cpu_count() or 1
    sizes = [size for size in SIZES if size <= most]
    began = time.monotonic()
    by_size: dict[int, list[float]] = {size: [] for size in sizes}
    for repetition in range(given.repetitions):
        for size in sizes:
            if size < sizes[-1] or repetition == 0 or size <= 100_000:  # the largest once: minutes
                by_size[size].append(seconds(size, SHARD, cores))
    report(f"items, {cores} workers, {SHARD} a shard", [(f"{size}", size, taken) for size, taken in by_size.items()])
    some = min(most, 100_000)
    report(f"workers, {some} items", [(f"{n}", some, [seconds(some, SHARD, n)]) for n in range(1, cores + 1)])
    shards = [shard for shard in SHARDS if shard <= some]
    report(f"items a shard, {some} items", [(f"{shard}", some, [seconds(some, shard, cores)]) for shard in shards])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\ndriver's peak memory {peak:.0f} MB; {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
