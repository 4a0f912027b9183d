"""Loads a diffusers pipeline as a job says: class, components, dtypes, scheduler, adapters, what makes it fit."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from reprobatch import speed
from reprobatch.attachments import ResolvedAdapter
from reprobatch.errors import JobError, suggestion
from reprobatch.job import ResolvedJob
from reprobatch.models import read_index
from reprobatch.settings import Quantization

_TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# whatever diffusers, transformers and peft raise for files that do not fit
_MISFITS = (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError, RuntimeError)
_LOCAL = {"use_safetensors": True, "local_files_only": True}


def download(reference: str, commit: str) -> Path:
    """A hub model at a commit, as a local folder: weights as safetensors only, no code."""
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(reference, revision=commit, use_safetensors=True))
    except Exception as error:  # hub, network and diffusers errors have no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise JobError(f"could not download '{reference}' at {commit[:12]} as safetensors: {reason}") from None


def load(job: ResolvedJob, folder: Path, attached: Mapping[str, Path]) -> Any:
    """The job's pipeline, where it will run; ``attached`` says where its components and adapters lie.

    Raises :class:`JobError` where the class, the files or an option do not fit each other.
    """
    spec = job.pipeline
    cls = pipeline_class(spec.class_name)
    _register_retired(folder)
    components = {name: _component(job, name, attached[f"components.{name}"]) for name in spec.components}
    with _said(f"could not load {spec.class_name} from the model folder"):
        pipe = cls.from_pretrained(
            str(folder),
            dtype=_dtypes(job, cls),
            use_safetensors=True,
            local_files_only=True,
            **components,
            **_options(job, folder),
        )
    if spec.scheduler is not None:
        pipe.scheduler = _scheduler(job, pipe)
    _put_on(pipe, spec.adapters, [attached[f"adapters.{number}"] for number in range(len(spec.adapters))])
    pipe.set_progress_bar_config(disable=True)
    placed = _placed(job, pipe)
    with _said(f"pipeline.speed does not fit {spec.class_name}"):
        speed.up(placed, spec.speed, job.batch_size)
    return placed


def pipeline_class(name: str) -> Any:
    """A pipeline class of diffusers. Raises :class:`JobError` for a name that is none."""
    import diffusers

    _quiet()
    cls: Any = getattr(diffusers, name, None)
    if cls is None or not hasattr(cls, "load_config") or not cls.__name__.endswith("Pipeline"):
        known = [each for each in dir(diffusers) if each.endswith("Pipeline")]
        raise JobError(
            f"the pipeline class '{name}' is not in diffusers {diffusers.__version__}{suggestion(name, known)}"
        )
    return cls


def _quiet() -> None:
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


@contextmanager
def _said(what: str) -> Iterator[None]:
    """What a library raises for files that do not fit, as one line."""
    try:
        yield
    except _MISFITS as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise JobError(f"{what}: {reason}") from None


def _dtypes(job: ResolvedJob, cls: Any) -> Any:
    spec = job.pipeline
    if not spec.dtypes:
        return _TORCH_DTYPES[spec.dtype]
    known = [*inspect.signature(cls.__init__).parameters]
    for name in spec.dtypes:
        if name not in known:
            raise JobError(f"pipeline.dtypes: {cls.__name__} has no component '{name}'{suggestion(name, known)}")
    return {"default": _TORCH_DTYPES[spec.dtype], **{name: _TORCH_DTYPES[dtype] for name, dtype in spec.dtypes.items()}}


def _component(job: ResolvedJob, name: str, folder: Path) -> Any:
    """A component of its own folder, of the class that its ``config.json`` names: diffusers' or transformers'."""
    import diffusers
    import transformers

    try:
        config = json.loads((folder / "config.json").read_text())
        wanted = config.get("_class_name") or config["architectures"][0]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise JobError(f"pipeline.components.{name}: expected a config.json that names a class, found none") from None
    cls = getattr(diffusers, str(wanted), None) or getattr(transformers, str(wanted), None)
    if cls is None or not hasattr(cls, "from_pretrained"):
        raise JobError(f"pipeline.components.{name}: class '{wanted}' is in neither diffusers nor transformers")
    dtype = _TORCH_DTYPES[job.pipeline.dtypes.get(name, job.pipeline.dtype)]
    with _said(f"could not load {name} ({wanted})"):
        return cls.from_pretrained(str(folder), dtype=dtype, use_safetensors=True, local_files_only=True)


def _options(job: ResolvedJob, folder: Path) -> dict[str, Any]:
    spec, options = job.pipeline, {}
    if spec.memory.device_map is not None:
        options["device_map"] = spec.memory.device_map
    if spec.quantization is not None:
        options["quantization_config"] = _quantized(spec.quantization, read_index(folder))
    return options


def _quantized(wanted: Quantization, index: Mapping[str, Any]) -> Any:
    """A configuration a component, of the library that it is from: their classes differ in what they take."""
    import diffusers

    known = [name for name, entry in index.items() if isinstance(entry, list) and entry[0]]
    for name in wanted.components:
        if name not in known:
            raise JobError(f"pipeline.quantization: the model has no component '{name}'{suggestion(name, known)}")
    with _said(f"pipeline.quantization: {wanted.backend} cannot be set up"):
        mapping = {name: _configured(wanted, str(index[name][0])) for name in wanted.components}
        return diffusers.PipelineQuantizationConfig(quant_mapping=mapping)


def _configured(wanted: Quantization, library: str) -> Any:
    of = importlib.import_module("transformers" if library == "transformers" else "diffusers")
    settings = dict(wanted.settings)
    if wanted.backend == "torchao":
        kinds = importlib.import_module("torchao.quantization")
        return of.TorchAoConfig(getattr(kinds, str(settings.pop("quant_type")))(), **settings)
    return of.BitsAndBytesConfig(**{f"load_in_{wanted.backend[-4:]}": True, **settings})


def _put_on(pipe: Any, adapters: Sequence[ResolvedAdapter], files: Sequence[Path]) -> None:
    """Adapters in the order of the job: each kind's own, since LoRAs are weighed and IP-Adapters loaded together."""
    name = type(pipe).__name__
    worn = list(zip(adapters, files, strict=True))
    loras = [
        (adapter.name or f"adapter_{at}", adapter.scale)
        for at, adapter in enumerate(adapters)
        if adapter.kind == "lora"
    ]
    for at, (adapter, file) in enumerate(worn):
        if adapter.kind == "lora":
            with _said(f"{name} cannot load the LoRA '{adapter.reference}'"):
                pipe.load_lora_weights(
                    str(file.parent), weight_name=file.name, adapter_name=adapter.name or f"adapter_{at}", **_LOCAL
                )
        elif adapter.kind == "textual_inversion":
            with _said(f"{name} cannot load the textual inversion '{adapter.reference}'"):
                pipe.load_textual_inversion(str(file.parent), weight_name=file.name, token=adapter.token, **_LOCAL)
    if loras:
        with _said(f"{name} cannot weigh its LoRAs"):
            pipe.set_adapters([lora for lora, _ in loras], [scale for _, scale in loras])
    images = [(adapter, file) for adapter, file in worn if adapter.kind == "ip_adapter"]
    if images:
        with _said(f"{name} cannot load the IP-Adapter '{images[0][0].reference}'"):
            pipe.load_ip_adapter(
                [str(file.parent) for _, file in images],
                subfolder="",
                weight_name=[file.name for _, file in images],
                image_encoder_folder=None,  # comes as a component, with a digest of its own
                local_files_only=True,
            )
            pipe.set_ip_adapter_scale([adapter.scale for adapter, _ in images])


def _placed(job: ResolvedJob, pipe: Any) -> Any:
    """The pipeline on its device, with the options that trade time for memory."""
    memory, name = job.pipeline.memory, type(pipe).__name__
    for wanted, method in ((memory.vae_tiling, "enable_tiling"), (memory.vae_slicing, "enable_slicing")):
        if wanted:
            with _said(f"{name} has no VAE that can '{method}'"):
                getattr(pipe.vae, method)()
    if memory.attention_slicing is not None:
        if not any(hasattr(each, "set_attention_slice") for each in pipe.components.values()):
            raise JobError(f"{name} has no component whose attention can be sliced; leave attention_slicing out")
        pipe.enable_attention_slicing(memory.attention_slicing)
    if memory.device_map is not None:
        return pipe
    if memory.offload == "model":
        pipe.enable_model_cpu_offload(device=job.device)
    elif memory.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=job.device)
    else:
        pipe = pipe.to(job.device)
    return pipe


def _register_retired(folder: Path) -> None:
    """Make modules findable that diffusers itself has moved to ``deprecated``.

    An index such as UnCLIP's names its pipeline's module as the library of a component, and
    ``from_pretrained`` of 0.42 looks for it among ``diffusers.pipelines`` alone. Nothing but diffusers'
    own modules is put there, and never in the place of another.
    """
    import diffusers.pipelines as pipelines

    for entry in read_index(folder).values():
        library = entry[0] if isinstance(entry, list) and entry else None
        if not isinstance(library, str) or not library.isidentifier() or hasattr(pipelines, library):
            continue
        home = f"diffusers.pipelines.deprecated.{library}"
        if importlib.util.find_spec(home) is not None:
            setattr(pipelines, library, importlib.import_module(home))


def _scheduler(job: ResolvedJob, pipe: Any) -> Any:
    import diffusers

    wanted = job.pipeline.scheduler
    assert wanted is not None
    if getattr(pipe, "scheduler", None) is None:
        raise JobError(f"{type(pipe).__name__} has no 'scheduler' to replace; leave pipeline.scheduler out")
    cls = getattr(diffusers, wanted.name, None)
    if cls is None:
        known = [n for n in dir(diffusers) if n.endswith("Scheduler")]
        raise JobError(f"diffusers has no scheduler '{wanted.name}'{suggestion(wanted.name, known)}")
    try:
        scheduler = cls.from_config(pipe.scheduler.config, **wanted.config)
    except (ImportError, ValueError, TypeError) as error:
        raise JobError(f"{wanted.name} cannot be made from the model's scheduler: {error}") from None
    if wanted.seeded and not hasattr(scheduler, wanted.seeded):
        known = list(vars(scheduler))
        raise JobError(f"{wanted.name} has no attribute '{wanted.seeded}' to seed{suggestion(wanted.seeded, known)}")
    return scheduler
