"""What can be known of a model before its weights are loaded: its class, its call, what it gives, how large it is."""

from __future__ import annotations

import inspect
import math
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from reprobatch import hub, models
from reprobatch.estimate import config, output_bytes
from reprobatch.loading import pipeline_class
from reprobatch.record import ITEM_SIZE

NOTHING: Any = inspect.Parameter.empty
"""The default of an argument that has none."""
_WEIGHTS = re.compile(r"(model|diffusion_pytorch_model)(-\d+-of-\d+)?\.safetensors")  # not those of a variant
_GUIDED = 2  # rows of an item that guidance has the network compute
_DENOISE, _DECODE = 64, 16  # tensors of the widest place that are there at once; rough: frameworks differ


@dataclass(frozen=True)
class Room:
    """Memory at hand, in bytes, and what it belongs to: ``GPU`` or ``RAM``; CPUs of this machine."""

    size: int
    kind: str
    cpus: int


@dataclass(frozen=True)
class Survey:
    """A model, as far as its files and its class tell.

    ``arguments`` has the call's defaults by name; ``field`` is that of the output class (``images``, ``frames``,
    ``audios``), ``latent`` says whether the class can give latents. ``labels`` is the number of class labels where it
    is made for them. ``parameters`` are counted by dtype. ``activations`` are numbers an item keeps in memory at once,
    a rough estimate, and ``item_bytes`` the bytes of its output in float32; both for latents where ``latent``, and
    ``None`` where the configuration does not say.
    """

    model: str
    revision: str | None
    class_name: str
    arguments: dict[str, Any]
    field: str | None
    latent: bool
    labels: int | None
    parameters: dict[str, int]
    activations: int | None = None
    item_bytes: int | None = None

    def weights(self, dtype: str) -> int:
        """Bytes of the weights once they are loaded in a dtype."""
        return sum(self.parameters.values()) * ITEM_SIZE[dtype]

    @property
    def stored(self) -> str:
        """The dtype that most parameters are stored in."""
        return max(self.parameters, key=lambda name: self.parameters[name], default="float32")


def survey(reference: str, revision: str | None = None) -> Survey:
    """Look at a model: ``builtin:NAME``, a folder, or a hub id (its configurations are downloaded, no weights).

    Raises :class:`JobError` where there is none, for a model that brings its own code, and for a class that
    diffusers does not have.
    """
    folder, commit = _look(reference, revision)
    name = models.read_index(folder)["_class_name"]
    cls = pipeline_class(name)
    source = inspect.getsource(cls.__call__)
    arguments = {
        each: parameter.default
        for each, parameter in inspect.signature(cls.__call__).parameters.items()
        if each != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    fields = re.findall(r"return \w+\((\w+)=", source)
    decoded = any(config(folder, part) for part in ("vae", "vqvae", "movq", "vqgan"))
    made = Survey(
        model=reference,
        revision=commit,
        class_name=name,
        arguments=arguments,
        field=fields[0] if fields else None,
        latent=decoded and bool(re.search(r"""output_type\s*[!=]=\s*["']latent["']""", source)),
        labels=_labels(arguments, folder),
        parameters=_parameters(folder) if commit is None else hub.parameters(reference, commit, is_loaded),
    )
    return _sized(made, folder)


def room() -> Room:
    """The memory of the first GPU, or of the machine where it has none."""
    import torch

    cpus = os.cpu_count() or 1
    if torch.cuda.is_available():
        return Room(torch.cuda.get_device_properties(0).total_memory, "GPU", cpus)
    return Room(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "RAM", cpus)


def is_loaded(name: str) -> bool:
    """Whether ``from_pretrained`` loads a file: one of weights, and not of another variant."""
    return bool(_WEIGHTS.fullmatch(Path(name).name))


def _look(reference: str, revision: str | None) -> tuple[Path, str | None]:
    """A folder with the model's configurations, and the commit where it is on the hub."""
    if hub.is_id(reference) and not Path(reference).expanduser().is_dir():
        commit = hub.commit_of(reference, revision or "main")
        return hub.download_configurations(reference, commit), commit
    return models.folder_of(reference, revision), None


def _labels(arguments: dict[str, Any], folder: Path) -> int | None:
    if "class_labels" not in arguments:
        return None
    net = config(folder, "transformer") or config(folder, "unet")
    found = net.get("num_embeds_ada_norm") or net.get("num_class_embeds")
    return int(found) if found else None


def _parameters(folder: Path) -> dict[str, int]:
    found: Counter[str] = Counter()
    for path in (*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")):  # some old models are flat
        if is_loaded(path.name):
            with safe_open(path, framework="numpy") as file:  # reads the header, and maps the rest
                for key in file.keys():  # noqa: SIM118  it is no mapping
                    part = file.get_slice(key)
                    found[hub.DTYPES.get(part.get_dtype(), "float32")] += math.prod(part.get_shape())
    return dict(found)


def _sized(made: Survey, folder: Path) -> Survey:
    def argument(name: str) -> int | None:
        value = made.arguments.get(name)
        return value if type(value) is int else None

    latents = output_bytes("latent", "float32", argument, folder)
    pixels = output_bytes("pixels", "float32", argument, folder)
    net, vae = config(folder, "unet") or config(folder, "transformer"), config(folder, "vae")
    wide = _widest(net)
    inside = net.get("in_channels")
    if latents is None or pixels is None or wide is None or not inside:
        return replace(made, item_bytes=latents if made.latent else pixels)
    patch = net.get("patch_size") or 1
    tokens = latents // 4 // inside // (math.prod(patch) if isinstance(patch, list) else patch**2)
    needed = _GUIDED * _DENOISE * tokens * wide
    if vae and not made.latent:
        needed = max(needed, _DECODE * pixels // 4 // 3 * vae.get("block_out_channels", [128])[0])
    return replace(made, activations=needed, item_bytes=latents if made.latent else pixels)


def _widest(net: dict[str, Any]) -> int | None:
    """Channels where the network is widest in bytes: at its outermost block, or between a transformer's."""
    if net.get("block_out_channels"):
        return int(net["block_out_channels"][0])
    heads, each = net.get("num_attention_heads"), net.get("attention_head_dim")
    return heads * each if isinstance(heads, int) and isinstance(each, int) else None
