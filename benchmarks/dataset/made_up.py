"""Datasets whose outputs are random bytes, for benchmarks of everything but the pipeline.

python benchmarks/made_up.py OUT --items 100000 --shape 4,64,64 --shard-size 1024
"""

from __future__ import annotations

import argparse
import math
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from reprobatch import manifest, seeds
from reprobatch.claim import claim
from reprobatch.folder import FolderStore
from reprobatch.job import ResolvedJob
from reprobatch.plan import Plan
from reprobatch.record import ITEM_SIZE, Output, Row, ShardWriter
from reprobatch.store import shard_name


def job(items: int, shard_size: int, batch_size: int = 8) -> ResolvedJob:
    """A job of a model that nobody has."""
    return ResolvedJob.from_json(
        f"""{{"name": "made-up", "master_seed": 1, "batch_size": {batch_size}, "shard_size": {shard_size},
        "pipeline": {{"model": "builtin:none", "class_name": "None", "model_digest": "{"0" * 64}"}},
        "items": {{"source": null, "count": {items}, "repeat": 1, "grid": [], "columns": {{}}, "batched": [],
        "metadata": []}}}}"""
    )


def make(out: Path, items: int, shape: tuple[int, ...], dtype: str, shard_size: int) -> None:
    """Make the dataset, a process a core."""
    made = job(items, shard_size)
    store, plan = FolderStore(out), Plan(items, made.batch_size, shard_size)
    claim(store, made, lambda start, stop: [{}] * (stop - start))
    with ProcessPoolExecutor() as pool:
        shards = range(plan.shards)
        list(pool.map(_shard, *zip(*((out, made, shard, shape, dtype) for shard in shards), strict=True)))
    manifest.complete(store, made, plan, {})


def _shard(out: Path, made: ResolvedJob, shard: int, shape: tuple[int, ...], dtype: str) -> None:
    plan = Plan(made.items.count, made.batch_size, made.shard_size)
    writer = ShardWriter({}, made.column, made.digest, shard, made.seed_scheme)
    size = math.prod(shape) * ITEM_SIZE[dtype]
    drawn = seeds.derive(made.master_seed, np.array(plan.shard(shard))).tolist()
    start = plan.shard(shard).start
    for batch in plan.batches(shard):
        random = os.urandom(size * (batch.stop - batch.start))
        outputs = [Output(dtype, shape, random[at : at + size]) for at in range(0, len(random), size)]
        rows = [
            Row(index, drawn[index - start], batch.number, slot, {}, outputs[slot])
            for slot, index in enumerate(range(batch.start, batch.stop))
        ]
        writer.add(rows)
    FolderStore(out).put_new(shard_name(shard), writer.finish()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--shape", default="4,64,64")
    parser.add_argument("--dtype", default="float32", choices=list(ITEM_SIZE))
    parser.add_argument("--shard-size", type=int, default=1024)
    arguments = parser.parse_args()
    shape = tuple(int(part) for part in arguments.shape.split(","))
    make(arguments.out, arguments.items, shape, arguments.dtype, arguments.shard_size)


if __name__ == "__main__":
    main()
