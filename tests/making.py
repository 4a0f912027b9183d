"""Datasets made in this process by the plain worker, where a test is not about Ray: the same bytes, sooner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from conftest import DIGITS
from reprobatch import manifest
from reprobatch.claim import claim
from reprobatch.contract import canary, first_batch
from reprobatch.dataset import Dataset
from reprobatch.plan import Plan
from reprobatch.resolve import Resolved, load
from reprobatch.store import Store, open_store, shard_name
from reprobatch.worker import Worker


def resolved(*changes: str, job: Path = DIGITS) -> Resolved:
    """A job with ``key=value`` changes, pinned."""
    return load(job, list(changes))


def put_missing(job: Resolved, plan: Plan, store: Store, worker: Worker) -> None:
    """Make and commit the shards that a store does not have."""
    for number in set(range(plan.shards)) - set(store.shards()):
        span = plan.shard(number)
        made = worker.shard(number, plan.batches(number), job.reader.read(span.start, span.stop))
        store.put_new(shard_name(number), made.data)


def make(job: Resolved, out: Path | str, worker: Worker | None = None) -> Dataset:
    """Make what is missing of a job's dataset. Its contract is left open."""
    store = open_store(out)
    claim(store, job.job, job.reader.read)
    plan = replace(job.plan, starts=Dataset(out).plan.starts)
    worker = worker or Worker(job.job)
    put_missing(job, plan, store, worker)
    checksum = canary(worker.canary(first_batch(plan, job.reader.read)))
    there = {"canary": {"checksum": checksum}, "environment": worker.environment(), **Dataset(out).manifest}
    manifest.write(store, there)
    manifest.complete(store, job.job, plan, {})
    return Dataset(out)
