"""Loads a diffusers pipeline and runs one batch.

Knows diffusers' conventions and nothing of datasets: keyword arguments in, one ``Output`` a slot out.
One CPU generator a slot, always exactly as many as slots: ``randn_tensor`` checks only the first
generator of a list, reads a list of one as meant for the whole batch, and drops the tail of a longer
one, all in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from reprobatch import randomness
from reprobatch.contract import SHORT
from reprobatch.errors import JobError, suggestion
from reprobatch.inputs import KINDS
from reprobatch.items import is_batched_name
from reprobatch.job import ResolvedJob
from reprobatch.loading import load
from reprobatch.media import as_argument
from reprobatch.outputs import OtherCount, by_slot, chosen, of_picture, to_tensor
from reprobatch.pictures import to_uint8
from reprobatch.record import DECODED, Output

__all__ = ["Pipeline", "to_tensor"]

_DECODERS = ("vae", "vqvae", "vqgan", "movq")
# what pipelines raise that cannot take what they were given
_REFUSALS = (
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    RuntimeError,
    AssertionError,
    NotImplementedError,
    OtherCount,
)
Form = Literal["lists", "one generator", "single values"]
_FORMS: tuple[Form, ...] = ("lists", "one generator", "single values")


class Pipeline:
    """A loaded pipeline that turns batches of arguments into outputs.

    Raises :class:`JobError` where the job's scheduler, arguments or output do not fit the class.
    """

    def __init__(self, job: ResolvedJob, folder: Path, attached: Mapping[str, Path] | None = None) -> None:
        self.job = job
        self.pipe = load(job, folder, attached or {})
        self._parameters = inspect.signature(type(self.pipe).__call__).parameters
        self._can_be_short: bool | None = None
        self._form: Form | None = None
        self.notes: list[str] = []  # on how the pipeline has to be called, and why
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
        """A call in the form that this pipeline takes, which the first call finds.

        Lists of arguments and generators first; for a batch of one then a bare generator and bare values, which
        some pipelines insist on. Raises :class:`JobError` for one that takes a batch of one only.
        """
        call = self.keywords(arguments, short=short)
        if self._form is not None:
            return self._made(call, seeds, self._form if len(seeds) == 1 else "lists")
        refused: Exception | None = None
        for form in _FORMS if len(seeds) == 1 else _FORMS[:1]:
            try:
                made = self._made(call, seeds, form)
            except torch.OutOfMemoryError:
                raise
            except _REFUSALS as error:
                refused = refused or error
            else:
                self._form = form
                if refused is not None:
                    self.notes.append(f"called with {form} instead of lists, which it refuses ({_line(refused)})")
                return made
        assert refused is not None
        one_by_one = (self._takes_one([a], [s], short=short) for a, s in zip(arguments, seeds, strict=True))
        if len(seeds) > 1 and all(one_by_one):  # not for the sake of one item that fails by itself
            raise JobError(
                f"{type(self.pipe).__name__} refuses a batch of {len(seeds)} ({_line(refused)}) and takes one item a "
                "call; set batch_size: 1"
            )
        raise refused

    def _takes_one(self, arguments: Sequence[dict[str, Any]], seeds: Sequence[int], *, short: bool) -> bool:
        for form in _FORMS:
            try:
                self._made(self.keywords(arguments, short=short), seeds, form)
            except _REFUSALS:
                continue
            return True
        return False

    def _made(
        self, call: dict[str, Any], seeds: Sequence[int], form: Form
    ) -> tuple[list[Output], list[torch.Generator]]:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        scheduler = self.job.pipeline.scheduler
        if scheduler is not None and scheduler.seeded:
            setattr(self.pipe.scheduler, scheduler.seeded, list(seeds))
        call = call | self._noise(generators)
        if "generator" in self._parameters:
            call["generator"] = generators if form == "lists" else generators[0]
        if form == "single values":
            call = {
                name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in call.items()
            }
        seeding = randomness.seeded(seeds[0]) if self.job.determinism.global_seed == "batch" else nullcontext()
        # keeps less of what it computes than no_grad; torchao's tensors are not made for it
        ungraded = torch.no_grad if self.job.pipeline.quantization else torch.inference_mode
        with ungraded(), seeding:
            result = self.pipe(**call)
        return self._with_further(result, len(seeds)), generators

    def _with_further(self, result: Any, size: int) -> list[Output]:
        """The outputs of a call, with those that the job asks for besides."""
        name = type(self.pipe).__name__
        made = by_slot(chosen(result, self.job.output, name), size)
        further = {
            wanted: [of_picture(self.decode(output)) for output in made]
            if wanted == DECODED
            else by_slot(chosen(result, wanted, name), size)
            for wanted in self.job.also
        }
        return [
            replace(output, also={wanted: each[slot] for wanted, each in further.items()}) if further else output
            for slot, output in enumerate(made)
        ]

    def _inputs(self, name: str, values: list[Any]) -> dict[str, Any]:
        """An argument of pictures (a list) or tensors (stacked, numbers that are not whole in the job's dtype)."""
        items = self.job.items
        shared = name not in items.batched
        if shared and values[0] is None:
            return {}
        given: list[Any] = [as_argument(value, self._dtype, self.job.device) for value in _complete(name, values)]
        if shared:
            return {name: [given[0]]}  # an IP-Adapter's: a list with a picture an adapter
        return {name: given if items.columns[name] == "image" else torch.stack(given)}

    def _noise(self, generators: Sequence[torch.Generator]) -> dict[str, torch.Tensor]:
        """The arguments that the job has drawn as noise: standard normal, each slot's from its own generator."""
        return {
            name: torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.job.device, self._dtype)
            for name, shape in sorted(self.job.noise.items())
        }

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
            if items.columns[name] in KINDS:
                call |= self._inputs(name, values)
            elif name in items.batched:
                call[name] = _complete(name, values)
            elif values[0] is not None:
                call[name] = values[0]
        if "batch_size" in self._parameters:
            call["batch_size"] = size
        if "output_type" in self._parameters:
            call["output_type"] = "latent" if self.job.output == "latent" else "np"
        if short:  # UnCLIP and others count the steps of each of their loops
            call |= {name: SHORT for name in self._parameters if name.endswith("num_inference_steps")}
        return call

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.job.pipeline.dtype)
        return dtype

    def decode(self, output: Output) -> np.ndarray:
        """A latent through the pipeline's VAE: uint8 (height, width, 3), as diffusers makes pictures.

        Pixels are scaled to uint8. Raises :class:`JobError` for latents of another layout than
        (channels, height, width).
        """
        return self.decode_all([output])[0]

    def decode_all(self, outputs: Sequence[Output]) -> list[np.ndarray]:
        """Outputs of one shape as pictures, latents in one call of the VAE.

        That is quicker than one at a time, and a value here and there differs by 1 from what :meth:`decode` gives.
        """
        if self.job.output != "latent":
            return [to_uint8(output.numpy()) for output in outputs]
        output = outputs[0]
        vae = getattr(self.pipe, "vae", None)
        channels = getattr(getattr(vae, "config", None), "latent_channels", None)
        if vae is None or len(output.shape) != 3 or output.shape[0] != channels:
            raise JobError(
                f"expected latents of shape ({channels}, height, width) to decode, found {list(output.shape)}; "
                "decoding is known for Stable Diffusion's layout only, use .npy or .safetensors"
            )
        latents = torch.stack([to_tensor(each) for each in outputs]).to(
            self.pipe._execution_device, vae.dtype
        )  # vae.device may be the host
        scaled = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        with torch.no_grad():
            made = vae.decode(scaled, return_dict=False)[0]
        return [to_uint8(each) for each in self.pipe.image_processor.postprocess(made, output_type="np")]

    def sampling_rate(self) -> int:
        """Samples a second of the sound that the pipeline gives. Raises :class:`JobError` where it says none."""
        for name in ("vocoder", "vae"):
            rate = getattr(getattr(self.pipe.components.get(name), "config", None), "sampling_rate", None)
            if isinstance(rate, int) and self.job.output not in ("latent", "pixels"):
                return rate
        raise JobError(f"{self.job.output} of {type(self.pipe).__name__}: no sound with a sampling rate; use .npy")

    def _check(self) -> None:
        name, known = type(self.pipe).__name__, list(self._parameters)
        items = self.job.items
        if "generator" not in known and not self.job.noise:
            raise JobError(f"{name} takes no generator, so its noise cannot be seeded; it cannot be run")
        used = [*self.job.call, *self.job.noise, *(c for c in items.columns if c not in items.metadata and c != "seed")]
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


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _complete(name: str, values: list[Any]) -> list[Any]:
    if None in values:
        raise JobError(f"column '{name}': slot {values.index(None)} has no value; give every item one")
    return values
