"""The order of an epoch: every item once, each row group read once, as many batches for every reader."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobatch.epoch import Order
from reprobatch.errors import JobError

reproducibly = settings(deadline=None, derandomize=True)


def groups(sizes: list[int]) -> list[range]:
    """Row groups of these sizes, one after the other."""
    return [range(a, b) for a, b in itertools.pairwise(itertools.accumulate(sizes, initial=0))]


def epoch(order: Order, number: int, readers: int) -> list[list[list[int]]]:
    return [[batch.tolist() for batch in order.batches(number, reader)] for reader in range(readers)]


def reads(batches: list[list[int]], of: list[range], held: int) -> list[int]:
    """The row groups a reader reads that keeps the ``held`` it used last."""
    kept: OrderedDict[int, None] = OrderedDict()
    found = []
    for batch in batches:
        for group in dict.fromkeys(next(n for n, span in enumerate(of) if item in span) for item in batch):
            if group not in kept:
                found.append(group)
            kept[group] = None
            kept.move_to_end(group)
            while len(kept) > held:
                kept.popitem(last=False)
    return found


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[range], dict[str, Any]]:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=20))
    return groups(sizes), {
        "readers": draw(st.integers(1, 4)),
        "batch_size": draw(st.integers(1, 9)),
        "window": draw(st.integers(1, 4)),
        "seed": draw(st.integers(0, 2**70)),
        "drop_last": draw(st.booleans()),
    }


@reproducibly
@given(orders(), st.integers(0, 3))
def test_items_come_once_in_as_many_batches_for_every_reader(drawn: tuple[list[range], Any], number: int) -> None:
    spans, settings = drawn
    total, readers, batch_size = spans[-1].stop, settings["readers"], settings["batch_size"]
    try:
        order = Order(spans, **settings)
    except JobError as error:
        assert "expected row groups enough" in str(error)
        return
    made = epoch(order, number, readers)
    assert {len(batches) for batches in made} == {order.steps} and order.steps > 0
    items = [item for batches in made for batch in batches for item in batch]
    assert len(set(items)) == len(items)
    for batches in made:
        sizes = [len(batch) for batch in batches]
        assert sizes == sorted(sizes, reverse=True) and sizes[0] <= batch_size and sizes[0] - sizes[-1] <= 1
    if settings["drop_last"]:
        assert len(items) == readers * order.steps * batch_size <= total
    else:
        assert sorted(items) == list(range(total))


@reproducibly
@given(orders(), st.integers(0, 3))
def test_a_row_group_belongs_to_one_reader_which_reads_it_once(drawn: tuple[list[range], Any], number: int) -> None:
    spans, settings = drawn
    try:
        order = Order(spans, **settings)
    except JobError:
        return
    found = [reads(batches, spans, settings["window"]) for batches in epoch(order, number, settings["readers"])]
    flat = [group for own in found for group in own]
    assert len(set(flat)) == len(flat)
    if not settings["drop_last"]:
        assert sorted(flat) == list(range(len(spans)))


@reproducibly
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 6), st.integers(0, 9))
def test_readers_differ_by_no_more_than_the_largest_row_group(sizes: list[int], readers: int, number: int) -> None:
    try:
        order = Order(groups(sizes), readers=readers, batch_size=1)
    except JobError:
        return
    loads = [sum(map(len, batches)) for batches in epoch(order, number, readers)]
    assert max(loads) - min(loads) <= max(sizes)


@pytest.mark.parametrize("sizes", [[1] * 30, [30]], ids=["the deal", "the order of items"])
def test_seed_and_epoch_decide_the_order_together(sizes: list[int]) -> None:
    """And not by their sum, as with torch's sampler, where epoch 1 of seed 0 is epoch 0 of seed 1."""
    readers = min(2, len(sizes))
    made: dict[str, tuple[int, int]] = {}
    for seed, number in itertools.product(range(3), repeat=2):
        found = epoch(Order(groups(sizes), readers=readers, batch_size=15, seed=seed), number, readers)
        assert found == epoch(Order(groups(sizes), readers=readers, batch_size=15, seed=seed), number, readers)
        shared = [sorted(itertools.chain(*own)) for own in found]
        made[str(shared if readers == 2 else found)] = seed, number
    assert len(made) == 9


def test_a_window_mixes_the_items_of_its_row_groups_and_no_more() -> None:
    spans = groups([10] * 8)
    for window in (1, 4):
        order = Order(spans, readers=1, batch_size=10 * window, window=window, seed=5)
        mixed = [{item // 10 for item in batch} for batch in epoch(order, 0, 1)[0]]
        assert [len(found) for found in mixed] == [window] * (8 // window)
    within = [np.diff(batch).tolist() for batch in epoch(Order(spans, readers=1, batch_size=10), 0, 1)[0]]
    assert all(set(steps) != {1} for steps in within)


@pytest.mark.parametrize(
    ("sizes", "settings", "said"),
    [
        (
            [8] * 3,
            {"readers": 4, "batch_size": 4},
            "enough for 4 readers (ranks times workers) in batches of 4, found 3",
        ),
        ([40, 1], {"readers": 2, "batch_size": 4}, "found 2 of 41 items"),
        ([3] * 4, {"readers": 2, "batch_size": 7, "drop_last": True}, "in batches of 7"),
        ([8], {"readers": 1, "batch_size": 0}, "batch_size to be at least 1, found 0"),
        ([8], {"readers": 1, "batch_size": 1, "seed": -1}, "seed to be at least 0, found -1"),
        ([8], {"readers": 1, "batch_size": 1, "window": 0}, "window to be at least 1, found 0"),
        ([8], {"readers": 0, "batch_size": 1}, "number of readers to be at least 1, found 0"),
    ],
)
def test_what_cannot_be_dealt_is_refused(sizes: list[int], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError) as refused:
        Order(groups(sizes), **settings)
    assert said in str(refused.value)
