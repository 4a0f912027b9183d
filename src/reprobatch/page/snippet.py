"""The lines of plain diffusers that make an item again, as a template that the page fills for each item.

A template is a list of parts: text, or a mapping that says what stands there. ``{"seeds": true}`` is the list of the
slots' seeds and ``{"slot": true}`` the item's slot; ``{"argument": NAME, "many": BOOL}`` is a line with a keyword
argument taken from the items' column of that name, a value a slot or one for the call. The slots are those of the
item's batch, or copies of the item where the contract says that they do.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from reprobatch import determinism
from reprobatch.contract import Contract
from reprobatch.environment import STEERING
from reprobatch.items import is_batched_name
from reprobatch.job import ResolvedJob

Part = str | dict[str, Any]

_SWITCHES = {
    "deterministic_algorithms": "torch.use_deterministic_algorithms({})",
    determinism.FILLING: "torch.utils.deterministic.fill_uninitialized_memory = {}",
    "threads": "torch.set_num_threads({})",
    "cudnn.benchmark": "torch.backends.cudnn.benchmark = {}",
    "cudnn.deterministic": "torch.backends.cudnn.deterministic = {}",
    "cudnn.allow_tf32": "torch.backends.cudnn.allow_tf32 = {}",
    "matmul.allow_tf32": "torch.backends.cuda.matmul.allow_tf32 = {}",
    "matmul.fp16_reduced_precision": "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = {}",
    "matmul.bf16_reduced_precision": "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = {}",
    "mkldnn.deterministic": "torch.backends.mkldnn.deterministic = {}",
    "sdp.flash": "torch.backends.cuda.enable_flash_sdp({})",
    "sdp.cudnn": "torch.backends.cuda.enable_cudnn_sdp({})",
    "sdp.efficient": "torch.backends.cuda.enable_mem_efficient_sdp({})",
    "sdp.math": "torch.backends.cuda.enable_math_sdp({})",
}
_AS_SETTINGS = {"tf32", "unfilled_memory"}  # of ``pipeline.speed``: those that are among the switches
_ON_GPUS = ("cudnn.", "matmul.", "sdp.")


@dataclass(frozen=True)
class Snippet:
    """A template, or ``why`` there is none; ``alone`` says whether copies of an item give its bits."""

    parts: list[Part]
    alone: bool
    why: str | None = None


def template(job: ResolvedJob, contract: Contract | None) -> Snippet:
    """The template of a job; loads diffusers, whose pipeline class says what its call takes."""
    why = _beyond(job)
    parameters = None if why else _parameters(job.pipeline.class_name)
    if why is None and parameters is None:
        why = f"diffusers here has no {job.pipeline.class_name}"
    if why is not None or parameters is None:
        return Snippet([], False, why)
    alone = contract is not None and contract.stands_alone is True
    parts: list[Part] = [*_settings(job), *_loading(job), *_call(job, _form(contract), parameters), *_told(job)]
    return Snippet(parts, alone)


def _beyond(job: ResolvedJob) -> str | None:
    """What about a job is more than a few lines can say."""
    spec = job.pipeline
    beyond = {
        "it has adapters": bool(spec.adapters),
        "components of its pipeline come from elsewhere": bool(spec.components),
        "its weights are quantised": spec.quantization is not None,
        "its pipeline is fitted into memory": bool(spec.memory.model_dump(exclude_defaults=True)),
        "its pipeline is made quicker": bool(spec.speed.model_dump(exclude_defaults=True, exclude=_AS_SETTINGS)),
        "its items have pictures or tensors as inputs": bool(job.items.inputs),
        "it seeds the global generators": job.determinism.global_seed != "none",
    }
    return next((said for said, holds in beyond.items() if holds), None)


def _parameters(class_name: str) -> set[str] | None:
    try:
        import diffusers
        import transformers.utils.logging

        transformers.utils.logging.set_verbosity_error()  # what it says of parts that nobody uses here
        return set(inspect.signature(getattr(diffusers, class_name).__call__).parameters)
    except Exception:  # an import of diffusers may raise anything; a class may be of another version
        return None


def _form(contract: Contract | None) -> str:
    """How the pipeline has to be called, which a probe has found out."""
    notes = contract.notes if contract else []
    forms = ("one generator", "single values")
    return next((form for form in forms for note in notes if note.startswith(f"called with {form} ")), "lists")


def _settings(job: ResolvedJob) -> list[str]:
    threads, gpu = job.workers.threads, job.device == "cuda"
    found = determinism.variables(job.determinism, threads)
    read = {name: value for name, value in found.items() if name in STEERING and not name.endswith("_NUM_THREADS")}
    lines = ["import hashlib"]
    if gpu or job.determinism.profile == "portable":
        lines += ["import os", "", f"os.environ |= {read!r}  # before torch and numpy are imported", ""]
    names = ", ".join(sorted({job.pipeline.class_name, *([s.name] if (s := job.pipeline.scheduler) else [])}))
    lines += ["import torch", f"from diffusers import {names}"]
    lines += ["from reprobatch import models"] if job.pipeline.model.startswith("builtin:") else []
    switches = determinism.strict_settings(threads, job.device, job.pipeline.speed)
    if not job.pipeline.speed.unfilled_memory:
        del switches[determinism.FILLING]  # torch fills by itself
    lines += ["", *(_SWITCHES[n].format(v) for n, v in switches.items() if gpu or not n.startswith(_ON_GPUS)), ""]
    return ["".join(f"{line}\n" for line in lines)]


def _loading(job: ResolvedJob) -> list[str]:
    spec = job.pipeline
    dtypes = {"default": spec.dtype, **spec.dtypes}
    dtype = ", ".join(f"{name!r}: torch.{each}" for name, each in dtypes.items())
    given = f"dtype={'{' + dtype + '}' if spec.dtypes else f'torch.{spec.dtype}'}, use_safetensors=True"
    if spec.model.startswith("builtin:"):
        model = f"models.resolve({spec.model!r}).folder  # it ships with reprobatch"
    elif spec.revision is not None:
        model, given = repr(spec.model), f"revision={spec.revision!r}, {given}"
    else:
        model = f"{spec.model.removeprefix('folder:')!r}  # the path of this folder on your machine"
    lines = [f"model = {model}", f"pipe = {spec.class_name}.from_pretrained(", f"    model, {given}", ")"]
    if spec.scheduler is not None:
        # as a literal: the names come from a file, and these lines are to be run
        config = f", **{spec.scheduler.config!r}" if spec.scheduler.config else ""
        lines.append(f"pipe.scheduler = {spec.scheduler.name}.from_config(pipe.scheduler.config{config})")
    if job.device == "cuda":
        lines.append('pipe.to("cuda")')
    return ["".join(f"{line}\n" for line in lines)]


def _call(job: ResolvedJob, form: str, parameters: set[str]) -> list[Part]:
    size, items, seeded = job.batch_size, job.items, job.pipeline.scheduler and job.pipeline.scheduler.seeded
    single = form == "single values"
    lines: list[Part] = ["seeds = ", {"seeds": True}, "\n"]
    lines.append('generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]\n')
    if seeded:
        lines.append(f"pipe.scheduler.{seeded} = seeds\n")
    for name, shape in sorted(job.noise.items()):
        drawn = f"torch.stack([torch.randn({shape}, generator=g) for g in generators])"
        lines.append(f'{name} = {drawn}.to("{job.device}", torch.{job.pipeline.dtype})\n')
    lines.append("with torch.no_grad():\n    made = pipe(\n")
    for name, value in job.call.items():
        many = is_batched_name(name) and not isinstance(value, list) and not single
        lines.append(f"        {name}={f'[{value!r}] * {size}' if many else repr(value)},\n")
    lines += [f"        {name}={name},\n" for name in sorted(job.noise)]
    own = [name for name in items.columns if name not in items.metadata and name != "seed"]
    lines += [{"argument": name, "many": name in items.batched and not single} for name in own]
    fixed = {
        "generator": "generators" if form == "lists" else "generators[0]",
        "batch_size": str(size),
        "output_type": '"latent"' if job.output == "latent" else '"np"',
    }
    lines += [f"        {name}={value},\n" for name, value in fixed.items() if name in parameters]
    return [*lines, "    )\n"]


def _told(job: ResolvedJob) -> list[Part]:
    chosen = "made[0]" if job.output in ("latent", "pixels") else f"made[{job.output!r}]"
    covers = "  # the item's checksum covers its further outputs too" if job.also else ""
    return [
        f"item = torch.as_tensor({chosen}[",
        {"slot": True},
        "]).cpu()\n"
        "head = f\"{str(item.dtype)[6:]}\\n{','.join(map(str, item.shape))}\\n\".encode()\n"
        "data = item.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()\n"
        f"print(hashlib.sha256(head + data).hexdigest()){covers}\n",
    ]
