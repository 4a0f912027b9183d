"""A job's pipeline: the model, and all that is put into it or makes it fit its machine."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from reprobatch.attachments import Adapter, Component, ResolvedAdapter, ResolvedComponent
from reprobatch.settings import CLASS_NAME, Lean, Memory, Quantization, Scheduler, Speed

Dtype = Literal["float32", "float16", "bfloat16"]


class _Pipeline(Lean):
    """What a pipeline has before it is resolved and after.

    ``model`` is ``builtin:NAME``, a folder that ``save_pretrained`` wrote, or a hub id with its ``revision``: a commit,
    or a branch that is resolved to one. Weights are loaded in ``dtype``. ``scheduler`` is another than the model's
    own, a name or a mapping. ``memory`` and ``quantization`` make it fit a machine, ``speed`` makes it quicker.
    """

    added = frozenset({"class_name", "components", "adapters", "dtypes", "memory", "speed", "quantization"})

    model: str = Field(min_length=1)
    revision: str | None = Field(default=None, min_length=1)
    dtype: Dtype = "float32"
    scheduler: Scheduler | None = None
    dtypes: dict[str, Dtype] = {}
    memory: Memory = Memory()
    speed: Speed = Speed()
    quantization: Quantization | None = None

    @field_validator("scheduler", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Pipeline(_Pipeline):
    """Which pipeline: model reference, revision for hub ids, dtype, scheduler, and what is put into it.

    ``class_name`` loads the model's components into another pipeline class than its index names (image-to-image
    from a text-to-image model); ``components`` come from elsewhere, a ControlNet for instance; ``adapters`` are
    put on in their order; ``dtypes`` has components of another dtype than ``dtype``.
    """

    class_name: str | None = Field(default=None, pattern=CLASS_NAME)
    components: dict[str, Component] = {}
    adapters: list[Adapter] = []

    @field_validator("components", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"path": each} if isinstance(each, str) else each for name, each in value.items()}


class ResolvedPipeline(_Pipeline):
    """The pipeline, with its class and the digest of its weights, those of its attachments among them."""

    class_name: str
    model_digest: str
    components: dict[str, ResolvedComponent] = {}
    adapters: list[ResolvedAdapter] = []

    @property
    def attachments(self) -> dict[str, ResolvedComponent | ResolvedAdapter]:
        """What is loaded from beside the model, by its name in the job: ``components.controlnet``, ``adapters.0``."""
        found: dict[str, ResolvedComponent | ResolvedAdapter] = {}
        found |= {f"components.{name}": each for name, each in sorted(self.components.items())}
        return found | {f"adapters.{number}": each for number, each in enumerate(self.adapters)}
