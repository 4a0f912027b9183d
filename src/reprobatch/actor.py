"""What runs in a Ray worker process: a :class:`reprobatch.worker.Worker` and its dataset's store."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reprobatch.contract import Answer, Contract, Place, Samples, canary
from reprobatch.job import ResolvedJob
from reprobatch.plan import Batch
from reprobatch.store import Store, shard_name
from reprobatch.worker import Worker


@dataclass(frozen=True)
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

    def load(self, job_json: str, model: str | None, first: list[Place], batch_seconds: float | None) -> dict[str, Any]:
        self.worker = Worker(ResolvedJob.from_json(job_json), model, batch_seconds=batch_seconds)
        checksum = canary(self.worker.canary(first))
        self.made_in = checksum if self.worker.job.environments == "many" else None
        facts = self.worker.environment()
        return {"environment": facts, "canary": checksum, "host": socket.gethostname(), "pid": os.getpid()}

    def probe(self, samples: Samples, fresh: bool) -> Contract:
        return self.worker.probe(samples, fresh=fresh)

    def fresh(self, samples: Samples) -> Answer:
        return self.worker.fresh(samples)

    def make(self, out: str, number: int, batches: Sequence[Batch], items: Sequence[dict[str, Any]]) -> Receipt:
        start = time.monotonic()
        shard = self.worker.shard(number, batches, items, self.made_in)
        new = Store(out).put_new(shard_name(number), memoryview(shard.data))
        seconds = time.monotonic() - start
        return Receipt(
            number,
            shard.items,
            shard.sha256,
            shard.compact,
            shard.data.size,
            seconds,
            shard.pipeline_seconds,
            new,
        )
