"""Loads a diffusers pipeline and runs one batch.

Knows diffusers' conventions and nothing of datasets: keyword arguments in, one ``Output`` a slot out.
One CPU generator a slot, always exactly as many as slots: ``randn_tensor`` checks only the first
generator of a list, reads a list of one as meant for the whole batch, and drops the tail of a longer
one, all in silence.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprobatch import randomness
from reprobatch.contract import SHORT
from reprobatch.errors import JobError, suggestion
from reprobatch.export import to_uint8
from reprobatch.items import is_batched_name
from reprobatch.job import ResolvedJob
from reprobatch.models import read_index
from reprobatch.record import ITEM_SIZE, Output

_DECODERS = ("vae", "vqvae", "vqgan", "movq")
_TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Pipeline:
    """A loaded pipeline that turns batches of arguments into outputs.

    Raises :class:`JobError` where the job's scheduler, arguments or output do not fit the class.
    """

    def __init__(self, job: ResolvedJob, folder: Path) -> None:
        _quiet()
        self.job = job
        self.pipe = _load(job, folder)
        self._parameters = inspect.signature(type(self.pipe).__call__).parameters
        self._can_be_short: bool | None = None
        self._check()

    def generate(self, arguments: Sequence[dict[str, Any]], seeds: Sequence[int]) -> list[Output]:
        """One output a slot.

        ``arguments`` holds each slot's own columns, ``seeds`` its seed; both have exactly
        ``batch_size`` entries.
        """
        size = self.job.batch_size
        if not len(arguments) == len(seeds) == size:
            raise ValueError(f"expected {size} slots, found {len(arguments)} arguments and {len(seeds)} seeds")
        return self.call(arguments, seeds)[0]

    def call(
        self, arguments: Sequence[dict[str, Any]], seeds: Sequence[int], *, short: bool = False
    ) -> tuple[list[Output], list[torch.Generator]]:
        """A call of any size, and each slot's generator as the call left it.

        ``short`` asks for :data:`reprobatch.contract.SHORT` steps, for probes and canaries; the few
        schedulers that cannot do with so few (PNDM with its Runge-Kutta steps) make all of the job's.
        """
        if not short or self._can_be_short is not None:
            return self._call(arguments, seeds, short=short and bool(self._can_be_short))
        try:
            made = self._call(arguments, seeds, short=True)
        except (ValueError, IndexError, RuntimeError) as error:
            try:
                made = self._call(arguments, seeds, short=False)
            except (ValueError, IndexError, RuntimeError):
                raise error from None  # not for want of steps
            self._can_be_short = False
        else:
            self._can_be_short = True
        return made

    def _call(
        self, arguments: Sequence[dict[str, Any]], seeds: Sequence[int], *, short: bool
    ) -> tuple[list[Output], list[torch.Generator]]:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        scheduler = self.job.pipeline.scheduler
        if scheduler is not None and scheduler.seeded:
            setattr(self.pipe.scheduler, scheduler.seeded, list(seeds))
        seeding = randomness.seeded(seeds[0]) if self.job.determinism.global_seed == "batch" else nullcontext()
        with torch.no_grad(), seeding:
            result = self.pipe(**self.keywords(arguments, short=short), generator=generators)
        return _outputs(result[0], len(seeds)), generators

    def keywords(self, arguments: Sequence[dict[str, Any]], *, short: bool = False) -> dict[str, Any]:
        """The call's keyword arguments for a batch, without the generators."""
        size, items = len(arguments), self.job.items
        call: dict[str, Any] = {
            name: [value] * size if is_batched_name(name) and not isinstance(value, list) else value
            for name, value in self.job.call.items()
        }
        for name in items.columns:
            if name in items.metadata or name == "seed":
                continue
            values = [slot[name] for slot in arguments]
            if name in items.batched:
                call[name] = _complete(name, values)
            elif values[0] is not None:
                call[name] = values[0]
        if "batch_size" in self._parameters:
            call["batch_size"] = size
        if "output_type" in self._parameters:
            call["output_type"] = {"latent": "latent", "pixels": "np"}[self.job.output]
        if short:  # UnCLIP and others count the steps of each of their loops
            call |= {name: SHORT for name in self._parameters if name.endswith("num_inference_steps")}
        return call

    def decode(self, output: Output) -> np.ndarray:
        """A latent through the pipeline's VAE: uint8 (height, width, 3), as diffusers makes pictures.

        Pixels are scaled to uint8. Raises :class:`JobError` for latents of another layout than
        (channels, height, width).
        """
        if self.job.output == "pixels":
            return to_uint8(output.numpy())
        vae = getattr(self.pipe, "vae", None)
        channels = getattr(getattr(vae, "config", None), "latent_channels", None)
        if vae is None or len(output.shape) != 3 or output.shape[0] != channels:
            raise JobError(
                f"expected latents of shape ({channels}, height, width) to decode, found {list(output.shape)}; "
                "decoding is known for Stable Diffusion's layout only, use .npy or .safetensors"
            )
        latents = to_tensor(output)[None].to(vae.device, vae.dtype)
        scaled = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        with torch.no_grad():
            picture = vae.decode(scaled, return_dict=False)[0]
        return to_uint8(self.pipe.image_processor.postprocess(picture, output_type="np")[0])

    def _check(self) -> None:
        name, known = type(self.pipe).__name__, list(self._parameters)
        items = self.job.items
        if "generator" not in known:
            raise JobError(f"{name} takes no generator, so its noise cannot be seeded; it cannot be run")
        used = [*self.job.call, *(c for c in items.columns if c not in items.metadata and c != "seed")]
        for argument in used:
            if argument not in known:
                raise JobError(
                    f"{name} takes no argument '{argument}'{suggestion(argument, known)}; "
                    "correct it, or name a column that is only to be kept in items.metadata"
                )
        if self.job.output == "latent" and not any(d in self.pipe.components for d in _DECODERS):
            raise JobError(f"{name} gives no latents; set output: pixels")
        missing = {"prompt", "class_labels"} & set(known) - set(used)
        needed = [m for m in missing if self._parameters[m].default is inspect.Parameter.empty]
        if needed:
            raise JobError(f"{name} needs '{needed[0]}'; give it in call or as a column of the items")


def download(reference: str, commit: str) -> Path:
    """A hub model at a commit, as a local folder: weights as safetensors only, no code."""
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(reference, revision=commit, use_safetensors=True))
    except Exception as error:  # hub, network and diffusers errors have no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise JobError(f"could not download '{reference}' at {commit[:12]} as safetensors: {reason}") from None


def to_tensor(output: Output) -> torch.Tensor:
    """An output as a tensor of its own dtype and shape; owns its memory."""
    dtype = getattr(torch, output.dtype)
    return torch.frombuffer(bytearray(output.data), dtype=dtype).reshape(output.shape)


def _quiet() -> None:
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def _load(job: ResolvedJob, folder: Path) -> Any:
    import diffusers

    found = read_index(folder)["_class_name"]
    cls = getattr(diffusers, found, None)
    if cls is None:
        raise JobError(f"the model's pipeline class '{found}' is not in diffusers {diffusers.__version__}")
    _register_retired(folder)
    try:
        pipe = cls.from_pretrained(
            str(folder),
            dtype=_TORCH_DTYPES[job.pipeline.dtype],
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise JobError(f"could not load {found} from the model folder: {reason}") from None
    if job.pipeline.scheduler is not None:
        pipe.scheduler = _scheduler(job, pipe)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(job.device)


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


def _complete(name: str, values: list[Any]) -> list[Any]:
    if None in values:
        raise JobError(f"column '{name}': slot {values.index(None)} has no value; give every item one")
    return values


def _outputs(value: Any, size: int) -> list[Output]:
    if isinstance(value, list | tuple):
        value = torch.stack(list(value)) if torch.is_tensor(value[0]) else np.stack(value)
    if torch.is_tensor(value):
        dtype = str(value.dtype).removeprefix("torch.")
        slots = [_tensor_bytes(slot) for slot in value.detach().cpu()]
    else:
        dtype = str(value.dtype)
        slots = [slot.astype(slot.dtype.newbyteorder("<"), copy=False).tobytes() for slot in value]
    if len(slots) != size or dtype not in ITEM_SIZE:
        raise JobError(f"expected {size} outputs of a known dtype, found {len(slots)} of {dtype}")
    return [Output(dtype, tuple(value.shape[1:]), data) for data in slots]


def _tensor_bytes(slot: torch.Tensor) -> bytes:
    # numpy lacks bfloat16, so every dtype goes as bytes; a scalar has no last dimension to view
    return slot.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
