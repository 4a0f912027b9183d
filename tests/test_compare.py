"""compare lays two datasets side by side: which items are the same, how far apart the others are, what is not there.

Datasets are written here as a worker would write them, without one: what an item's values are is then
known, and plain numpy says what must come out.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from conftest import reprobatch
from reprobatch import cli, record, verdict
from reprobatch.compare import compare, pairs, stretches
from reprobatch.dataset import Dataset
from reprobatch.distances import FINE, WORST, Histogram, Statistics, Sums, measure
from reprobatch.errors import DataError, JobError
from reprobatch.folder import FolderStore
from reprobatch.job import ResolvedJob, ResolvedPipeline
from reprobatch.jobitems import ResolvedItems
from reprobatch.record import ITEM_SIZE, Output, Row, ShardWriter
from reprobatch.settings import Tolerance
from reprobatch.store import shard_name

NAN, INF = float("nan"), float("inf")
PERMANENT = {"identical", "within", "different", "linf", "rms", "cosine", "missing", "worst", "histogram"}
PERMANENT |= {"seeds_differ", "job_differs", "environment_differs"}

reproducibly = settings(deadline=None, derandomize=True)


def output(dtype: str, values: Any) -> Output:
    """Values as an output of that dtype; bfloat16 is the upper half of a float32."""
    if dtype == "bfloat16":
        data = (np.array(values, "<f4").view("<u4") >> 16).astype("<u2")
    else:
        data = np.array(values, np.dtype(dtype).newbyteorder("<"))
    return Output(dtype, data.shape, data.tobytes())


def floats(count: int, seed: int = 0) -> list[Output]:
    """So many outputs of four float32 values."""
    values = np.random.default_rng(seed).standard_normal((count, 4))
    return [output("float32", row) for row in values]


def job(count: int, batch_size: int, shard_size: int, **changes: Any) -> ResolvedJob:
    return ResolvedJob(
        name="hand-made",
        master_seed=changes.pop("master_seed", 1),
        pipeline=ResolvedPipeline(model="none", class_name="None", model_digest="0" * 64),
        items=ResolvedItems(source=None, count=count, repeat=1, grid=[], columns={}, batched=[], metadata=[]),
        batch_size=batch_size,
        shard_size=shard_size,
        **changes,
    )


def write(
    folder: Path,
    outputs: Sequence[Output],
    *,
    batch_size: int = 4,
    shard_size: int = 8,
    count: int | None = None,
    seeds: Callable[[int], int] = lambda index: 7 * index,
    manifest: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A dataset with these outputs, of a job of ``count`` items (all by default)."""
    made = job(count or len(outputs), batch_size, shard_size, **changes)
    store = FolderStore(folder)
    store.create()
    store.replace("job.json", made.canonical.encode())
    if manifest is not None:
        store.replace("manifest.json", json.dumps(manifest).encode())
    for start in range(0, len(outputs), shard_size):
        number = start // shard_size
        writer = ShardWriter({}, made.column, made.digest, number, made.seed_scheme)
        for first in range(start, min(start + shard_size, len(outputs)), batch_size):
            batch = range(first, min(first + batch_size, start + shard_size, len(outputs)))
            writer.add([Row(i, seeds(i), (first - start) // batch_size, i - first, {}, outputs[i]) for i in batch])
        store.put_new(shard_name(number), writer.finish()[0])
    return folder


def facts(a: Path, b: Path, atol: float | None = None, rtol: float = 0.0) -> dict[str, Any]:
    """What is found, as JSON and back, by which no NaN or infinity passes."""
    tolerance = None if atol is None else Tolerance(atol=atol, rtol=rtol)
    found = compare(Dataset(a), Dataset(b), tolerance).facts()
    return dict(json.loads(json.dumps(found, allow_nan=False)))


def counts(found: dict[str, Any]) -> tuple[int, int, int]:
    return found["identical"], found["within"], found["different"]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs ``compare`` in this process: exit code, stdout, stderr."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["compare", *map(str, arguments)])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    yield run
    signal.signal(signal.SIGTERM, before)


# Two items: the verdict is that of verdict.compare, and values are compared across dtypes


@pytest.mark.parametrize(
    ("a", "b", "atol", "rtol", "expected", "linf", "rms", "cosine"),
    [
        # the same bits
        (output("float32", [1, 2]), output("float32", [1, 2]), 0, 0, "identical", 0.0, 0.0, 1.0),
        (output("float32", [NAN, 2]), output("float32", [NAN, 2]), 0, 0, "identical", 0.0, 0.0, 1.0),
        (output("float32", [0, 0]), output("float32", [0, 0]), 0, 0, "identical", 0.0, 0.0, 1.0),
        (output("float32", []), output("float32", []), 0, 0, "identical", 0.0, 0.0, 1.0),
        # other bits of equal values: never identical, within as soon as anything is allowed
        (output("float32", [0.0]), output("float32", [-0.0]), 0, 0, "different", 0.0, 0.0, 1.0),
        (output("float32", [0.0]), output("float32", [-0.0]), 1e-9, 0, "within", 0.0, 0.0, 1.0),
        (output("float32", [1, 2]), output("bfloat16", [1, 2]), 0, 0, "different", 0.0, 0.0, 1.0),
        (output("float32", [1, 2]), output("bfloat16", [1, 2]), 1e-9, 0, "within", 0.0, 0.0, 1.0),
        (output("float16", [0]), output("bfloat16", [0]), 0, 0, "different", 0.0, 0.0, 1.0),
        (output("uint8", []), output("float32", []), 0, 0, "different", 0.0, 0.0, 1.0),
        # other values
        (output("float32", [3, 4]), output("float32", [3, 3]), 0, 0, "different", 1.0, 0.5**0.5, 21 / (5 * 18**0.5)),
        (output("float32", [3, 4]), output("float32", [-3, -4]), 0, 0, "different", 8.0, 50**0.5, -1.0),
        (output("float32", [3, 4]), output("float32", [0, 0]), 9, 0, "within", 4.0, 12.5**0.5, None),
        (output("float32", [2, 4]), output("float32", [3, 6]), 0, 0.5, "within", 2.0, 2.5**0.5, 1.0),
        (output("float32", [3, 6]), output("float32", [2, 4]), 0, 0.25, "different", 2.0, 2.5**0.5, 1.0),
        (output("float32", [1]), output("bfloat16", [1 + 2**-7]), 0.01, 0, "within", 2.0**-7, 2.0**-7, 1.0),
        (output("uint8", [0, 255]), output("uint8", [255, 0]), 0, 0, "different", 255.0, 255.0, 0.0),
        (output("uint8", [0]), output("int16", [-1]), 1, 0, "within", 1.0, 1.0, None),
        (output("int16", [-32768]), output("int16", [32767]), 0, 0, "different", 65535.0, 65535.0, -1.0),
        (output("float64", [1e200]), output("float64", [0]), 0, 0, "different", 1e200, None, None),
        # values that cannot be subtracted
        (output("float32", [NAN]), output("float32", [1]), 1e9, 0, "different", None, None, None),
        (output("float32", [INF, 1]), output("float32", [INF, 2]), 1e9, 0, "different", None, None, None),
        (output("float32", [NAN]), output("bfloat16", [NAN]), 1e9, 0, "different", None, None, None),
        (output("float64", [1.7e308]), output("float64", [-1.7e308]), 1, 0, "different", None, None, None),
        (output("float32", [1, 2]), output("float32", [[1, 2]]), 1e9, 0, "different", None, None, None),
        (output("float32", [1]), output("float32", 1.0), 1e9, 0, "different", None, None, None),
        (output("float32", [1]), output("bfloat16", [1, 2]), 1e9, 0, "different", None, None, None),
    ],
)
def test_two_items(
    a: Output,
    b: Output,
    atol: float,
    rtol: float,
    expected: str,
    linf: float | None,
    rms: float | None,
    cosine: float | None,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        statistics = Statistics(atol, rtol)
        distance = statistics.add(0, a, b)
        found = statistics.summary()
    assert (distance.verdict, distance.linf) == (expected, linf)
    close = [None if value is None else pytest.approx(value, rel=1e-12, abs=0) for value in (linf, rms, cosine)]
    assert [found["linf"], found["rms"], found["cosine"]] == close
    assert counts(found) == tuple(int(name == expected) for name in ("identical", "within", "different"))
    assert (distance.why is None) == (linf is not None)


@st.composite
def outputs(draw: st.DrawFn) -> tuple[Output, Output]:
    """Any two outputs of one dtype and shape, NaN and infinities included, often the same but for a bit."""
    dtype = draw(st.sampled_from(sorted(ITEM_SIZE)))
    size = ITEM_SIZE[dtype] * draw(st.integers(1, 4))
    one = draw(st.binary(min_size=size, max_size=size))
    other = draw(st.binary(min_size=size, max_size=size))
    if draw(st.booleans()):
        flipped = bytearray(one)
        flipped[draw(st.integers(0, size - 1))] ^= 1 << draw(st.integers(0, 7))
        other = bytes(flipped)
    shape = (size // ITEM_SIZE[dtype],)
    return Output(dtype, shape, one), Output(dtype, shape, other)


@reproducibly
@given(outputs(), st.sampled_from([0.0, 1e-3, 1.0]), st.sampled_from([0.0, 1e-3, 1.0]))
def test_verdict_and_linf_of_one_dtype_are_those_of_the_verdict_of_a_regenerated_item(
    two: tuple[Output, Output], atol: float, rtol: float
) -> None:
    expected, found = verdict.compare(*two, atol, rtol), measure(*two, atol, rtol)
    assert (found.verdict, found.linf) == (expected.verdict, expected.linf)


# Many items: what runs along is what numpy says of all of them at once


def tables() -> st.SearchStrategy[np.ndarray]:
    """A and B: an array of [2, items, elements], float32, finite."""
    shape = st.tuples(st.just(2), st.integers(1, 30), st.integers(1, 6))
    return arrays.arrays(np.float32, shape, elements=st.floats(-(2.0**100), 2.0**100, width=32))


def statistics_of(table: np.ndarray, **tolerance: float) -> Statistics:
    statistics = Statistics(**tolerance)
    for index, (a, b) in enumerate(zip(table[0], table[1], strict=True)):
        statistics.add(index, output("float32", a), output("float32", b))
    return statistics


@reproducibly
@given(tables())
def test_running_statistics_are_those_of_all_values_in_one_vector(table: np.ndarray) -> None:
    found = statistics_of(table).summary()
    a, b = (side.astype(np.float64).ravel() for side in table)
    assert found["linf"] == np.abs(a - b).max()
    assert found["rms"] == pytest.approx(np.sqrt(np.mean((a - b) ** 2)), rel=1e-12)
    if (a == b).all():
        assert found["cosine"] == 1.0
    elif np.linalg.norm(a) * np.linalg.norm(b) == 0:
        assert found["cosine"] is None
    else:
        assert found["cosine"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)


@reproducibly
@given(tables(), st.floats(0, 1e30), st.floats(0, 2))
def test_counts_are_those_of_numpy(table: np.ndarray, atol: float, rtol: float) -> None:
    a, b = table.astype(np.float64)
    same = (table[0].view(np.uint32) == table[1].view(np.uint32)).all(axis=1)
    close = bool(atol or rtol) & (np.abs(a - b) <= atol + rtol * np.abs(a)).all(axis=1)
    expected = same.sum(), (close & ~same).sum(), (~close & ~same).sum()
    assert counts(statistics_of(table, atol=atol, rtol=rtol).summary()) == expected


@reproducibly
@given(tables())
def test_worst_items_are_the_furthest_apart_and_of_equals_the_first(table: np.ndarray) -> None:
    linf = np.abs(table[0].astype(np.float64) - table[1]).max(axis=1)
    other = (table[0].view(np.uint32) != table[1].view(np.uint32)).any(axis=1)
    order = [index for index in np.lexsort((np.arange(len(linf)), -linf)) if other[index]]
    worst = statistics_of(table).summary()["worst"]
    assert [item["index"] for item in worst] == order[:WORST]
    assert [item["linf"] for item in worst] == [linf[index] for index in order[:WORST]]


@reproducibly
@given(st.lists(st.floats(0, allow_infinity=False), min_size=1, max_size=60), st.floats(0, 1, exclude_min=True))
def test_quantiles_are_numpys_and_at_most_a_bucket_above(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = float(np.quantile(values, share, method="inverted_cdf"))
    found = histogram.quantile(share)
    assert found is not None
    below = 1 - 1e-9 if exact > 1e-300 else 0  # so far down a float has few digits left
    assert exact * below <= found <= max(exact * 10 ** (1 / FINE) * (1 + 1e-9), exact + 1e-300)


@reproducibly
@given(st.lists(st.floats(1e-300, 1e300)))
def test_buckets_are_decades_and_hold_every_item_once(values: list[float]) -> None:
    histogram = Histogram()
    for value in [*values, 0.0, None]:
        histogram.add(value)
    buckets = histogram.buckets()
    assert sum(items for _, _, items in buckets) == len(values)
    assert (histogram.zero, histogram.none) == (1, 1)
    assert [low for low, _, _ in buckets] == sorted({low for low, _, _ in buckets})
    rounding = 1e-12
    for low, high, items in buckets:
        inside = sum(low * (1 + rounding) <= value < high * (1 - rounding) for value in values)
        around = sum(low * (1 - rounding) <= value < high * (1 + rounding) for value in values)
        assert inside <= items <= around and high == pytest.approx(10 * low)


@pytest.mark.parametrize("linf", [5e-324, sys.float_info.min, sys.float_info.max])
def test_the_smallest_and_the_largest_float_have_a_bucket(linf: float) -> None:
    histogram = Histogram()
    histogram.add(linf)
    ((low, high, items),) = histogram.buckets()
    assert low <= linf <= high < INF and items == 1
    assert histogram.quantile(0.5) == linf


def test_of_no_items_there_are_no_figures() -> None:
    found = Statistics().summary()
    assert counts(found) == (0, 0, 0) and found["worst"] == []
    assert [found["linf"], found["rms"], found["cosine"]] == [None] * 3
    assert found["quantiles"] == {"p50": None, "p90": None, "p99": None}
    assert found["histogram"] == {"zero": 0, "none": 0, "buckets": []}


def test_sums_too_large_for_a_float_are_told_as_none() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sums = Sums.of(np.array([1e300]), np.array([-1e300])) + Sums(1, 1.0, 1.0, 1.0, 1.0)
        assert (sums.rms, sums.cosine) == (None, None)


# Two datasets


@pytest.mark.parametrize("sizes", [(4, 8), (4, 4), (1, 1), (3, 9), (5, 100), (64, 64)])
@pytest.mark.parametrize("group_bytes", [1, 100, 4 << 20])
def test_shard_batch_and_row_group_sizes_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int], group_bytes: int
) -> None:
    one, other = floats(37, 1), floats(37, 2)
    other[5], other[36] = one[5], one[36]
    a = write(tmp_path / "a", one)
    monkeypatch.setattr(record, "GROUP_BYTES", group_bytes)
    b = write(tmp_path / "b", other, batch_size=sizes[0], shard_size=sizes[1])
    found = facts(a, b)
    assert counts(found) == (2, 0, 35) and found["missing"] == {"a": 0, "b": 0}
    values = [np.stack([o.numpy().astype(np.float64) for o in side]) for side in (one, other)]
    assert found["linf"] == np.abs(values[0] - values[1]).max()
    assert found["rms"] == pytest.approx(np.sqrt(np.mean((values[0] - values[1]) ** 2)), rel=1e-12)
    assert [(s.start, s.stop) for s, _ in pairs(Dataset(a), Dataset(b))] == [
        (s.start, s.stop) for _, s in pairs(Dataset(a), Dataset(b))
    ]


def test_a_dataset_is_identical_to_itself(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", floats(20))
    found = facts(folder, folder)
    assert counts(found) == (20, 0, 0) and found["worst"] == []
    assert (found["linf"], found["rms"], found["cosine"]) == (0.0, 0.0, 1.0)


def test_worst_items_are_told_with_index_figures_and_both_checksums(tmp_path: Path) -> None:
    one = [output("float32", [3, 4])] * 12
    other = [output("float32", [3, 4 + index]) for index in range(12)]
    worst = facts(write(tmp_path / "a", one), write(tmp_path / "b", other))["worst"]
    assert [item["index"] for item in worst] == list(range(11, 1, -1))
    assert worst[0] == {
        "index": 11,
        "verdict": "different",
        "linf": 11.0,
        "rms": pytest.approx(60.5**0.5),
        "cosine": pytest.approx(69 / (5 * 234**0.5)),
        "checksums": {"a": one[11].checksum, "b": other[11].checksum},
        "why": None,
    }


def test_items_without_an_linf_come_first_and_leave_the_whole_without(tmp_path: Path) -> None:
    one = [output("float32", [1, 2]) for _ in range(4)]
    other = [
        output("float32", [1, 9]),
        output("float32", [1, NAN]),
        output("float32", [1, 2, 3]),
        output("float32", [1, 2]),
    ]
    found = facts(write(tmp_path / "a", one), write(tmp_path / "b", other), atol=1e9)
    assert counts(found) == (1, 1, 2)
    assert [found["linf"], found["rms"], found["cosine"]] == [None] * 3
    assert found["measured"]["items"] == 2 and found["measured"]["linf"] == 7.0
    assert [(item["index"], item["why"]) for item in found["worst"]] == [
        (1, "values that are not finite"),
        (2, "shapes [2] and [3]"),
        (0, None),
    ]
    assert found["histogram"]["none"] == 2 and found["histogram"]["zero"] == 1


def test_float32_against_bfloat16_is_compared_by_value(tmp_path: Path) -> None:
    values = np.random.default_rng(3).standard_normal((20, 16)).astype("<f4")
    a = write(tmp_path / "a", [output("float32", row) for row in values])
    b = write(tmp_path / "b", [output("bfloat16", row) for row in values])
    cut = (values.view("<u4") >> 16 << 16).view("<f4")
    found = facts(a, b)
    assert counts(found) == (0, 0, 20) and found["linf"] == np.abs(values.astype("f8") - cut).max()
    assert counts(facts(a, b, atol=0, rtol=2**-7)) == (0, 20, 0)


@pytest.mark.parametrize(("dtype", "other", "linf"), [("uint8", 255, 255.0), ("int16", -32768, 32768.0)])
def test_whole_numbers_do_not_wrap(tmp_path: Path, dtype: str, other: int, linf: float) -> None:
    a = write(tmp_path / "a", [output(dtype, [0, 1])] * 3)
    b = write(tmp_path / "b", [output(dtype, [0, 1]), output(dtype, [other, 1]), output(dtype, [0, 1])])
    assert facts(a, b)["linf"] == linf and counts(facts(b, a)) == (2, 0, 1)


def test_columns_of_other_names_are_compared_all_the_same(tmp_path: Path) -> None:
    latents = write(tmp_path / "a", floats(9))
    pixels = write(tmp_path / "b", floats(9), output="pixels")
    assert counts(facts(latents, pixels)) == (9, 0, 0)


def test_items_from_other_seeds_are_counted(tmp_path: Path) -> None:
    a = write(tmp_path / "a", floats(10))
    b = write(tmp_path / "b", floats(10), seeds=lambda index: 7 * index + (index == 3) + (index == 9))
    assert facts(a, b)["seeds_differ"] == 2 and facts(a, a)["seeds_differ"] == 0


def test_tolerance_is_that_of_the_job_of_a(tmp_path: Path) -> None:
    one = [output("float32", [1.0])] * 4
    other = [output("float32", [1.25])] * 4
    a = write(tmp_path / "a", one, tolerance=Tolerance(atol=0.25))
    b = write(tmp_path / "b", other, tolerance=Tolerance(rtol=0.1))
    assert counts(facts(a, b)) == (0, 4, 0)
    assert counts(facts(b, a)) == (0, 0, 4)
    assert counts(facts(a, b, atol=0.2)) == (0, 0, 4)


@pytest.mark.parametrize("atol", [NAN, INF])
def test_a_tolerance_that_is_not_finite_is_refused(tmp_path: Path, atol: float) -> None:
    a = Dataset(write(tmp_path / "a", floats(2)))
    with pytest.raises(JobError, match="finite tolerance"):
        compare(a, a, Tolerance().model_copy(update={"atol": atol}))


# What is not there


def test_items_that_one_dataset_has_more_of_are_missing_in_the_other(tmp_path: Path) -> None:
    a = write(tmp_path / "a", floats(30)[:13])
    b = write(tmp_path / "b", floats(30), batch_size=3, shard_size=6)
    found = facts(a, b)
    assert found["missing"] == {"a": 17, "b": 0} and counts(found) == (13, 0, 0)
    assert facts(b, a)["missing"] == {"a": 0, "b": 17}


def test_items_of_a_shard_that_is_not_there_are_missing(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", floats(30)), write(tmp_path / "b", floats(30), batch_size=3, shard_size=6)
    (a / shard_name(1)).unlink()  # items 8 … 15
    (b / shard_name(2)).unlink()  # items 12 … 17
    found = facts(a, b)
    assert found["missing"] == {"a": 8, "b": 6} and counts(found) == (30 - 10, 0, 0)


def test_an_incomplete_dataset_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", floats(20)[:8], count=20), write(tmp_path / "b", floats(20))
    found = facts(a, b)
    assert found["missing"] == {"a": 12, "b": 0} and counts(found) == (8, 0, 0)


def test_where_nothing_is_there_nothing_is_equal(tmp_path: Path, said: Callable[..., tuple[int, str, str]]) -> None:
    a, b = write(tmp_path / "a", [], count=20), write(tmp_path / "b", [], count=30)
    code, out, _ = said(a, b, "--json", "--plot", tmp_path / "apart.png")
    found = json.loads(out)
    assert code == 1 and found["missing"] == {"a": 30, "b": 30}
    assert found["linf"] is None and found["measured"]["items"] == 0
    code, out, _ = said(a, b)
    assert code == 1 and "missing: 30 items in A, 30 in B" in out


# What is damaged


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(floats(20)[8].data)] ^= 4
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _neighbour(path: Path) -> None:
    shutil.copy(path.parent / "shard-000000.parquet", path)


def _rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    with pq.ParquetFile(path) as file:
        table = file.read()
    pq.write_table(change(table), path)


def _short(path: Path) -> None:
    _rewrite(path, lambda table: table.slice(0, 5))


def _turned(path: Path) -> None:
    _rewrite(path, lambda table: table.take(list(range(table.num_rows))[::-1]))


def _twice(path: Path) -> None:
    _rewrite(path, lambda table: pa.concat_tables([table, table.slice(7)]))


def _unknown_dtype(path: Path) -> None:
    at = record.schema({}, "latents").get_field_index("dtype")
    _rewrite(path, lambda table: table.set_column(at, "dtype", pa.array(["float31"] * len(table))))


def _no_rows(path: Path) -> None:
    _rewrite(path, lambda table: table.slice(0, 0))


@pytest.mark.parametrize("damage", [_flip, _cut, _empty, _neighbour, _short, _turned, _twice, _unknown_dtype, _no_rows])
@pytest.mark.parametrize("side", ["a", "b"])
def test_a_damaged_shard_is_said_in_one_line_that_names_dataset_and_shard(
    tmp_path: Path, said: Callable[..., tuple[int, str, str]], damage: Callable[[Path], None], side: str
) -> None:
    for name in "ab":
        write(tmp_path / name, floats(20))
    damage(tmp_path / side / shard_name(1))
    code, out, err = said(tmp_path / "a", tmp_path / "b", "--json")
    last = err.strip().splitlines()[-1]
    assert code == 1 and last.startswith(f"reprobatch: {tmp_path / side}: {shard_name(1)}: "), err
    assert json.loads(out)["kind"] == "DataError"


def test_no_flipped_bit_of_a_shard_passes_as_identical(tmp_path: Path) -> None:
    """It is damage, or an item that differs; never nothing, but in the footer and what no reader looks at."""
    a, b = write(tmp_path / "a", floats(8)), write(tmp_path / "b", floats(8))
    path = b / shard_name(0)
    original = path.read_bytes()
    begin = original.index(floats(8)[0].data)
    dice = random.Random(7)
    for _ in range(40):
        data = bytearray(original)
        at = begin + dice.randrange(8 * 20 - 4)  # eight lengths and outputs
        data[at] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"b: data/shard-000000\.parquet: row group 0 is damaged"):
            facts(a, b)


def test_a_manifest_that_is_no_json_is_named(tmp_path: Path, said: Callable[..., tuple[int, str, str]]) -> None:
    a, b = write(tmp_path / "a", floats(4)), write(tmp_path / "b", floats(4))
    (b / "manifest.json").write_text("{")
    code, _, err = said(a, b)
    assert code == 1 and err.startswith(f"reprobatch: {b}: manifest.json: expected JSON")


# The command


def test_exit_code_is_zero_where_all_are_identical_or_within(
    tmp_path: Path, said: Callable[..., tuple[int, str, str]]
) -> None:
    one = [output("float32", [1.0])] * 4
    a, b = write(tmp_path / "a", one), write(tmp_path / "b", [output("float32", [1.25]), *one[1:]])
    assert [said(a, a)[0], said(a, b)[0], said(a, b, "--atol", 0.2)[0]] == [0, 1, 1]
    assert [said(a, b, "--atol", 0.25)[0], said(a, b, "--rtol", 0.25)[0]] == [0, 0]


def test_a_flag_overrides_its_own_half_of_the_tolerance(
    tmp_path: Path, said: Callable[..., tuple[int, str, str]]
) -> None:
    a = write(tmp_path / "a", floats(2), tolerance=Tolerance(atol=0.5, rtol=0.25))
    assert json.loads(said(a, a, "--json", "--atol", 0)[1])["tolerance"] == {"atol": 0.0, "rtol": 0.25}
    assert json.loads(said(a, a, "--json")[1])["tolerance"] == {"atol": 0.5, "rtol": 0.25}


def test_json_has_the_permanent_keys_and_is_all_there_is_on_stdout(
    tmp_path: Path, said: Callable[..., tuple[int, str, str]]
) -> None:
    a, b = write(tmp_path / "a", floats(9, 1)), write(tmp_path / "b", floats(9, 2), master_seed=2)
    found = json.loads(said(a, b, "--json")[1], parse_constant=_no_constant)
    assert found.keys() >= PERMANENT
    assert found["job_differs"] == ["master_seed: 1 here, 2 there"]


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


def test_people_are_told_first_what_differs_between_the_jobs_and_the_machines(
    tmp_path: Path, said: Callable[..., tuple[int, str, str]]
) -> None:
    a = write(tmp_path / "a", floats(9), manifest={"environment": {"cpu": "EPYC", "os": "Linux"}})
    b = write(tmp_path / "b", floats(9), manifest={"environment": {"cpu": "Xeon", "os": "Linux"}}, batch_size=8)
    code, out, _ = said(a, b)
    assert code == 0
    assert out.splitlines() == [
        f"jobs differ (here {a}, there {b}):",
        "  batch_size: 4 here, 8 there",
        f"environments differ (first {a}, recorded {b}):",
        "  cpu: EPYC, recorded: Xeon",
        "9 identical, 0 within, 0 different (atol 0, rtol 0)",
        "L_inf 0, RMS 0, cosine 1.0",
    ]
    unknown = write(tmp_path / "c", floats(9))
    assert json.loads(said(unknown, b, "--json")[1])["environment_differs"] == ["known of B only"]


def test_people_see_the_distribution_and_the_worst(tmp_path: Path, said: Callable[..., tuple[int, str, str]]) -> None:
    one = [output("float32", [1.0])] * 6
    apart = [1.0, 1.001, 1.002, 1.5, NAN]
    other = [*(output("float32", [value]) for value in apart), output("float32", [1.0, 1.0])]
    a, b = write(tmp_path / "a", one), write(tmp_path / "b", other, seeds=lambda index: index)
    out = said(a, b)[1]
    assert "2 items have no L_inf (other shapes, or values that are not finite)" in out
    assert "5 items have other seeds in A than in B: they started from other noise" in out
    for line in ("              0         1 #", "  1e-03 … 1e-02         2 #", "  1e-01 … 1e+00         1 #"):
        assert line in out
    assert "(shapes [1] and [2])" in out and one[0].checksum[:12] in out


@pytest.mark.parametrize("which", ["a", "b"])
def test_a_folder_that_is_no_dataset_could_not_be_compared(
    tmp_path: Path, said: Callable[..., tuple[int, str, str]], which: str
) -> None:
    for name in {"a", "b"} - {which}:
        write(tmp_path / name, floats(4))
    code, out, err = said(tmp_path / "a", tmp_path / "b")
    assert code == 2 and not out and len(err.splitlines()) == 1
    assert f"expected a dataset with a job.json, found none in '{tmp_path / which}'" in err


@pytest.mark.parametrize("flags", [("--atol", "-1"), ("--rtol", "x"), ("--atol", "nan"), ("--rtol", "inf")])
def test_a_bad_tolerance_could_not_be_compared(
    tmp_path: Path, said: Callable[..., tuple[int, str, str]], flags: tuple[str, str]
) -> None:
    a = write(tmp_path / "a", floats(4))
    code, _, err = said(a, a, *flags)
    assert code == 2 and err.strip().splitlines()[-1].startswith("reprobatch: ")


# The plot


@pytest.mark.parametrize("other", [0, 1])
def test_the_distribution_is_drawn(tmp_path: Path, said: Callable[..., tuple[int, str, str]], other: int) -> None:
    a, b = write(tmp_path / "a $x^", floats(9)), write(tmp_path / "b $_{", floats(9, other))
    code, _, _ = said(a, b, "--plot", tmp_path / "apart.png")
    assert code == other and (tmp_path / "apart.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_says_how_to_install_it(
    tmp_path: Path, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = write(tmp_path / "a", floats(9))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = said(a, a, "--plot", tmp_path / "apart.png")
    assert code == 2 and not out
    assert err == (
        "reprobatch: expected matplotlib for a plot, found none; install it with: pip install 'reprobatch[plot]'\n"
    )


@pytest.mark.parametrize("name", ["apart.pdf", "apart", "nowhere/apart.png", "folder.png"])
def test_a_plot_that_cannot_be_written_is_said_before_anything_is_read(
    tmp_path: Path, said: Callable[..., tuple[int, str, str]], name: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    code, out, err = said(tmp_path / "none", tmp_path / "none", "--plot", tmp_path / name)
    assert code == 2 and not out and name.split("/")[0] in err and "dataset" not in err


# Length


MEASURE = """
import sys
from reprobatch.compare import compare
from reprobatch.dataset import Dataset
report = compare(Dataset(sys.argv[1]), Dataset(sys.argv[2]))
assert report.passed is False and not any(report.missing.values())
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss keeps the parent's
print(int(peak.split()[1]) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_the_datasets(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        values = np.random.default_rng(1).standard_normal((8, 32768)).astype("<f4")
        outs = [Output("float32", (32768,), row.tobytes()) for row in values] * (count // 8)
        a = write(tmp_path / f"a{count}", outs, shard_size=64)
        b = write(tmp_path / f"b{count}", outs[1:] + outs[:1], shard_size=count)  # one shard holds all
        run = [sys.executable, "-c", MEASURE, str(a), str(b)]
        done = subprocess.run(run, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    small, large = peak(96), peak(960)  # 12 and 126 MB a side
    assert large < small + (16 << 20)


def test_a_missing_stretch_is_passed_over_at_once(tmp_path: Path) -> None:
    """No work and no memory an item: a job may have billions of them."""
    a = write(tmp_path / "a", [], count=2**32, shard_size=2**30)
    counted = Counter[str]()
    report = compare(Dataset(a), Dataset(a), on_items=lambda items: counted.update(items=items, calls=1))
    assert report.missing == {"a": 2**32, "b": 2**32} and counted == {"items": 2**32, "calls": 4}
    assert [s.rows for s in stretches(Dataset(a), 2**32)] == [None] * 4


# By the real command


def test_a_dataset_made_by_run_is_compared_without_loading_torch(digits: Path, tmp_path: Path) -> None:
    done = reprobatch("compare", digits, digits, "--json")
    found = json.loads(done.stdout)
    assert counts(found) == (70, 0, 0) and math.isclose(found["cosine"], 1.0)
    assert found["job_differs"] == [] and found["environment_differs"] == []
