"""Parts of a job that say how it is run: scheduler, workers, determinism, tolerance."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

SCHEDULER_NAME = r"^[A-Za-z]\w*Scheduler$"
ATTRIBUTE_NAME = r"^[a-z][a-z0-9_]{0,99}$"
CLASS_NAME = r"^[A-Za-z]\w{0,99}$"
BACKEND_NAME = r"^[a-z_][a-z0-9_]{0,99}$"
FIELD_NAME = r"^[a-z][a-z0-9_]{0,63}$"


class Strict(BaseModel):
    """Unknown keys are refused, types are not coerced, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Lean(Strict):
    """Keys named in ``added`` stay out of the JSON while they are at their defaults.

    A digest is over the JSON: with a key more, every job would be another one, also those that do not use it.
    """

    added: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _lean(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        kept: dict[str, Any] = serialize(self)
        for name in self.added & fields.keys():
            if getattr(self, name) == fields[name].get_default(call_default_factory=True):
                kept.pop(name, None)
        return kept


class Scheduler(Strict):
    """A diffusers scheduler class, made ``from_config`` of the model's own, with ``config`` on top.

    ``name`` is that of the class. ``seeded`` names an attribute that is given the seeds of the batch's slots, as a
    list, before every call: for schedulers with noise of their own, such as ``noise_sampler_seed`` of
    ``DPMSolverSDEScheduler``.
    """

    name: str = Field(pattern=SCHEDULER_NAME)
    config: dict[str, JsonValue] = {}
    seeded: str | None = Field(default=None, pattern=ATTRIBUTE_NAME)


class Workers(Strict):
    """What one worker takes: ``cpus`` and ``gpus`` (fractions allowed) and torch ``threads``.

    The thread count changes the bits, so it is the job's, never the machine's.
    """

    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    threads: int = Field(default=1, ge=1, le=1024)

    @field_validator("cpus", "gpus")
    @classmethod
    def _placeable(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("expected a fraction below 1 or a whole number, as Ray shares a CPU or GPU out")
        return value


class Memory(Strict):
    """What makes a pipeline fit its machine; each may change the bits, so each is the job's.

    ``vae_tiling`` and ``vae_slicing`` decode in parts, ``attention_slicing`` computes attention in parts (of this
    size, ``auto`` or ``max``). ``offload`` keeps components (``model``) or single layers (``sequential``) in main
    memory until they are needed, ``device_map`` spreads components over a worker's GPUs; both need GPUs.
    """

    vae_tiling: bool = False
    vae_slicing: bool = False
    attention_slicing: str | int | None = None
    offload: Literal["model", "sequential"] | None = None
    device_map: Literal["balanced"] | None = None

    @field_validator("attention_slicing", mode="before")
    @classmethod
    def _slices(cls, value: Any) -> Any:
        if value in (None, "auto", "max") or (type(value) is int and value >= 1):
            return value
        raise ValueError("expected auto, max or a whole number of at least 1")

    @model_validator(mode="after")
    def _one_placement(self) -> Memory:
        if self.offload and self.device_map:
            raise ValueError(
                "expected one of 'offload' and 'device_map', found both; each decides where components lie"
            )
        return self


class Speed(Lean):
    """What makes a pipeline quicker; each may change the bits, so each is the job's and is measured.

    ``channels_last`` lays convolutions' weights out that way, ``compile`` names components for ``torch.compile``,
    ``attention`` is one of diffusers' attention backends (``native``, ``_native_math``, ``flash`` …) for its
    transformers, ``tf32`` lets NVIDIA GPUs round what float32 products are made of, and ``encode_once`` has each
    distinct prompt encoded once, in a batch of its copies, instead of once an item. ``unfilled_memory`` leaves
    memory as it is that nothing has written yet, where deterministic algorithms have torch fill it with NaN; a
    call with filled memory has to give the same bits.
    """

    added: ClassVar[frozenset[str]] = frozenset({"unfilled_memory"})

    channels_last: bool = False
    compile: list[str] = []
    attention: str | None = Field(default=None, pattern=BACKEND_NAME)
    tf32: bool = False
    encode_once: bool = False
    unfilled_memory: bool = False


class Quantization(Strict):
    """``components`` whose weights are quantised while they are loaded, by one of diffusers' backends.

    ``backend`` is one of those of ``PipelineQuantizationConfig``.

    ``settings`` go to the backend's own configuration; torchao's ``quant_type`` is the name of a configuration
    class of ``torchao.quantization``, made with its defaults.
    """

    backend: Literal["bitsandbytes_4bit", "bitsandbytes_8bit", "torchao"]
    components: list[str] = Field(min_length=1)
    settings: dict[str, JsonValue] = {}


class Determinism(Strict):
    """The settings ``profile``, and cuBLAS's workspace, ``cublas_workspace`` (``:16:8`` is the diffusers guide's).

    ``global_seed: batch`` is for pipelines that draw from the global generators, which a run refuses
    otherwise: these are seeded from the batch's first item before every call. Such a batch can be
    replayed; its items then depend on that first one.
    """

    profile: Literal["strict", "portable"] = "strict"
    cublas_workspace: Literal[":16:8", ":4096:8"] = ":16:8"
    global_seed: Literal["none", "batch"] = "none"


class Tolerance(Strict):
    """What ``compare`` lets pass as *within*: ``|a - b| <= atol + rtol * |a|``, with ``atol`` and ``rtol``."""

    atol: float = Field(default=0.0, ge=0)
    rtol: float = Field(default=0.0, ge=0)


class Operation(Strict):
    """How a run is carried out. No part of the dataset's identity: may differ from one run to the next.

    ``min_workers`` are asked for even where there is no room yet (a cluster that scales grows by what is
    asked of it), ``max_workers`` is the most at once; a shard is tried ``attempts`` times; a pipeline
    call may take ``batch_seconds``. ``start_seconds`` is how long a run waits for a first process to come up,
    and how long a process may take to load the pipeline, or to answer the probes.
    """

    min_workers: int = Field(default=1, ge=1)
    max_workers: int | None = Field(default=None, ge=1)
    attempts: int = Field(default=3, ge=1)
    batch_seconds: float | None = Field(default=None, gt=0)
    start_seconds: float = Field(default=600.0, gt=0)
