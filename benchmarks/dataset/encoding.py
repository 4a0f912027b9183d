"""Whether encoding a shard ever keeps the pipeline waiting, and how much memory a shard takes.

    python benchmarks/dataset/encoding.py

A worker whose pipeline takes a set time a call and makes nothing but random outputs, of the sizes that
Stable Diffusion, SDXL, FLUX and video pipelines have. "In the pipeline" is the share of the time from the
first call to the end of the last that was spent inside pipeline calls, with two shards in flight as in a
run; the rest is what the pipeline waited for others. Memory is the peak of the process
over what it had before, for one shard, against the shard's size.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from made_up import job

from reprobatch.folder import FolderStore
from reprobatch.plan import Plan
from reprobatch.record import ITEM_SIZE, Output
from reprobatch.store import shard_name
from reprobatch.worker import Worker

CASES = {
    "Stable Diffusion": ((4, 64, 64), "float32"),
    "SDXL": ((4, 128, 128), "float16"),
    "FLUX": ((4096, 64), "bfloat16"),
    "video": ((16, 21, 60, 104), "float32"),
    "video, half": ((16, 21, 60, 104), "bfloat16"),
}


class Made:
    """A pipeline that takes its time."""

    def __init__(self, shape: tuple[int, ...], dtype: str, seconds: float) -> None:
        self._seconds, self._shape, self._dtype = seconds, shape, dtype
        self.first = self.last = self.within = 0.0
        self._noise = os.urandom(math.prod(shape) * ITEM_SIZE[dtype])

    def generate(self, arguments: list[Any], seeds: list[int]) -> list[Output]:
        begin = time.perf_counter()
        # bytes of their own, as a pipeline's are
        made = [Output(self._dtype, self._shape, b"%10d" % seed + self._noise[10:]) for seed in seeds]
        time.sleep(max(0.0, self._seconds - (time.perf_counter() - begin)))
        self.first, self.last = self.first or begin, time.perf_counter()
        self.within += self.last - begin
        return made


class Null(Worker):
    """A worker without a model."""

    made: Made

    def _load(self, hint: str | None) -> Any:
        return self.made


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(name: str, seconds: float, shard_bytes: int, shards: int, in_flight: int) -> dict[str, float]:
    shape, dtype = CASES[name]
    batch = 8 if math.prod(shape) < 10**6 else 1
    items = max(batch, shard_bytes // (math.prod(shape) * ITEM_SIZE[dtype]) // batch * batch)
    made_up = job(items * shards, items, batch)
    Null.made = Made(shape, dtype, seconds)
    worker, plan = Null(made_up), Plan(items * shards, batch, items)
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(folder)
        store.create()

        def shard(number: int) -> int:
            made = worker.shard(number, plan.batches(number), [{}] * items)
            store.put_new(shard_name(number), made.data)
            return made.size

        before = peak()
        with ThreadPoolExecutor(in_flight) as pool:
            size = max(pool.map(shard, range(shards)))
    share = Null.made.within / (Null.made.last - Null.made.first)
    return {"share": share, "memory": (peak() - before) / size, "shard": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--milliseconds", type=float, default=200)
    parser.add_argument("--shard-mb", type=int, default=256)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, milliseconds, shard_mb, shards, in_flight = json.loads(arguments.one)
        print(json.dumps(measure(name, milliseconds / 1e3, shard_mb << 20, shards, in_flight)))
        return
    print(f"calls of {arguments.milliseconds:g} ms\n")
    print("| latents | dtype | shard | in the pipeline | memory of one shard |\n|---|---|---:|---:|---:|")

    def apart(*case: object) -> dict[str, float]:
        """In a process of its own, whose peak is nobody else's."""
        command = [sys.executable, __file__, "--one", json.dumps(case)]
        return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

    for name, (shape, dtype) in CASES.items():
        calls = apart(name, arguments.milliseconds, 64, 4, 2)
        memory = apart(name, 0, arguments.shard_mb, 1, 1)
        size = f"{memory['shard'] / 1e6:.0f} MB"
        print(
            f"| {name} {shape} | {dtype} | {size} | {calls['share']:.1%} | {memory['memory']:.2f} times |", flush=True
        )


if __name__ == "__main__":
    main()
