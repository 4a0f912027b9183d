"""How fast a job is in batches of one size or another: ``python -m reprobatch.sizes`` measures one, as JSON.

Each size is measured in a process of its own, since what one leaves behind (caches, memory) would be the next one's
gain or loss. Nothing is changed by it: the batch size is part of an item's bits, so it is for the author to choose.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reprobatch import determinism, inputs
from reprobatch.attachments import Hint
from reprobatch.contract import Place, first_batch
from reprobatch.errors import JobError
from reprobatch.job import ResolvedJob
from reprobatch.plan import Plan

NEAR = 0.95  # of the best rate: a smaller batch that comes so near is preferred, for its memory


@dataclass(frozen=True)
class Measured:
    """A batch size: items a second and peak memory in bytes, or why there is none.

    The rate is that of one whole pipeline call after a short one. The memory is the process's own (resident), and
    with GPUs what torch has allocated on them.
    """

    batch_size: int
    items_per_second: float | None
    peak_bytes: int | None
    problem: str | None = None


def measure(
    job: ResolvedJob, hint: Hint, read: Callable[[int, int], list[dict[str, Any]]], breaks: Any, sizes: Sequence[int]
) -> Iterator[Measured]:
    """Measure each size in a process of its own, on the job's first items; ``breaks`` as :class:`Plan` takes them."""
    for size in sizes:
        sized = job.model_copy(update={"batch_size": size, "shard_size": size})
        yield _measured(sized, hint, first_batch(Plan(job.items.count, size, size, breaks), read))


def best(found: Sequence[Measured]) -> Measured | None:
    """The smallest batch whose rate is at least :data:`NEAR` of the highest; ``None`` where none could be measured."""
    rated = [(m.items_per_second, m) for m in found if m.items_per_second is not None]
    if not rated:
        return None
    enough = NEAR * max(rate for rate, _ in rated)
    return min((m for rate, m in rated if rate >= enough), key=lambda m: m.batch_size)


def parse(text: str) -> list[int]:
    """Batch sizes from text such as ``1,2,4,8``. Raises :class:`JobError` for anything else."""
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or not all(1 <= size <= 32767 for size in sizes):
        raise JobError(f"--batch-sizes: expected numbers from 1 to 32767 such as 1,2,4,8, found '{text}'")
    return sorted(set(sizes))


def _measured(job: ResolvedJob, hint: Hint, first: list[Place]) -> Measured:
    items = [(index, inputs.to_json(item)) for index, item in first]
    done = subprocess.run(
        [sys.executable, "-m", "reprobatch.sizes"],
        input=json.dumps({"job": job.canonical, "hint": hint, "first": items}).encode(),
        capture_output=True,
        env={**os.environ, **determinism.variables(job.determinism, job.workers.threads)},
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        killed = f"killed by signal {-done.returncode}; out of memory?" if done.returncode < 0 else None
        return Measured(job.batch_size, None, None, killed or (said[-1] if said else f"exit code {done.returncode}"))
    return Measured(**json.loads(done.stdout))


def _answer(request: dict[str, Any]) -> Measured:
    from reprobatch.worker import Worker

    job = ResolvedJob.from_json(request["job"])
    worker = Worker(job, request["hint"])
    first = [(index, inputs.from_json(item)) for index, item in request["first"]]
    worker.canary(first)
    start = time.perf_counter()
    worker.batch([item for _, item in first], [worker.seed(index, item) for index, item in first])
    seconds = time.perf_counter() - start
    return Measured(job.batch_size, job.batch_size / seconds, _peak(job.device))


def _peak(device: str) -> int:
    if device == "cuda":
        import torch

        return sum(torch.cuda.max_memory_allocated(gpu) for gpu in range(torch.cuda.device_count()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


if __name__ == "__main__":
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no part of the answer
    json.dump(asdict(_answer(json.load(sys.stdin))), out)
