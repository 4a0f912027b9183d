"""The worker: loads the pipeline once, turns shards into Parquet bytes.

A plain class with no Ray in it. One thread of its own does all the computing, so that the caller's
threads can read the next shard's rows and encode the last one's file meanwhile.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprobatch import attachments, determinism, environment, seeds
from reprobatch.attachments import Hint
from reprobatch.contract import Answer, Contract, Place, Samples, padded
from reprobatch.errors import BatchHung, ItemFailed, ReprobatchError
from reprobatch.job import ResolvedJob
from reprobatch.plan import Batch
from reprobatch.record import Output, Row, ShardWriter
from reprobatch.store import sha256_of

Fresh = Callable[[], list[Output]]
_Slots = list[tuple[int, dict[str, Any]]]
_Made = tuple[list[Output], float]


@dataclass(frozen=True)
class Shard:
    """A shard's Parquet bytes in pieces, their SHA-256, its Merkle compact range as text, and seconds spent."""

    number: int
    items: int
    data: list[bytes]
    sha256: str
    compact: str
    pipeline_seconds: float

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(map(len, self.data))


class Worker:
    """Makes shards of one job in this process.

    Parameters
    ----------
    job
        The resolved job.
    model
        Where a folder model lies here, or several things by name; ``None`` for built-in and hub models.
    batch_seconds
        How long a pipeline call of :meth:`shard` may take.

    Fixes the deterministic settings for the whole process. Raises :class:`JobError` where the
    pipeline cannot be loaded as the job says.
    """

    def __init__(self, job: ResolvedJob, model: Hint = None, *, batch_seconds: float | None = None) -> None:
        self.job = job
        self._batch_seconds = batch_seconds
        self._model = model
        determinism.prepare(job.determinism, job.workers.threads)
        self._lane = ThreadPoolExecutor(1, "pipeline")
        self._turn = threading.Lock()
        self._pipeline = self._lane.submit(self._load, model).result()

    def environment(self) -> dict[str, Any]:
        """The facts of this process that may change bits."""
        return self._lane.submit(lambda: environment.collect(dict(os.environ), torch_facts())).result()

    def seed(self, index: int, item: dict[str, Any]) -> int:
        """An item's seed: its own where it brings one, else derived from the master seed."""
        return int(item["seed"]) if "seed" in item else seeds.derive(self.job.master_seed, index)

    def batch(self, items: Sequence[dict[str, Any]], item_seeds: Sequence[int]) -> list[Output]:
        """One output an item; a short batch is padded with copies of its last item."""
        return self._submit(items, item_seeds).result()[0]

    def canary(self, first: Sequence[Place]) -> list[Output]:
        """The job's first batch at two steps, an output a slot: index and columns of its items are ``first``."""
        slots = padded(first, self.job.batch_size)
        seeded = [self.seed(at, item) for at, item in slots]

        def call() -> list[Output]:
            return list(self._pipeline.call([item for _, item in slots], seeded, short=True)[0])

        return self._lane.submit(call).result()

    def probe(self, samples: Samples, *, fresh: bool | Fresh = True) -> Contract:
        """Measure the job's contract here.

        ``fresh`` says whether a new process is started for it, or is the answer of one that was
        (:func:`reprobatch.fresh.begin`).
        """
        from reprobatch.fresh import begin
        from reprobatch.probes import probe

        anew = begin(self.job, self._model, samples.first) if fresh is True else fresh or None
        return self._lane.submit(probe, self._pipeline, samples, self.seed, anew).result()

    def fresh(self, samples: Samples) -> Answer:
        """Whether a new process on this machine gives this one's canary."""
        from reprobatch.fresh import canary_outputs
        from reprobatch.probes import same

        return same(self.canary(samples.first), canary_outputs(self.job, self._model, samples.first))

    def shard(
        self,
        number: int,
        batches: Sequence[Batch],
        items: Sequence[dict[str, Any]],
        made_in: str | None = None,
    ) -> Shard:
        """Make a shard: ``items`` are those of ``batches``, in index order.

        ``made_in`` goes into the footer: the canary that names this environment in a dataset of many.

        May be called from several threads: one shard computes at a time, while others arrive or are
        finished.
        """
        job = self.job
        writer = ShardWriter(job.items.columns, job.column, job.digest, number, job.seed_scheme, made_in, job.also)
        with self._turn:
            spent = sum(seconds for seconds in self._compute(writer, batches, items))
        data, compact = writer.finish()
        return Shard(number, len(items), data, sha256_of(data), compact.to_text(), spent)

    def decode(self, output: Output) -> Any:
        """An output as a picture; see :meth:`reprobatch.pipeline.Pipeline.decode`."""
        return self._lane.submit(self._pipeline.decode, output).result()

    def decode_all(self, outputs: Sequence[Output]) -> list[Any]:
        """Outputs of one shape as pictures; see :meth:`reprobatch.pipeline.Pipeline.decode_all`."""
        return list(self._lane.submit(self._pipeline.decode_all, outputs).result())

    def sampling_rate(self) -> int:
        """Of the pipeline's sound; see :meth:`reprobatch.pipeline.Pipeline.sampling_rate`."""
        return int(self._pipeline.sampling_rate())

    def _compute(
        self, writer: ShardWriter, batches: Sequence[Batch], items: Sequence[dict[str, Any]]
    ) -> Iterator[float]:
        """Seconds of each pipeline call; one batch computes while the one before it is encoded."""
        first = batches[0].start
        underway: tuple[Batch, _Slots, Future[_Made]] | None = None
        for batch in batches:
            chosen = items[batch.start - first : batch.stop - first]
            slots = [(self.seed(batch.start + slot, item), item) for slot, item in enumerate(chosen)]
            following = (batch, slots, self._submit(chosen, [seed for seed, _ in slots]))
            if underway is not None:
                yield self._take(writer, *underway)
            underway = following
        if underway is not None:
            yield self._take(writer, *underway)

    def _take(self, writer: ShardWriter, batch: Batch, slots: _Slots, made: Future[_Made]) -> float:
        span = f"items {batch.start} … {batch.stop - 1}"
        try:
            outputs, seconds = made.result(self._batch_seconds)
        except (ReprobatchError, MemoryError):
            raise
        except Exception as error:
            # a pipeline may raise the same class: its own errors are the future's
            if isinstance(error, TimeoutError) and not (made.done() and made.exception() is error):
                limit = f"{self._batch_seconds:g} s"
                raise BatchHung(f"{span}: expected a batch within {limit}, found it unfinished") from None
            raise ItemFailed(f"{span}: {self._blame(batch, slots)}{_said(error)}") from error
        rows = [
            Row(batch.start + slot, seed, batch.number, slot, item, output)
            for slot, ((seed, item), output) in enumerate(zip(slots, outputs, strict=True))
        ]
        writer.add(rows)
        return seconds

    def _blame(self, batch: Batch, slots: _Slots) -> str:
        """Which items of a batch that failed also fail alone, in two steps; empty where none does."""
        size, guilty = self.job.batch_size, []
        for slot, (seed, item) in enumerate(slots):
            try:
                self._lane.submit(self._pipeline.call, [item] * size, [seed] * size, short=True).result()
            except Exception:  # whatever a pipeline raises
                guilty.append(f"item {batch.start + slot} (seed {seed})")
        return f"{', '.join(guilty)} fails alone too: " if guilty else ""

    def _submit(self, items: Sequence[dict[str, Any]], item_seeds: Sequence[int]) -> Future[_Made]:
        size = self.job.batch_size
        filled, filled_seeds = padded(items, size), padded(item_seeds, size)

        def call() -> tuple[list[Output], float]:
            start = time.perf_counter()
            outputs = self._pipeline.generate(filled, filled_seeds)
            return outputs[: len(items)], time.perf_counter() - start

        return self._lane.submit(call)

    def _load(self, hint: Hint) -> Any:
        job = self.job
        determinism.fix(job.determinism, job.workers.threads, job.device, job.pipeline.speed)
        from reprobatch.pipeline import Pipeline

        spec = job.pipeline
        places = attachments.places(hint)
        model, found = attachments.locate_all(spec.model, spec.revision, spec.model_digest, spec.attachments, places)
        return Pipeline(job, model.folder, {name: each.path for name, each in found.items()})


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def torch_facts() -> dict[str, Any]:
    """What torch knows of this machine: kernels chosen, GPU, CUDA libraries, settings in force."""
    import torch

    facts: dict[str, Any] = {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "build": torch.version.git_version,
        "mkldnn": bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
        "settings": determinism.in_force(),
    }
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        facts["gpu"] = {
            "name": gpu.name,
            "capability": f"{gpu.major}.{gpu.minor}",
            "multiprocessors": gpu.multi_processor_count,
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    return facts


def _driver(path: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """NVIDIA's kernel driver, such as 580.95.05; ``None`` where it cannot be read."""
    try:
        found = re.search(r"Kernel Module\D*([\d.]+)", path.read_text())
    except OSError:
        return None
    return found[1] if found else None
