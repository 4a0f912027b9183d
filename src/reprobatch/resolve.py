"""From a job as written to one with everything pinned, and where its parts lie on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprobatch import items, models
from reprobatch.errors import JobError
from reprobatch.estimate import Argument, output_bytes, shard_size_for
from reprobatch.items import ItemReader
from reprobatch.job import Common, Job, ResolvedItems, ResolvedJob, ResolvedPipeline
from reprobatch.models import Model
from reprobatch.plan import Plan
from reprobatch.settings import Operation


@dataclass(frozen=True)
class Resolved:
    """A pinned job, its model and its item file on this machine, and how to carry it out."""

    job: ResolvedJob
    model: Model
    reader: ItemReader
    plan: Plan
    item_file: Path | None
    operation: Operation

    @property
    def model_hint(self) -> str | None:
        """The path of a folder model; built-in and hub models are found by name everywhere."""
        return str(self.model.folder) if self.model.reference.startswith("folder:") else None


def resolve(job: Job, job_file: Path) -> Resolved:
    """Pin a job. Raises :class:`JobError` where a model or item file is not there or does not fit."""
    path = items.find(job.items.prompts, job_file.parent) if job.items.prompts else None
    pinned = items.resolve(job.items, path)
    _check_call(job, pinned)
    model = models.resolve(_from_job(job.pipeline.model, job_file.parent), job.pipeline.revision)
    spec, reader = job.pipeline, ItemReader(pinned, path)
    common = {name: getattr(job, name) for name in Common.model_fields}
    if job.shard_bytes is not None:
        each = output_bytes(job.output, spec.dtype, largest_argument(job.call, reader), model.folder)
        common["shard_size"] = shard_size_for(job.shard_bytes, each, job.batch_size, job.shard_size)
    resolved = ResolvedJob(
        **common,
        items=pinned,
        pipeline=ResolvedPipeline(
            model=model.reference,
            revision=model.revision,
            dtype=spec.dtype,
            scheduler=spec.scheduler,
            class_name=models.read_index(model.folder)["_class_name"],
            model_digest=model.digest,
        ),
    )
    plan = Plan(pinned.count, job.batch_size, resolved.shard_size, reader.breaks())
    return Resolved(resolved, model, reader, plan, path, job.operation)


def largest_argument(call: Mapping[str, Any], reader: ItemReader) -> Argument:
    """Call arguments by name: whole numbers as the job gives them to every call, or the largest of its items."""

    def argument(name: str) -> int | None:
        value = reader.largest(name) if name in reader.items.columns else call.get(name)
        return value if type(value) is int else None

    return argument


def load(path: Path | str, overrides: list[str] | None = None) -> Resolved:
    """Read a job file and pin it."""
    return resolve(Job.load(path, overrides), Path(path))


def _from_job(reference: str, beside: Path) -> str:
    """A model folder may be named from the job file's folder, as an item file may."""
    if reference.startswith("builtin:"):
        return reference
    try:
        if Path(reference).expanduser().is_dir() or not (beside / reference).is_dir():
            return reference
    except (OSError, RuntimeError) as error:  # a name too long, or a ~user that is not known
        raise JobError(f"pipeline.model: '{reference}' cannot be a path: {error}") from None
    return str(beside / reference)


def _check_call(job: Job, pinned: ResolvedItems) -> None:
    twice = sorted(job.call.keys() & (pinned.columns.keys() - set(pinned.metadata)))
    if twice:
        raise JobError(f"'{twice[0]}' is set in call and is a column of the items; keep one of them")
