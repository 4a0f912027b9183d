"""The job: what to generate, as a person writes it and as it is kept.

``Job`` is the YAML file, validated. ``ResolvedJob`` is the same with everything that decides the bits
pinned: the model's digest, the hub commit, the item file's SHA-256, the pipeline's class. Its canonical
JSON is ``job.json``, and that text's SHA-256 is the *job digest*. No path of one machine is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ByteSize,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from reprobatch import canonical, classes, findings, jobfile
from reprobatch.errors import JobError, suggestion
from reprobatch.jobitems import RESERVED_COLUMNS, Items, ResolvedItems, check_argument
from reprobatch.jobpipeline import Pipeline, ResolvedPipeline
from reprobatch.settings import (
    ATTRIBUTE_NAME,
    BACKEND_NAME,
    CLASS_NAME,
    FIELD_NAME,
    SCHEDULER_NAME,
    Determinism,
    Lean,
    Memory,
    Operation,
    Tolerance,
    Workers,
)

_COLUMNS = {"latent": "latents", "pixels": "pixels"}  # of the outputs that are no field of an output class

_NAME = r"^[\w][\w.-]{0,99}$"
_PATTERNS = {
    _NAME: "expected up to 100 letters, digits and, after the first, any of _ . -",
    SCHEDULER_NAME: "expected the name of a diffusers scheduler class, such as DDIMScheduler",
    ATTRIBUTE_NAME: "expected the name of an attribute, such as noise_sampler_seed",
    BACKEND_NAME: "expected the name of an attention backend of diffusers, such as native or flash",
    CLASS_NAME: "expected the name of a class of diffusers or transformers",
    FIELD_NAME: "expected latent, pixels or a field of the pipeline's output class, such as audios",
}
_KNOWN = {SCHEDULER_NAME: classes.schedulers, CLASS_NAME: classes.pipelines}
_SHORTHANDS = {"pipeline.scheduler": "name", "determinism": "profile"}

_Model = TypeVar("_Model", bound=BaseModel)


class Common(Lean):
    """What a job has before it is resolved and after, unchanged.

    ``name`` is for people. Every item's seed follows from ``master_seed`` and its index. ``call`` has the keyword
    arguments of every pipeline call. ``batch_size`` items are one call, and ``shard_size`` items one file and one
    unit of work; the larger is a multiple of the smaller. ``environments: many`` takes workers that compute other
    bits than the first, and records which made each shard. ``workers``, ``determinism`` and ``tolerance`` have
    sections of their own; ``determinism`` may be the name of a profile.

    ``output`` is ``latent``, ``pixels``, or a field of the pipeline's own output class, such as ``audios``;
    ``also`` names further outputs of an item: fields of that class, or ``decoded``, the picture that latents
    are decoded to in the same pass. ``noise`` names call arguments that are drawn from each slot's generator,
    standard normal, and their shapes.
    """

    added = frozenset({"also", "noise"})

    name: str = Field(pattern=_NAME)
    master_seed: int = Field(ge=0)
    call: dict[str, JsonValue] = {}
    noise: dict[str, list[Annotated[int, Field(ge=1)]]] = {}
    output: str = Field(default="latent", pattern=FIELD_NAME)
    also: list[Annotated[str, Field(pattern=FIELD_NAME)]] = []
    batch_size: int = Field(ge=1, le=32767)
    shard_size: int = Field(ge=1)
    workers: Workers = Workers()
    determinism: Determinism = Determinism()
    environments: Literal["one", "many"] = "one"
    tolerance: Tolerance = Tolerance()

    @field_validator("determinism", mode="before")
    @classmethod
    def _profile(cls, value: Any) -> Any:
        return {"profile": value} if isinstance(value, str) else value

    @field_validator("call", "noise")
    @classmethod
    def _arguments(cls, call: dict[str, Any]) -> dict[str, Any]:
        for name in call:
            check_argument(name)
        return call

    @field_validator("output")
    @classmethod
    def _own_column(cls, output: str) -> str:
        if output in RESERVED_COLUMNS - {"pixels"} or output == "seed":
            raise ValueError(f"expected latent, pixels or a field of the output class{suggestion(output, _COLUMNS)}")
        return output

    @model_validator(mode="after")
    def _further_outputs(self) -> Common:
        own = {self.output, *_COLUMNS, "seed", *RESERVED_COLUMNS}
        for at, name in enumerate(self.also):
            if name in own or name in self.also[:at]:
                raise ValueError(f"also: expected further outputs, each once, found '{name}'; leave it out")
        if "decoded" in self.also and self.output != "latent":
            raise ValueError(f"also: decoded is of latents, found output: {self.output}; set output: latent")
        return self

    @model_validator(mode="after")
    def _gpus_for_what_needs_them(self) -> Common:
        memory = self.pipeline.memory if isinstance(self, Job | ResolvedJob) else Memory()
        if (memory.offload or memory.device_map) and not self.workers.gpus:
            wanted = "offload" if memory.offload else "device_map"
            raise ValueError(f"pipeline.memory.{wanted} needs a GPU, found workers.gpus 0; give GPUs or leave it out")
        return self

    @model_validator(mode="after")
    def _whole_batches(self) -> Common:
        below = self.shard_size - self.shard_size % self.batch_size
        if below != self.shard_size:
            near = f"{below} or {below + self.batch_size}" if below else f"{self.batch_size}"
            raise ValueError(
                f"shard_size {self.shard_size} must be a multiple of batch_size {self.batch_size}, so that "
                f"batches do not depend on where shards end; use {near}"
            )
        return self


class Job(Common):
    """A job as its author writes it; see ``jobs/`` for examples.

    ``pipeline``, ``items`` and ``operation`` have sections of their own.
    ``shard_bytes`` (a number, or text such as ``512MiB``) limits a shard by the bytes of its outputs: the
    resolved job's ``shard_size`` is lowered to what fits.
    """

    pipeline: Pipeline
    items: Items
    shard_bytes: int | None = Field(default=None, ge=1)
    operation: Operation = Operation()

    @field_validator("shard_bytes", mode="before")
    @classmethod
    def _with_unit(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return int(TypeAdapter(ByteSize).validate_python(value))
        except ValidationError:
            raise ValueError("expected bytes, such as 512MiB or 2GB") from None

    @classmethod
    def load(cls, path: Path | str, overrides: list[str] | None = None) -> Job:
        """Read a job file (YAML 1.2) and lay ``key.sub=value`` overrides over it.

        Raises :class:`JobError`, in one line, for a file that cannot be read, is no YAML, has a
        duplicate or unknown key, or a value out of range.
        """
        data = jobfile.read(Path(path))
        if isinstance(data, dict) and overrides:
            data = jobfile.plain(data)
            for override in overrides:
                jobfile.override(data, override, _SHORTHANDS)
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: Any, origin: str = "job") -> Job:
        """Validate a plain dictionary; ``origin`` names it in errors."""
        return validated(cls, data, origin)


class ResolvedJob(Common):
    """A job in which everything that decides the bits is pinned; what ``job.json`` holds."""

    format: Literal["reprobatch-job/1"] = "reprobatch-job/1"
    seed_scheme: Literal["permute32-v1"] = "permute32-v1"
    pipeline: ResolvedPipeline
    items: ResolvedItems

    @classmethod
    def from_json(cls, text: str, origin: str = "job.json") -> ResolvedJob:
        """Read ``job.json`` back; raises :class:`JobError` where it is none."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise JobError(f"{origin}: expected JSON, found other text ({error})") from None
        return validated(cls, data, origin)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.model_dump(mode="json")

    @property
    def canonical(self) -> str:
        """Canonical JSON, without a newline at its end."""
        return canonical.dumps(self.as_dict())

    @cached_property
    def digest(self) -> str:
        """The job digest: SHA-256 of :attr:`canonical`, hex."""
        return canonical.digest(self.as_dict())

    @property
    def column(self) -> str:
        """Name of the dataset column that holds the output's bytes."""
        return _COLUMNS.get(self.output, self.output)

    @property
    def device(self) -> str:
        """``cuda`` where a worker has GPUs, else ``cpu``."""
        return "cuda" if self.workers.gpus else "cpu"


def validated(cls: type[_Model], data: Any, origin: str, patterns: Mapping[str, str] | None = None) -> _Model:
    """Plain data as a model; raises :class:`JobError`, in one line that begins with ``origin``, where it is none.

    ``patterns`` says in words what a model's own patterns expect, besides those of a job.
    """
    if not isinstance(data, dict):
        raise JobError(f"{origin}: expected a mapping of keys such as 'name' and 'pipeline', found {_kind(data)}")
    try:
        return cls.model_validate(jobfile.plain(data))
    except ValidationError as error:
        known = {**_PATTERNS, **(patterns or {})}
        raise JobError(f"{origin}: {findings.in_a_line(error, cls, known, _KNOWN)}") from None
    except JobError as error:
        raise JobError(f"{origin}: {error}") from None


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "text", int: "a number", float: "a number", bool: "a boolean"}
    return "nothing" if value is None else kinds.get(type(value), f"a {type(value).__name__}")
