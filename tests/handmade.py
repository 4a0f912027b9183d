"""Datasets written as a worker would write them, without one: a job, its card, and shards of given rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprobatch import croissant
from reprobatch.card import dataset_card
from reprobatch.job import ResolvedJob, ResolvedPipeline
from reprobatch.jobitems import ResolvedItems
from reprobatch.plan import Plan
from reprobatch.record import Output, Row, ShardWriter
from reprobatch.store import open_store, shard_name


def job(
    columns: dict[str, str], count: int, *, model: str = "builtin:digits", dtype: Any = "float32", **changes: Any
) -> ResolvedJob:
    return ResolvedJob(
        name="hand-made",
        master_seed=1,
        pipeline=ResolvedPipeline(model=model, class_name="None", model_digest="0" * 64, dtype=dtype),
        items=ResolvedItems(source=None, count=count, repeat=1, grid=[], columns=columns, batched=[], metadata=[]),
        **{"batch_size": 4, "shard_size": 16, **changes},
    )


def write(
    folder: Path,
    made: ResolvedJob,
    items: Sequence[dict[str, Any]],
    outputs: Sequence[Output],
    starts: tuple[int, ...] = (0,),
) -> Path:
    """The dataset of a job, with segments that begin at ``starts``; its rows' seeds are seven times their index."""
    store, plan = open_store(folder), Plan(len(outputs), made.batch_size, made.shard_size, starts=starts)
    store.create()
    store.put_new("job.json", made.canonical.encode())
    store.put_new("README.md", dataset_card(made).encode())
    store.put_new("croissant.json", croissant.metadata(made).encode())
    for shard in range(plan.shards):
        writer = ShardWriter(made.items.columns, made.column, made.digest, shard, made.seed_scheme)
        for batch in plan.batches(shard):
            span = range(batch.start, batch.stop)
            writer.add([Row(i, 7 * i, batch.number, i - batch.start, items[i], outputs[i]) for i in span])
        store.put_new(shard_name(shard), writer.finish()[0])
    return folder
