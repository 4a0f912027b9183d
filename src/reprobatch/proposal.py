"""A first job for a model, as commented YAML that can be planned and run as it stands.

Decides from a :class:`reprobatch.survey.Survey` and the memory at hand; reads and writes nothing.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from reprobatch.jobitems import RESERVED_ARGUMENTS
from reprobatch.record import ITEM_SIZE

if TYPE_CHECKING:
    from reprobatch.survey import Room, Survey

SHARD_BYTES, MOST_ITEMS = 64 << 20, 256  # of a shard: enough for a file, few enough to share out
# text that needs no quotes in YAML
_PLAIN = re.compile(r"(?!(true|false|null|yes|no|on|off)$)[A-Za-z][\w./:-]*\w", re.IGNORECASE)
MOST = 8  # items a batch, if memory allows; more is for a measurement to decide
_USABLE = 0.8  # of the memory at hand; the rest is the system's and the frameworks'
_CHOSEN = re.compile(r".*num_inference_steps|.*guidance_scale|height|width|num_frames|audio_(end|length)_in_s")
_NOT_SHOWN = re.compile(
    r"prompt(_\d+)?|class_labels|generator|.*latents|.*embeds.*|.*mask.*|callback.*|.*_kwargs|ip_adapter.*|.*image.*|"
    r"timesteps|sigmas|batch_size|num_.*_per_prompt|.*video|text_model_output|.*waveforms|.*sampling_rate"
)
_BY_PICTURE = re.compile(
    r"Img2Img|ImageToVideo|Image2Video|Inpaint|ControlNet|Pix2Pix|Depth2Img|Upscale|Edit|Depth|Normals"
)
_PICTURES = ("image", "mask_image", "control_image")
_PROMPTS = {
    "audios": (
        "rain on a tin roof, distant thunder",
        "footsteps on gravel, slow and even",
        "a cello tunes up in a hall",
    ),
    "frames": ("waves roll onto a pebble beach", "a paper boat drifts down a gutter", "steam rises from a cup of tea"),
    "images": (
        "a lighthouse on a cliff in heavy rain",
        "three green apples on a wooden table",
        "a red bicycle by a wall",
    ),
}


@dataclass(frozen=True)
class Proposal:
    """A job's text, the files beside it that it needs (by name), and what its sizes rest on, in bytes."""

    text: str
    files: dict[str, bytes]
    batch_size: int
    weights: int
    activations: int | None  # an item's, a rough estimate
    memory: int  # a worker's


def propose(made: Survey, room: Room, file: str, model: str, prompts: bytes | None = None) -> Proposal:
    """A job for a model, which it refers to as ``model``, in a file of this name, after which it is called.

    ``prompts`` are those that the model brings, where it does.
    """
    name = re.sub(r"[^\w.-]", "-", PurePath(file).stem).lstrip(".-")[:100] or "job"
    dtype = "float32" if room.kind == "RAM" else made.stored if made.stored != "float32" else "float16"
    weights = made.weights(dtype)
    each = None if made.activations is None else made.activations * ITEM_SIZE[dtype]
    cpus, memory = _worker(room, weights + (each or 0))
    batch = _batch(memory - weights, each)
    size = None if made.item_bytes is None else made.item_bytes // 4 * ITEM_SIZE[dtype if made.latent else "float32"]
    shard = _shard(size, batch)
    items, files = _items(made, name, prompts)
    fits = "" if weights + (each or 0) <= memory else "   # the weights may not fit: see pipeline.memory, offload"
    lines = [
        f"# A first job for {made.class_name}. Lines that are commented out show defaults.",
        f"# It is for you to change. 'reprobatch plan {file}' shows what it would make,",
        f"# 'reprobatch probe {file}' measures what is reproducible about it here,",
        f"# 'reprobatch run {file} --out DATASET' makes it.",
        f"name: {_text(name)}",
        "master_seed: 1   # any whole number; another one gives other noise",
        "pipeline:",
        f"  model: {_text(model)}{fits}",
        *([f"  revision: {made.revision}"] if made.revision else []),
        f"  dtype: {dtype}",
        "  # scheduler: DDIMScheduler   # instead of the model's own",
        *_call(made.arguments),
        *items,
        *_output(made),
        f"# {_sum(weights, each, room, memory)}",
        "# 'reprobatch probe JOB --batch-sizes 1,2,4,8' measures. Another batch size gives other bits.",
        f"batch_size: {batch}",
        f"shard_size: {shard}   # items a file; a multiple of batch_size",
        f"workers: {{cpus: {cpus}, gpus: {int(room.kind == 'GPU')}, threads: {1 if room.kind == 'GPU' else cpus}}}"
        "   # what one worker takes",
        "determinism: strict   # portable: the same bits on every x86-64 CPU, slower",
    ]
    return Proposal("".join(f"{line}\n" for line in lines), files, batch, weights, each, memory)


def _worker(room: Room, needed: int) -> tuple[int, int]:
    """CPUs of one worker, and the memory that it has: a GPU's, or its share of the machine's."""
    usable = int(room.size * _USABLE)
    if room.kind == "GPU":
        return min(2, room.cpus), usable
    cpus = 1
    while cpus < room.cpus and usable // (room.cpus // cpus) < needed:
        cpus += 1
    return cpus, usable // (room.cpus // cpus)


def _batch(free: int, each: int | None) -> int:
    if each is None:
        return 1  # what fits wherever the weights do
    size = MOST
    while size > 1 and size * each > free:
        size //= 2
    return size


def _shard(item: int | None, batch: int) -> int:
    wanted = 8 * batch if item is None else min(MOST_ITEMS, SHARD_BYTES // max(1, item))
    return max(1, wanted // batch) * batch


def _sum(weights: int, each: int | None, room: Room, memory: int) -> str:
    item = "an unknown amount" if each is None else f"about {_size(each)} (a rough estimate)"
    known = _size(weights) if weights else "an unknown amount (no safetensors were found)"
    return f"A worker has {_size(memory)} of {room.kind}; weights take {known}, an item {item}."


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, size / 1e6):.0f} MB"


def _call(arguments: dict[str, Any]) -> list[str]:
    lines = ["call:   # given to every pipeline call"]
    shown = {name: value for name, value in arguments.items() if not _hidden(name, value)}
    chosen = [name for name, value in shown.items() if _CHOSEN.fullmatch(name) and value is not None]
    lines += [f"  {name}: {_yaml(shown[name])}" for name in chosen]
    lines += [f"  # {name}: {_yaml(value)}" for name, value in shown.items() if name not in chosen]
    return lines if chosen else ["call: {}   # given to every pipeline call", *lines[1:]]


def _hidden(name: str, value: Any) -> bool:
    if name in RESERVED_ARGUMENTS or _NOT_SHOWN.fullmatch(name):
        return True
    return not (value is None or isinstance(value, bool | int | float | str))


def _yaml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else _yaml(value)


def _items(made: Survey, name: str, prompts: bytes | None) -> tuple[list[str], dict[str, bytes]]:
    """The lines of ``items``, and the files that they name, which bear the job's name: others lie about."""
    texts = _PROMPTS.get(made.field or "images", _PROMPTS["images"])
    pictures = [each for each in _PICTURES if each in made.arguments] if _BY_PICTURE.search(made.class_name) else []
    repeat = "  repeat: 4   # items a row, each with a seed of its own"
    if pictures:
        file, folder = f"{name}-items.jsonl", f"{name}-pictures"
        row = {**({"prompt": texts[0]} if "prompt" in made.arguments else {}), **dict.fromkeys(pictures, "example.png")}
        lines = [f"  prompts: {file}   # a row an item; columns are call arguments"]
        lines.append(f"  images: [{', '.join(pictures)}]   # columns of pictures: paths below image_root")
        files = {file: f"{json.dumps(row)}\n".encode(), f"{folder}/example.png": _example()}
        return ["items:", *lines, f"  image_root: {folder}", repeat], files
    if made.labels:
        file = f"{name}-labels.csv"
        labels = "class_labels\n" + "".join(f"{label}\n" for label in range(min(4, made.labels)))
        return ["items:", f"  prompts: {file}   # class labels, a row each", repeat], {file: labels.encode()}
    if "prompt" in made.arguments:
        file = f"{name}-prompts.txt"
        line = f"  prompts: {file}   # a line each; or .csv, .jsonl, .parquet with call arguments as columns"
        return ["items:", line, repeat], {file: prompts or "".join(f"{text}\n" for text in texts).encode()}
    return ["items:", "  count: 16   # the pipeline takes no prompt"], {}


def _output(made: Survey) -> list[str]:
    if made.field == "audios":
        return ["output: audios   # sound; 'regenerate DATASET INDEX --to x.wav' writes one"]
    if made.latent:
        return [
            "output: latent   # small; or pixels, which are decoded when they are made",
            "# also: [decoded]   # the picture besides, for models with Stable Diffusion's VAE",
        ]
    if made.field in (None, "images", "frames"):
        return ["output: pixels   # the pipeline gives no latents"]
    return [f"output: {made.field}   # what the pipeline's output class calls it"]


def _example() -> bytes:
    """A grey picture of 512x512 pixels, as a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (512, 512), (128, 128, 128)).save(buffer, "PNG")
    return buffer.getvalue()
