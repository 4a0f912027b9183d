"""The plan: every item in exactly one slot, by arithmetic, whatever their number is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobatch.errors import JobError
from reprobatch.plan import Batch, Place, Plan

by_the_book = settings(deadline=None, derandomize=True, max_examples=200)


@dataclass
class Case:
    count: int
    batch_size: int
    shard_size: int
    breaks: list[int]
    starts: tuple[int, ...] = (0,)

    @property
    def plan(self) -> Plan:
        return Plan(self.count, self.batch_size, self.shard_size, np.array(self.breaks, np.int64), self.starts)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count, batch = draw(st.integers(1, 60)), draw(st.integers(1, 6))
    shard = batch * draw(st.integers(1, 5))
    breaks = draw(st.one_of(st.just(set()), st.sets(st.integers(0, count - 1), max_size=12)))
    starts = draw(st.sets(st.integers(0, count - 1), max_size=3))
    return Case(count, batch, shard, sorted(breaks), tuple(sorted({0, *starts})))


def naive(case: Case) -> list[list[list[int]]]:
    """Shards of batches of items, filled one item after the other."""
    shards: list[list[list[int]]] = []
    for index in range(case.count):
        if index in case.starts or sum(map(len, shards[-1])) == case.shard_size:
            shards.append([[]])
        elif len(shards[-1][-1]) == case.batch_size or index in case.breaks:
            shards[-1].append([])
        shards[-1][-1].append(index)
    return shards


@by_the_book
@given(cases())
def test_plan_is_that_of_filling_batches_one_item_after_the_other(case: Case) -> None:
    plan, expected = case.plan, naive(case)
    assert plan.shards == len(expected)
    for number, batches in enumerate(expected):
        assert list(plan.shard(number)) == [index for batch in batches for index in batch]
        assert plan.batches(number) == [Batch(at, batch[0], batch[-1] + 1) for at, batch in enumerate(batches)]
        for at, batch in enumerate(batches):
            for slot, index in enumerate(batch):
                assert plan.place(index) == Place(number, at, slot)
                assert plan.shard_of(index) == number
    total = sum(len(batches) for batches in expected)
    assert plan.total_batches == total
    assert plan.padded == total * case.batch_size - case.count


@by_the_book
@given(cases(), st.integers(1, 40))
def test_growing_moves_no_item_that_is_there(case: Case, more: int) -> None:
    before = case.plan
    after = Case(case.count + more, case.batch_size, case.shard_size, case.breaks, (*case.starts, case.count)).plan
    assert [after.batches(shard) for shard in range(before.shards)] == [before.batches(s) for s in range(before.shards)]
    assert after.place(case.count) == Place(before.shards, 0, 0)


@by_the_book
@given(cases(), st.integers(1, 9))
def test_parts_hold_every_shard_once(case: Case, parts: int) -> None:
    parts = min(parts, case.plan.shards)
    held = [shard for number in range(1, parts + 1) for shard in case.plan.part(number, parts)]
    assert held == list(range(case.plan.shards))


@pytest.mark.parametrize(("number", "parts"), [(0, 2), (3, 2), (1, 4), (-1, 1)])
def test_there_is_no_part_without_a_shard(number: int, parts: int) -> None:
    with pytest.raises(JobError, match=f"the shards there are\\), found {number}/{parts}"):
        Plan(10, 2, 4).part(number, parts)


@by_the_book
@given(cases(), st.integers(1, 5))
def test_without_breaks_batches_do_not_depend_on_where_shards_end(case: Case, factor: int) -> None:
    plan = Plan(case.count, case.batch_size, case.shard_size)
    other = Plan(case.count, case.batch_size, case.batch_size * factor)

    def spans(plan: Plan) -> list[tuple[int, int]]:
        return [(batch.start, batch.stop) for shard in range(plan.shards) for batch in plan.batches(shard)]

    assert spans(plan) == spans(other)


@pytest.mark.parametrize(
    ("case", "shards", "batches", "padded"),
    [
        (Case(1, 1, 1, []), 1, 1, 0),
        (Case(1, 4, 8, []), 1, 1, 3),
        (Case(8, 4, 8, []), 1, 2, 0),
        (Case(9, 4, 8, []), 2, 3, 3),
        (Case(16, 4, 8, []), 2, 4, 0),
        (Case(16, 4, 8, [4]), 2, 4, 0),  # where a batch begins anyway
        (Case(16, 4, 8, [8]), 2, 4, 0),  # where a shard begins anyway
        (Case(16, 4, 8, [0]), 2, 4, 0),
        (Case(16, 4, 8, [1]), 2, 5, 4),
        (Case(16, 4, 8, [7]), 2, 5, 4),
        (Case(16, 4, 8, [15]), 2, 5, 4),
        (Case(16, 4, 8, list(range(16))), 2, 16, 48),
        (Case(10**9, 8, 256, []), 3906250, 125000000, 0),
        (Case(10**9 + 1, 8, 256, []), 3906251, 125000001, 7),
        (Case(2**32, 1, 1, []), 2**32, 2**32, 0),
        (Case(10**9, 8, 256, [1, 5 * 10**8 + 3]), 3906250, 125000002, 16),
    ],
)
def test_shards_batches_and_copies_of(case: Case, shards: int, batches: int, padded: int) -> None:
    assert (case.plan.shards, case.plan.total_batches, case.plan.padded) == (shards, batches, padded)


@pytest.mark.parametrize("breaks", [[], [3, 10**9 - 2]])
def test_a_billion_items_are_placed_by_arithmetic(breaks: list[int]) -> None:
    plan = Case(10**9, 8, 256, breaks).plan
    assert plan.place(10**9 - 5) == Place(3906249, 31, 3)
    assert plan.shard(3906249) == range(10**9 - 256, 10**9)
    last = [Batch(32, 10**9 - 2, 10**9)] if breaks else []
    assert plan.batches(3906249)[31:] == [Batch(31, 10**9 - 8, 10**9 - 2 if breaks else 10**9), *last]


@pytest.mark.parametrize(("index", "last"), [(-1, 9), (10, 9), (2**63, 9)])
def test_there_is_no_place_for_an_item_that_is_none(index: int, last: int) -> None:
    with pytest.raises(JobError, match=f"expected an index within 0 … {last}, found {index}"):
        Plan(10, 2, 4).place(index)


@pytest.mark.parametrize("number", [-1, 3])
def test_there_is_no_shard_beyond_the_last(number: int) -> None:
    with pytest.raises(JobError, match=f"expected a shard within 0 … 2, found {number}"):
        Plan(10, 2, 4).shard(number)


# The command, on a billion items

BILLION = """
name: billion
master_seed: 20261123
pipeline: {model: model}
items: {count: 500000000, grid: {guidance_scale: [1.0, 4.0]}}
batch_size: 8
shard_size: 256
"""
# from a small process: a peak is inherited from whoever starts one, and pytest may have loaded torch
MEASURED = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "reprobatch.cli", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(done.returncode)
"""


def test_plan_of_a_billion_items_needs_less_than_300_mb(tmp_path: Path) -> None:
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tmp_path / "model" / "unet" / "config.json").write_text('{"sample_size": 64, "in_channels": 4}')
    (tmp_path / "job.yaml").write_text(BILLION)
    command = [sys.executable, "-c", MEASURED, "plan", "job.yaml", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["items"], plan["shards"], plan["batches"], plan["padded"]) == (10**9, 3906250, 125000000, 0)
    assert plan["bytes"] == 10**9 * 4 * 64 * 64 * 4
    assert len(plan["seeds"]) == 5
    kilobytes = int(done.stderr)
    assert 20 * 1024 < kilobytes < 300 * 1024
