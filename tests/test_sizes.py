"""Outputs from a kilobyte to a video: shards limited by bytes, and memory that stays bounded."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from conftest import DIGITS
from making import make, resolved
from reprobatch.errors import JobError
from reprobatch.estimate import output_bytes, shard_size_for
from reprobatch.regenerate import Regenerator
from reprobatch.verification import verify

FOUR_STEPS = {"block_out_channels": [128, 256, 512, 512], "latent_channels": 4, "out_channels": 3}
SIXTEEN = {**FOUR_STEPS, "latent_channels": 16}
WAN = {"z_dim": 16, "temperal_downsample": [False, True, True]}
SIXTY_FOUR_PIXELS = {"sample_size": 64, "in_channels": 4, "out_channels": 4}


@pytest.mark.parametrize(
    ("net", "config", "vae", "arguments", "dtype", "shape"),
    [
        ("unet", SIXTY_FOUR_PIXELS, FOUR_STEPS, {}, "float32", (4, 64, 64)),
        ("unet", SIXTY_FOUR_PIXELS, FOUR_STEPS, {"height": 768, "width": 512}, "float16", (4, 96, 64)),
        ("unet", {"sample_size": 128, "in_channels": 4}, FOUR_STEPS, {}, "float16", (4, 128, 128)),
        ("transformer", {"in_channels": 64}, SIXTEEN, {"height": 1024, "width": 1024}, "bfloat16", (16, 128, 128)),
        ("transformer", {"in_channels": 64}, SIXTEEN, {}, "bfloat16", None),
        ("transformer", {"sample_size": 128, "in_channels": 16}, SIXTEEN, {}, "float16", (16, 128, 128)),
        ("transformer", {}, WAN, {"height": 480, "width": 832, "num_frames": 81}, "float32", (16, 21, 60, 104)),
        ("transformer", {}, WAN, {"height": 480, "width": 832}, "float32", None),
        ("unet", {"sample_size": 32, "in_channels": 3, "out_channels": 3}, None, {}, "float32", (3, 32, 32)),
        ("unet", {"sample_size": "wide"}, FOUR_STEPS, {}, "float32", None),
    ],
)
def test_size_of_latents_is_read_off_the_models_configuration(
    tmp_path: Path,
    net: str,
    config: dict[str, Any],
    vae: dict[str, Any] | None,
    arguments: dict[str, int],
    dtype: str,
    shape: tuple[int, ...] | None,
) -> None:
    for name, content in ((net, config), ("vae", vae)):
        if content is not None:
            (tmp_path / name).mkdir()
            (tmp_path / name / "config.json").write_text(json.dumps(content))
    item_size = {"float32": 4, "float16": 2, "bfloat16": 2}[dtype]
    expected = None if shape is None else math.prod(shape) * item_size
    assert output_bytes("latent", dtype, arguments.get, tmp_path) == expected


@pytest.mark.parametrize(
    ("limit", "item", "batch", "at_most", "expected"),
    [(1000, 10, 4, 256, 100), (1000, 10, 8, 256, 96), (1000, 10, 8, 64, 64), (80, 10, 8, 64, 8), (10**12, 1, 8, 8, 8)],
)
def test_a_shard_holds_whole_batches_and_no_more_bytes(
    limit: int, item: int, batch: int, at_most: int, expected: int
) -> None:
    assert shard_size_for(limit, item, batch, at_most) == expected


@pytest.mark.parametrize(
    ("limit", "item", "said"),
    [(79, 10, "expected at least the 80 bytes of one batch, found 79"), (10**9, None, "set shard_size")],
)
def test_a_limit_that_cannot_be_kept_is_refused(limit: int, item: int | None, said: str) -> None:
    with pytest.raises(JobError, match=said):
        shard_size_for(limit, item, 8, 64)


@pytest.mark.parametrize(
    ("value", "shard_size"),
    [("24KiB", 24), (24 * 1024, 24), ("1GB", 64), ("65535", 56)],
)
def test_shard_bytes_lowers_the_shard_size_of_a_job(value: object, shard_size: int) -> None:
    assert resolved(f"shard_bytes={value}").job.shard_size == shard_size  # an item of the digits has 1 KiB


def test_the_largest_item_decides_where_sizes_differ(tmp_path: Path) -> None:
    job = resolved("items.grid={height: [16, 64]}", "shard_bytes=16KiB")
    assert job.job.shard_size == 8  # 64 rows of 32 pixels: 2 KiB of latents


def test_items_of_different_shapes_in_one_job(tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    sizes = [(16, 16), (16, 16), (32, 16), (32, 48)]
    rows = [{"prompt": "a handwritten two", "height": h, "width": w} for h, w in sizes]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = ["call.num_inference_steps=3", "shard_size=8", "items.repeat=1"]
    dataset = make(resolved(f"items.prompts={items}", *changes), tmp_path / "d")
    shapes = [(4, h // 4, w // 4) for h, w in sizes]
    assert [item.shape for item in dataset] == shapes
    assert [item.latents.shape for item in dataset] == shapes
    assert verify(dataset).verdict == "intact"
    again = Regenerator(dataset)
    assert {again(index, alone=True).comparison.verdict for index in range(4)} == {"identical"}


# from a small process: a peak is inherited from whoever starts one, and pytest may have loaded torch
WRITE = """
import os, resource, sys
from reprobatch.folder import FolderStore
from reprobatch.record import Output, Row, ShardWriter
from reprobatch.store import shard_name

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

store = FolderStore(sys.argv[1])
store.create()
begin, video = peak(), (16, 21, 60, 104)  # 8 MiB in float32
writer = ShardWriter({}, "latents", "0" * 64, 0, "permute32-v1")
for number in range(int(sys.argv[2])):
    writer.add([Row(number, number, number, 0, {}, Output("float32", video, os.urandom(4 * 16 * 21 * 60 * 104)))])
data, _ = writer.finish()
store.put_new(shard_name(0), data)
print((peak() - begin) / sum(map(len, data)))
"""


def test_a_shard_of_videos_is_written_in_less_than_one_and_a_half_times_its_size(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        f"import subprocess, sys; sys.exit(subprocess.call({[sys.executable, '-c', WRITE]!r} + sys.argv[1:]))",
    ]
    done = subprocess.run([*command, tmp_path, "40"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert 1.0 < float(done.stdout) < 1.5
    assert pq.ParquetFile(tmp_path / "data" / "shard-000000.parquet").metadata.num_rows == 40


def test_digits_job_says_nothing_of_bytes_in_its_identity() -> None:
    assert "shard_bytes" not in resolved("shard_bytes=1GB").job.canonical
    assert re.search(r"shard_size: \d+", DIGITS.read_text())
