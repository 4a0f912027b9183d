"""From a job as written to one with everything pinned, and where all of it lies on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprobatch import attachments, classes, items, models
from reprobatch.attachments import Adapter, Attachment, Hint, ResolvedAdapter, ResolvedComponent, Source
from reprobatch.errors import JobError, suggestion
from reprobatch.estimate import Argument, output_bytes, shard_size_for
from reprobatch.inputs import Root
from reprobatch.items import ItemReader
from reprobatch.job import Common, Job, ResolvedJob
from reprobatch.jobitems import ResolvedItems
from reprobatch.jobpipeline import Pipeline, ResolvedPipeline
from reprobatch.models import Model
from reprobatch.plan import Plan
from reprobatch.record import columns_of
from reprobatch.settings import Operation
from reprobatch.store import is_url


@dataclass(frozen=True)
class Resolved:
    """A pinned job, its model and its item file on this machine, and how to carry it out."""

    job: ResolvedJob
    model: Model
    reader: ItemReader
    plan: Plan
    item_file: Path | None
    operation: Operation
    places: dict[str, str] = field(default_factory=dict)  # of attachments and inputs, by name

    @property
    def model_hint(self) -> Hint:
        """The path of a folder model; built-in and hub models are found by name everywhere.

        With attachments or inputs, the paths of all of them by name.
        """
        model = {"model": str(self.model.folder)} if self.model.reference.startswith("folder:") else {}
        return {**model, **self.places} if self.places else model.get("model")


def resolve(job: Job, job_file: Path) -> Resolved:
    """Pin a job. Raises :class:`JobError` where a model or item file is not there or does not fit."""
    path = items.find(job.items.prompts, job_file.parent) if job.items.prompts else None
    root = _folder(job.items.image_root, job_file.parent) if job.items.image_root else None
    pinned = items.resolve(job.items, path, root)
    _check_call(job, pinned)
    _check_classes(job.pipeline)
    model = models.resolve(_from_job(job.pipeline.model, job_file.parent), job.pipeline.revision)
    spec, reader = job.pipeline, ItemReader(pinned, path, root)
    found = _attachments(spec, job_file.parent)
    common = {name: getattr(job, name) for name in Common.model_fields}
    if job.shard_bytes is not None:
        each = output_bytes(job.output, spec.dtype, largest_argument(job.call, reader), model.folder, job.also)
        common["shard_size"] = shard_size_for(job.shard_bytes, each, job.batch_size, job.shard_size)
    resolved = ResolvedJob(
        **common,
        items=pinned,
        pipeline=ResolvedPipeline(
            model=model.reference,
            revision=model.revision,
            dtype=spec.dtype,
            scheduler=spec.scheduler,
            dtypes=spec.dtypes,
            memory=spec.memory,
            speed=spec.speed,
            quantization=spec.quantization,
            class_name=spec.class_name or models.read_index(model.folder)["_class_name"],
            model_digest=models.combined(model.digest, {name: each.digest for name, each in found.items()}),
            components={name: _pinned(found[f"components.{name}"], each) for name, each in spec.components.items()},
            adapters=[_worn(found[f"adapters.{number}"], each) for number, each in enumerate(spec.adapters)],
        ),
    )
    plan = Plan(pinned.count, job.batch_size, resolved.shard_size, reader.breaks())
    places = {name: str(each.path) for name, each in found.items() if each.revision is None}
    if pinned.inputs:  # which whoever makes an item again has to read again
        beside = {"items": path, "images": root}
        places |= {name: str(at.resolve() if isinstance(at, Path) else at) for name, at in beside.items() if at}
    return Resolved(resolved, model, reader, plan, path, job.operation, places)


def largest_argument(call: Mapping[str, Any], reader: ItemReader) -> Argument:
    """Call arguments by name: whole numbers as the job gives them to every call, or the largest of its items."""

    def argument(name: str) -> int | None:
        value = reader.largest(name) if name in reader.items.columns else call.get(name)
        return value if type(value) is int else None

    return argument


def load(path: Path | str, overrides: list[str] | None = None) -> Resolved:
    """Read a job file, or the job that ships as ``builtin:NAME``, and pin it."""
    if not str(path).startswith("builtin:"):
        return resolve(Job.load(path, overrides), Path(path))
    file = models.builtin_job(str(path))
    prompts = json.dumps(str(file.with_name(f"{file.parent.name}.txt")))  # in full: the working directory goes first
    return resolve(Job.load(file, [f"items.prompts={prompts}", *(overrides or [])]), file)


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


def _folder(name: str, beside: Path) -> Root:
    if is_url(name):
        return name.rstrip("/")
    for folder in (Path(name).expanduser(), beside / name):
        if folder.is_dir():
            return folder
    raise JobError(f"items.image_root: no folder '{name}' in the working directory or beside the job file")


def _attachments(spec: Pipeline, beside: Path) -> dict[str, Attachment]:
    """The attachments of a pipeline on this machine, by name."""
    sources: dict[str, Source] = {f"components.{name}": each for name, each in spec.components.items()}
    sources |= {f"adapters.{number}": each for number, each in enumerate(spec.adapters)}
    return {name: attachments.resolve(name, source, beside) for name, source in sources.items()}


def _pinned(found: Attachment, source: Source) -> ResolvedComponent:
    file = source.file if found.revision is not None else None
    return ResolvedComponent(reference=found.reference, revision=found.revision, file=file, digest=found.digest)


def _worn(found: Attachment, adapter: Adapter) -> ResolvedAdapter:
    kept = {name: getattr(adapter, name) for name in ("kind", "name", "scale", "token")}
    return ResolvedAdapter(**dict(_pinned(found, adapter)), **kept)


def _check_classes(spec: Pipeline) -> None:
    """Names that this machine's diffusers does not know, said before anything is loaded or started."""
    for key, name, known in (
        ("scheduler", spec.scheduler and spec.scheduler.name, classes.schedulers()),
        ("class_name", spec.class_name, classes.pipelines()),
    ):
        if name and known and name not in known:
            raise JobError(f"pipeline.{key}: diffusers has no '{name}'{suggestion(name, known)}; correct the name")


def _check_call(job: Job, pinned: ResolvedItems) -> None:
    for name in (column for further in job.also for column in columns_of(further)):
        if name in pinned.columns:
            raise JobError(f"'{name}' is a column of a further output (also) and of the items; rename the latter")
    twice = sorted(job.call.keys() & (pinned.columns.keys() - set(pinned.metadata)))
    if twice:
        raise JobError(f"'{twice[0]}' is set in call and is a column of the items; keep one of them")
    drawn = sorted(job.noise.keys() & (job.call.keys() | pinned.columns.keys()))
    if drawn:
        raise JobError(f"'{drawn[0]}' is drawn as noise and set in call or a column of the items; keep one of them")
    if job.output in pinned.columns:
        raise JobError(f"column '{job.output}' of the items: the dataset has a column of that name itself; rename it")
