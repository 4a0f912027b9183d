"""Batch sizes measured each in its own process; one is proposed, and the job is left as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import tiny
from local import write_job
from reprobatch import inputs, sizes
from reprobatch.cli import cli
from reprobatch.errors import JobError
from reprobatch.job import ResolvedJob
from reprobatch.sizes import NEAR, Measured


@pytest.mark.parametrize("text, found", [("1,2,4,8", [1, 2, 4, 8]), ("8,1,8", [1, 8]), (" 3", [3]), ("32767", [32767])])
def test_sizes_are_read_in_order_and_once(text: str, found: list[int]) -> None:
    assert sizes.parse(text) == found


@pytest.mark.parametrize("text", ["", "0", "-1", "1,,2", "a", "1.5", "32768", "1;2"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(JobError, match="--batch-sizes: expected numbers from 1 to 32767 such as 1,2,4,8, found"):
        sizes.parse(text)


@pytest.mark.parametrize(
    "rates, proposed",
    [
        ([1.0, 2.0, 4.0, 8.0], 8),
        ([1.0, 7.7, 8.0, 7.9], 2),  # near enough, and smaller
        ([1.0, None, None, None], 1),
        ([None, None, None, None], None),
        ([5.0, 1.0, 1.0, 1.0], 1),
    ],
)
def test_the_smallest_that_comes_near_the_fastest_is_proposed(rates: list[float | None], proposed: int | None) -> None:
    found = [Measured(size, rate, 1) for size, rate in zip((1, 2, 4, 8), rates, strict=True)]
    best = sizes.best(found)
    assert (best and best.batch_size) == proposed


@given(st.dictionaries(st.integers(1, 64), st.none() | st.floats(0.001, 1e6), max_size=6))
def test_no_smaller_size_is_as_near_to_the_fastest_as_the_proposed(rates: dict[int, float | None]) -> None:
    best = sizes.best([Measured(size, rate, None) for size, rate in rates.items()])
    known = {size: rate for size, rate in rates.items() if rate is not None}
    if best is None:
        assert not known
        return
    enough = NEAR * max(known.values())
    assert known[best.batch_size] >= enough
    assert all(rate < enough for size, rate in known.items() if size < best.batch_size)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of a pipeline that takes one item a call."""
    folder = tmp_path_factory.mktemp("sizes")
    tiny.kandinsky_emb2emb(folder / "model")
    (folder / "items.csv").write_text("prompt,image\n" + 3 * "a dog,pixel.png\n")
    (folder / "pixel.png").write_bytes(bytes.fromhex(PIXEL))
    return write_job(
        folder / "job.yaml",
        pipeline={"model": "model"},
        call={"num_inference_steps": 4, "strength": 0.9, "negative_prompt": "the cat"},
        items={"prompts": "items.csv", "images": ["image"], "image_root": str(folder)},
        output="image_embeds",
    )


def test_speed_and_memory_are_measured_and_the_job_keeps_its_batch_size(job: Path) -> None:
    before = job.read_text()
    done = CliRunner().invoke(cli, ["probe", str(job), "--batch-sizes", "1", "--json"])
    facts = json.loads(done.stdout)
    assert (done.exit_code, facts["proposed"], facts["current"]) == (0, 1, 4)
    [one] = facts["batch_sizes"]
    assert one["batch_size"] == 1 and one["items_per_second"] > 0 and one["peak_bytes"] > 2**20 and not one["problem"]
    assert job.read_text() == before


def test_a_size_that_cannot_be_run_is_said_beside_those_that_can(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(sized: ResolvedJob, hint: Any, first: list[Any]) -> Measured:  # what a process of its own does
        items = [(index, inputs.to_json(item)) for index, item in first]
        try:
            return sizes._answer(json.loads(json.dumps({"job": sized.canonical, "hint": hint, "first": items})))
        except JobError as error:
            return Measured(sized.batch_size, None, None, str(error))

    monkeypatch.setattr(sizes, "_measured", here)
    done = CliRunner().invoke(cli, ["probe", str(job), "--batch-sizes", "2,1"])
    one, two, proposed = done.stdout.splitlines()
    assert done.exit_code == 0 and one.startswith("batch_size 1: ") and "items/s, peak" in one
    assert two.startswith("batch_size 2: KandinskyV22PriorEmb2EmbPipeline refuses a batch of 2 ")
    assert proposed.startswith("proposed: batch_size 1 (the job has 4, and keeps it); another size gives other bits")


PIXEL = (  # a PNG of one pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc00000030101"
    "00c9fe92ef0000000049454e44ae426082"
)
