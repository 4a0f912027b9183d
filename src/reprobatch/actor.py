"""What runs in a Ray worker process: a :class:`reprobatch.worker.Worker` and its dataset's store."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from reprobatch import fresh
from reprobatch.attachments import Hint
from reprobatch.contract import Answer, Contract, Place, Samples, canary
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, StorageError
from reprobatch.job import ResolvedJob
from reprobatch.plan import Batch
from reprobatch.store import Data, open_store, sha256_of, shard_name
from reprobatch.worker import Worker

PATIENCE = 30.0  # seconds that a finished shard is kept for a store that does not take it
PAUSE = 2.0  # seconds until it is put again

_store = cache(open_store)  # what a bucket can do is asked once


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker says of a shard it committed; ``sha256`` is the file's."""

    shard: int
    items: int
    sha256: str
    compact: str
    size: int
    seconds: float
    pipeline_seconds: float
    new: bool


class Actor:
    """Runs in the worker process; Ray calls it from as many threads as there are shards in flight."""

    def up(self) -> None:
        """Answers once the process runs."""

    def load(
        self, job_json: str, model: Hint, first: list[Place], batch_seconds: float | None, only: bool = False
    ) -> dict[str, Any]:
        """Load the pipeline. The ``only`` worker of a new dataset has a new process do the same beside it."""
        job = ResolvedJob.from_json(job_json)
        self._begun = fresh.begin(job, model, first) if only else None
        self.worker = Worker(job, model, batch_seconds=batch_seconds)
        checksum = canary(self.worker.canary(first))
        self.made_in = checksum if self.worker.job.environments == "many" else None
        facts = self.worker.environment()
        return {"environment": facts, "canary": checksum, "host": socket.gethostname(), "pid": os.getpid()}

    def probe(self, samples: Samples, only: bool) -> Contract:
        return self.worker.probe(samples, fresh=self._begun or only)

    def fresh(self, samples: Samples) -> Answer:
        return self.worker.fresh(samples)

    def make(self, out: str, number: int, batches: Sequence[Batch], items: Sequence[dict[str, Any]]) -> Receipt:
        start = time.monotonic()
        shard = self.worker.shard(number, batches, items, self.made_in)
        try:
            new = _put(out, shard_name(number), shard.data)
        except DataError:
            there = self._made_elsewhere(out, number)
            if there is None:
                raise
            return replace(there, seconds=time.monotonic() - start, pipeline_seconds=shard.pipeline_seconds)
        return Receipt(
            number,
            shard.items,
            shard.sha256,
            shard.compact,
            shard.size,
            time.monotonic() - start,
            shard.pipeline_seconds,
            new,
        )

    def _made_elsewhere(self, out: str, number: int) -> Receipt | None:
        """The receipt of a shard that another of a dataset's many environments was first to commit."""
        if self.made_in is None:
            return None
        dataset = Dataset(out)
        footer = dataset.footer(number)
        if footer.environment in (None, self.made_in):
            return None
        data = dataset.store.get(shard_name(number))
        return Receipt(number, footer.rows, sha256_of([data]), footer.compact, len(data), 0.0, 0.0, False)


def _put(out: str, name: str, data: Data) -> bool:
    """Put a finished shard, again and again for a while: what cost minutes is not lost for a moment's trouble."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return _store(out).put_new(name, data)
        except (OSError, StorageError):
            if time.monotonic() > until:
                raise
        time.sleep(PAUSE)
