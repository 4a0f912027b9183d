"""Pictures and tensors as inputs: of the item alone, digested into its row, and proven when it is made again."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import oracle
import tiny
from local import PROMPTS, made, write_job
from reprobatch import contract, inputs
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, ItemFailed, JobError
from reprobatch.regenerate import Regenerator
from reprobatch.resolve import load
from reprobatch.worker import Worker

COUNT = 5


def png(number: int, mode: str = "RGB") -> bytes:
    """A picture of 16x16 pixels, another for each number."""
    values = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
    if mode == "L":  # a mask: one half
        values = np.where(np.arange(16)[:, None, None] < 4 + number, 255, 0) * np.ones((1, 16, 3))
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


PICTURES = [png(number) for number in range(COUNT)]
MASKS = [png(number, "L") for number in range(COUNT)]
EMBEDDINGS = np.random.default_rng(0).standard_normal((COUNT, 16, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion with what belongs to it, and items with inputs of every kind."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny.stable_diffusion(folder / "model")
    tiny.controlnet(folder / "controlnet")
    tiny.ip_adapter(folder / "eye.safetensors")
    tiny.image_encoder(folder / "image_encoder")
    (folder / "pictures" / "masks").mkdir(parents=True)
    for number in range(COUNT):
        (folder / "pictures" / f"{number}.png").write_bytes(PICTURES[number])
        (folder / "pictures" / "masks" / f"{number}.png").write_bytes(MASKS[number])
    columns = {
        "prompt": PROMPTS,
        "image": PICTURES,
        "ip_adapter_image": [PICTURES[n // 3] for n in range(COUNT)],
        "prompt_embeds": EMBEDDINGS.tolist(),
    }
    for name in ("image", "ip_adapter_image", "prompt_embeds"):
        kept = {"prompt_embeds": columns[name]} if name == "prompt_embeds" else {"prompt": PROMPTS, name: columns[name]}
        pq.write_table(pa.table(kept), folder / f"{name}.parquet")
    paths = "".join(f"{p},{n}.png,masks/{n}.png\n" for n, p in enumerate(PROMPTS))
    (folder / "paths.csv").write_text("prompt,image,mask_image\n" + paths)
    return folder


KINDS: dict[str, dict[str, Any]] = {
    "image to image": {
        "class_name": "StableDiffusionImg2ImgPipeline",
        "call": {"strength": 0.75, "num_inference_steps": 4},
        "items": {"prompts": "image.parquet", "images": ["image"]},
    },
    "inpainting": {
        "class_name": "StableDiffusionInpaintPipeline",
        "call": {"strength": 0.75, "num_inference_steps": 4, "height": 16, "width": 16},
        "items": {"prompts": "paths.csv", "images": ["image", "mask_image"], "image_root": "pictures"},
    },
    "ControlNet": {
        "class_name": "StableDiffusionControlNetPipeline",
        "components": {"controlnet": "controlnet"},
        "items": {"prompts": "image.parquet", "images": ["image"]},
    },
    "embeddings": {
        "call": {"num_inference_steps": 2, "guidance_scale": 1.0},
        "items": {"prompts": "prompt_embeds.parquet", "tensors": ["prompt_embeds"]},
    },
    "IP-Adapter": {
        "components": {"image_encoder": "image_encoder"},
        "adapters": [{"kind": "ip_adapter", "path": "eye.safetensors", "scale": 0.75}],
        "items": {"prompts": "ip_adapter_image.parquet", "images": ["ip_adapter_image"]},
    },
}


def write(folder: Path, kind: str, name: str = "job", **changes: Any) -> Path:
    spec = {**KINDS[kind], **changes}
    pipeline = {key: spec[key] for key in ("class_name", "components", "adapters") if key in spec}
    return write_job(
        folder / f"{name}.yaml",
        pipeline={"model": "model", "scheduler": "DDIMScheduler", **pipeline},
        call=spec.get("call", {"num_inference_steps": 2}),
        items=spec["items"],
    )


@pytest.fixture(scope="module", params=KINDS)
def dataset(request: pytest.FixtureRequest, folder: Path) -> tuple[str, Dataset]:
    job = write(folder, request.param, request.param.replace(" ", "-"))
    return request.param, made(job, folder / f"{job.stem}-made")


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def given(kind: str, indices: list[int]) -> dict[str, Any]:
    """A batch's inputs as whoever calls diffusers gives them."""
    found: dict[str, Any] = {"image": [picture(PICTURES[n]) for n in indices]}
    if kind == "inpainting":
        found["mask_image"] = [picture(MASKS[n]) for n in indices]
    if kind == "embeddings":
        found = {"prompt_embeds": torch.from_numpy(EMBEDDINGS[indices])}
    if kind == "IP-Adapter":
        found = {"ip_adapter_image": picture(PICTURES[indices[0] // 3])}
    return found


def test_plain_diffusers_with_the_same_inputs_gets_the_stored_bytes(
    dataset: tuple[str, Dataset], folder: Path, one_thread: None
) -> None:
    kind, stored = dataset
    parts: dict[str, Any] = {}
    if kind == "ControlNet":
        parts["controlnet"] = oracle.diffusers.ControlNetModel.from_pretrained(folder / "controlnet")
    pipe = oracle.load(stored.job.as_dict(), folder / "model", **parts)
    if kind == "IP-Adapter":
        pipe.load_ip_adapter(
            str(folder), subfolder="", weight_name="eye.safetensors", image_encoder_folder="image_encoder"
        )
        pipe.set_ip_adapter_scale(0.75)
    counts = oracle.compare(
        Path(stored.store.address), pipe, lambda batch: given(kind, [row["index"] for row in batch])
    )
    assert counts == (COUNT, 0)


def test_items_with_inputs_come_back_replayed_and_alone(dataset: tuple[str, Dataset]) -> None:
    _, stored = dataset
    measured = contract.Contract.from_dict(stored.manifest["contract"])
    assert not measured.broken and not measured.notes and measured["alone"].holds
    regenerator = Regenerator(stored)
    assert regenerator.agreement().agrees
    for index in (1, 4):
        for alone in (False, True):
            again = regenerator(index, alone=alone)
            assert (again.comparison.verdict, again.method) == ("identical", "alone" if alone else "replay")


def test_a_row_holds_its_inputs_digests(dataset: tuple[str, Dataset]) -> None:
    kind, stored = dataset
    sums = [hashlib.sha256(data).hexdigest() for data in PICTURES]
    masks = [hashlib.sha256(data).hexdigest() for data in MASKS]
    tensors = [
        hashlib.sha256(b"float32\n16,32\n" + np.ascontiguousarray(value, "<f4").tobytes()).hexdigest()
        for value in EMBEDDINGS
    ]
    rows = [record.row.item for record in stored]
    expected: dict[str, list[str]] = {
        "inpainting": {"image": sums, "mask_image": masks},
        "embeddings": {"prompt_embeds": tensors},
        "IP-Adapter": {"ip_adapter_image": [sums[n // 3] for n in range(COUNT)]},
    }.get(kind, {"image": sums})
    assert {name: [row[name] for row in rows] for name in expected} == expected


def test_an_input_changes_its_items_bits_and_nobody_elses(folder: Path, one_thread: None) -> None:
    resolved = load(write(folder, "image to image"))
    worker = Worker(resolved.job, resolved.model_hint)
    items = resolved.reader.read(0, 4)
    changed = [*items[:3], {**items[3], "image": resolved.reader.read(4, 5)[0]["image"]}]
    before, after = (worker.batch(chosen, [1, 2, 3, 4]) for chosen in (items, changed))
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, True, False]


def test_an_ip_adapters_picture_is_one_for_the_batch_so_it_splits_batches(folder: Path) -> None:
    resolved = load(write(folder, "IP-Adapter"))
    assert [(batch.start, batch.stop) for batch in resolved.plan.batches(0)] == [(0, 3), (3, 4)]


def test_pictures_as_datasets_stores_them_are_the_same_inputs(folder: Path) -> None:
    nested = [{"bytes": data, "path": None} for data in PICTURES]
    pq.write_table(pa.table({"prompt": PROMPTS, "image": nested}), folder / "nested.parquet")
    items = {"prompts": "nested.parquet", "images": ["image"]}
    found, plain = (
        load(write(folder, "image to image", "n", items=i)) for i in (items, KINDS["image to image"]["items"])
    )
    assert found.reader.read(1, 4) == plain.reader.read(1, 4)


# Proven when an item is made again


@pytest.fixture
def moved(folder: Path, tmp_path: Path) -> tuple[Path, Dataset]:
    """A dataset of pictures named by paths, in a folder that the test may change."""
    (tmp_path / "model").symlink_to(folder / "model")
    for name in ("0.png", "1.png", "2.png", "3.png", "4.png"):
        (tmp_path / "pictures" / "masks").mkdir(parents=True, exist_ok=True)
        for part in ("", "masks/"):
            (tmp_path / "pictures" / f"{part}{name}").write_bytes((folder / "pictures" / f"{part}{name}").read_bytes())
    (tmp_path / "paths.csv").write_text((folder / "paths.csv").read_text())
    return tmp_path, made(write(tmp_path, "inpainting"), tmp_path / "dataset")


def test_a_picture_that_changed_is_another_job_and_refused_with_both_digests(moved: tuple[Path, Dataset]) -> None:
    folder, stored = moved
    (folder / "pictures" / "2.png").write_bytes(PICTURES[0])
    assert load(write(folder, "inpainting")).job.digest != stored.job.digest
    was, now = (hashlib.sha256(data).hexdigest() for data in (PICTURES[2], PICTURES[0]))
    regenerator = Regenerator(stored)
    with pytest.raises(DataError, match=f"item 2: expected image with digest {was}, found {now}; it changed"):
        regenerator(2)
    assert regenerator(2 + 2).comparison.verdict == "identical"  # of the other batch


def test_inputs_that_moved_are_found_by_their_place(moved: tuple[Path, Dataset]) -> None:
    folder, stored = moved
    (folder / "pictures").rename(folder / "elsewhere")
    (folder / "paths.csv").rename(folder / "items.csv")
    with pytest.raises(JobError, match=r"no items at .*; give --place items=PATH"):
        Regenerator(stored)(0)
    places = {"items": str(folder / "items.csv"), "images": str(folder / "elsewhere")}
    assert Regenerator(stored, places=places)(0, alone=True).comparison.verdict == "identical"


# What is refused


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    """The folder of the pictures, by HTTP."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder / "pictures"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_pictures_at_a_url_are_those_of_the_folder(folder: Path, tmp_path: Path, served: str) -> None:
    items = {"prompts": "paths.csv", "images": ["image", "mask_image"]}
    at_url = load(write(folder, "inpainting", "served", items={**items, "image_root": served}))
    below = load(write(folder, "inpainting", "below", items={**items, "image_root": "pictures"}))
    assert at_url.reader.read(0, 2) == below.reader.read(0, 2)
    assert at_url.job.items == below.job.items and served not in at_url.job.canonical
    assert at_url.places["images"] == served


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../paths.csv", "lies outside items.image_root"),
        ("0.png/./0.png", "lies outside"),
        ("none.png", "no 'none.png'"),
    ],
)
def test_a_picture_that_is_not_at_the_url_is_named(folder: Path, served: str, name: str, said: str) -> None:
    items = {**paths(folder, "0.png", name), "image_root": served}
    with pytest.raises(JobError, match=rf"column 'image' of the items, row 1 .*: .*{said}"):
        load(write(folder, "image to image", "wrong", items=items))


def paths(folder: Path, *names: str) -> dict[str, Any]:
    (folder / "wrong.csv").write_text("prompt,image\n" + "".join(f"a dog,{name}\n" for name in names))
    return {"prompts": "wrong.csv", "images": ["image"], "image_root": "pictures"}


@pytest.mark.parametrize("name", ["../model/model_index.json", "/etc/hostname", "masks/../../paths.csv", "link.png"])
def test_a_path_that_leaves_the_root_is_refused(folder: Path, name: str) -> None:
    link = folder / "pictures" / "link.png"
    if not link.is_symlink():
        link.symlink_to(folder / "paths.csv")
    with pytest.raises(JobError, match=r"column 'image' of the items, row 1 .*: .* lies outside items.image_root"):
        load(write(folder, "image to image", "wrong", items=paths(folder, "0.png", name)))


@pytest.mark.parametrize(
    "items, said",
    [
        ({"prompts": "image.parquet"}, "'image' of the items: expected text, numbers or booleans, found binary; leave"),
        (
            {"prompts": "prompt_embeds.parquet"},
            "found lists of numbers; leave the column out or name it in items.tensors",
        ),
        ({"prompts": "paths.csv", "images": ["picture"]}, "items.images names 'picture', which is no column"),
        ({"prompts": "paths.csv", "tensors": ["image"]}, "items.tensors names 'image', which holds string; name a"),
        ({"prompts": "paths.csv", "images": ["image"]}, "give the folder that they start from, items.image_root"),
        ({"prompts": "paths.csv", "images": ["image"], "image_root": "none"}, "items.image_root: no folder 'none'"),
    ],
)
def test_inputs_that_are_not_declared_or_not_there_are_said(folder: Path, items: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError) as refused:
        load(write(folder, "image to image", "wrong", items=items))
    assert said in str(refused.value)


def test_a_missing_picture_is_said_before_anything_runs(folder: Path) -> None:
    with pytest.raises(JobError, match=r"row 0 \(from 0\): cannot read '9.png'"):
        load(write(folder, "image to image", "wrong", items=paths(folder, "9.png")))


def test_bytes_that_are_no_picture_are_said_with_their_digest(folder: Path) -> None:
    (folder / "pictures" / "text.png").write_text("no picture")
    resolved = load(write(folder, "image to image", "wrong", items=paths(folder, "text.png", "0.png")))
    digest = hashlib.sha256(b"no picture").hexdigest()[:12]
    worker = Worker(resolved.job, resolved.model_hint)
    for items in (resolved.reader.read(0, 2), resolved.reader.read(0, 2)[::-1]):  # wherever in the batch it stands
        with pytest.raises(ValueError, match=f"^expected a picture with SHA-256 {digest}…, found other bytes"):
            worker.batch(items, [1, 2])


def test_a_shard_with_bytes_that_are_no_picture_names_the_item(folder: Path) -> None:
    (folder / "pictures" / "text.png").write_text("no picture")
    resolved = load(write(folder, "image to image", "wrong", items=paths(folder, "0.png", "text.png", "1.png")))
    worker = Worker(resolved.job, resolved.model_hint)
    with pytest.raises(
        ItemFailed, match=r"^items 0 … 2: item 1 \(seed \d+\) fails alone too: ValueError: expected a pic"
    ):
        worker.shard(0, resolved.plan.batches(0), resolved.reader.read(0, 3))


def test_uneven_lists_and_numbers_that_are_not_finite_are_refused() -> None:
    reader = inputs.Inputs({"x": "tensor"}, None)
    for value in ([[1.0, 2.0], [3.0]], [[float("nan")]], [], [["a"]]):
        with pytest.raises(JobError, match="column 'x' of the items, row 7"):
            reader.complete(7, {"x": value})


def test_an_item_with_inputs_survives_json() -> None:
    item = inputs.Inputs({"x": "tensor", "i": "image"}, None).complete(0, {"p": "a", "x": [[1, 2]], "i": b"\x00\xff"})
    assert inputs.from_json(json.loads(json.dumps(inputs.to_json(item)))) == item
