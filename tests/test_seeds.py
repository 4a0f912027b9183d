"""Seeds: distinct within a job, unrelated between jobs, the same for ever.

The golden file was computed from the module's prose by a program of its own; nothing here rewrites it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reprobatch import seeds
from reprobatch.errors import JobError

GOLDEN = Path(__file__).parent / "golden" / f"seeds-{seeds.SCHEME}.json"
JOBS = [0, 1, 5, 20261123, 2**32 + 5, 2**64 + 1, 10**59 + 7]

masters = st.one_of(st.integers(0, 100), st.integers(0, 2**64), st.integers(0, 10**60))
words = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1]))
reproducibly = settings(deadline=None, derandomize=True)


# What is published stays


def test_seeds_are_those_of_the_golden_file() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["scheme"] == seeds.SCHEME
    for job in golden["jobs"]:
        for index, seed in job["seeds"].items():
            assert seeds.derive(int(job["master_seed"]), int(index)) == seed
            assert seeds.invert(int(job["master_seed"]), seed) == int(index)


def test_golden_file_covers_long_master_seeds_and_both_ends() -> None:
    jobs = json.loads(GOLDEN.read_text())["jobs"]
    assert {"0", "1", "20261123", str(2**64 + 1)} <= {job["master_seed"] for job in jobs}
    assert max(len(job["master_seed"]) for job in jobs) == 60
    assert all({"0", "1", str(2**31), str(2**32 - 1)} <= job["seeds"].keys() for job in jobs)


# No two items share a seed


@reproducibly
@given(masters, words)
def test_inverse_undoes_forward_both_ways_round(master: int, value: int) -> None:
    assert seeds.invert(master, seeds.derive(master, value)) == value
    assert seeds.derive(master, seeds.invert(master, value)) == value


@reproducibly
@given(masters, st.integers(1, 32), words)
def test_inverse_undoes_forward_at_every_width(master: int, width: int, value: int) -> None:
    permutation = seeds.Permutation(master, width)
    value %= 2**width
    assert permutation.inverse(permutation.forward(value)) == value


@pytest.mark.parametrize("width", [1, 2, 3, 5, 7, 8, 11, 12, 13, 16])
@pytest.mark.parametrize("master", JOBS)
def test_every_value_is_hit_exactly_once_at_reduced_width(width: int, master: int) -> None:
    permutation = seeds.Permutation(master, width)
    everything = np.arange(2**width)
    mapped = permutation.forward(everything)
    assert np.array_equal(np.sort(mapped), everything)
    assert np.array_equal(permutation.inverse(mapped), everything)


@pytest.mark.parametrize("master", JOBS)
@pytest.mark.parametrize("first", [0, 2**31 - 100_000, 2**32 - 200_000])
def test_a_long_stretch_of_items_has_distinct_seeds_in_range(master: int, first: int) -> None:
    index = np.arange(first, first + 200_000)
    derived = seeds.derive(master, index)
    assert np.unique(derived).size == index.size
    assert derived.min() >= 0
    assert derived.max() < seeds.SPACE
    assert np.array_equal(seeds.invert(master, derived), index)


# One answer, however it is asked for


@reproducibly
@given(masters, hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0), elements=words))
def test_an_array_gives_what_its_elements_give(master: int, index: np.ndarray) -> None:
    derived = seeds.derive(master, index)
    assert isinstance(derived, np.ndarray)
    assert derived.dtype == np.int64
    assert derived.shape == index.shape
    assert derived.reshape(-1).tolist() == [seeds.derive(master, int(value)) for value in index.reshape(-1)]
    assert np.array_equal(seeds.invert(master, derived), index)


@pytest.mark.parametrize("count", [0, 1, seeds._CHUNK - 1, seeds._CHUNK, seeds._CHUNK + 1, 3 * seeds._CHUNK + 5])
def test_chunk_edges_do_not_show(count: int) -> None:
    index = np.arange(count)
    derived = seeds.derive(7, index)
    sample = range(0, count, 997)
    assert [int(derived[at]) for at in sample] == [seeds.derive(7, at) for at in sample]
    if count:
        assert derived[-1] == seeds.derive(7, count - 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, ">i8"])
def test_the_dtype_of_the_indices_does_not_matter(dtype: Any) -> None:
    assert np.array_equal(seeds.derive(3, np.arange(100).astype(dtype)), seeds.derive(3, np.arange(100)))


def test_strided_input_is_read_in_order_and_left_alone() -> None:
    index = np.arange(100_000)
    assert np.array_equal(seeds.derive(3, index[::-7]), seeds.derive(3, index)[::-7])
    assert np.array_equal(index, np.arange(100_000))


def test_a_plain_int_gives_a_plain_int() -> None:
    assert type(seeds.derive(3, 4)) is int
    assert type(seeds.derive(3, np.int64(4))) is int
    assert seeds.derive(3, np.int64(4)) == seeds.derive(3, 4)


# Mixing


def differing_bits(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Share of pairs that differ, for each of 32 bits from the lowest up."""
    octets = (left ^ right).astype("<u4").view(np.uint8).reshape(-1, 4)
    return np.unpackbits(octets, axis=1, bitorder="little").mean(axis=0)


@pytest.mark.parametrize("master", [0, 20261123, 2**64 + 1])
def test_flipping_any_input_bit_flips_every_output_bit_half_the_time(master: int) -> None:
    index = np.random.default_rng(master).integers(0, 2**32, 2**14)
    before = seeds.derive(master, index)
    table = np.array([differing_bits(before, seeds.derive(master, index ^ (1 << bit))) for bit in range(32)])
    assert table.shape == (32, 32)
    # Of 1024 shares of 16384 samples (standard deviation 0.004) the worst strays by 0.014 if all is chance.
    assert abs(table.mean() - 0.5) < 0.002
    assert abs(table - 0.5).max() < 0.025


@pytest.mark.parametrize("master", [0, 20261123, 2**64 + 1])
def test_consecutive_items_have_unrelated_seeds(master: int) -> None:
    derived = seeds.derive(master, np.arange(2**16 + 1))
    assert abs(differing_bits(derived[:-1], derived[1:]) - 0.5).max() < 0.015
    counts = np.bincount(derived >> 24, minlength=256)
    assert abs(counts - 256).max() < 6 * 16


NEIGHBOURS = [(0, 1), (1, 10), (20261123, 20261124), (5, 5 + 2**32), (2**64, 2**64 + 1), (10**59, 10**59 + 1)]


@pytest.mark.parametrize(("one", "other"), NEIGHBOURS)
def test_neighbouring_master_seeds_are_unrelated(one: int, other: int) -> None:
    index = np.arange(100_000)
    left, right = seeds.derive(one, index), seeds.derive(other, index)
    # By chance 100 000 positions hold 0.00002 equal pairs, and 1e10 pairs of positions hold 2.3.
    assert np.count_nonzero(left == right) == 0
    assert np.intersect1d(left, right).size < 12
    assert abs(differing_bits(left, right) - 0.5).max() < 0.01


def test_no_item_of_one_job_is_an_item_of_another_at_a_shift() -> None:
    """What adding would do: seed 0, item 5 equals seed 5, item 0."""
    table = np.array([seeds.derive(master, np.arange(64)) for master in range(64)])
    assert table[0, 5] != table[5, 0]
    assert np.unique(table).size == table.size


def test_every_digit_of_a_master_seed_counts_beyond_the_length_that_str_refuses() -> None:
    longest = 10**5000
    derived = {seeds.derive(longest + low, 0) for low in (0, 1, 10**600, 10**4999)}
    assert len(derived) == 4


def test_a_master_seed_too_long_for_str_follows_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[bytes] = []
    hashed = seeds.hashlib.sha256
    monkeypatch.setattr(seeds.hashlib, "sha256", lambda text: texts.append(text) or hashed(text))
    seeds.Permutation(7 * 10**5000 + 10**600 + 3)
    digits = "7" + "0" * 4399 + "1" + "0" * 599 + "3"
    assert texts == [f"{seeds.SCHEME}:{digits}:{block}".encode() for block in (0, 1)]


# The measured fact behind 32 bits


def noise(seed: int) -> torch.Tensor:
    return torch.randn(64, generator=torch.Generator("cpu").manual_seed(seed))


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
@pytest.mark.parametrize("beyond", [2**32, 2**33 + 2**50])
def test_torch_ignores_all_but_the_low_32_bits_of_a_seed(seed: int, beyond: int) -> None:
    assert torch.equal(noise(seed), noise(seed + beyond))


def test_torch_tells_derived_seeds_apart() -> None:
    drawn = {noise(seed).numpy().tobytes() for seed in seeds.derive(20261123, np.arange(500)).tolist()}
    assert len(drawn) == 500


# Refusals


REFUSED = [
    (0, -1, "index -1 is outside 0 to 4294967295"),
    (0, 2**32, "index 4294967296 is outside 0 to 4294967295"),
    (0, 10**5000, "integer of 16610 bits"),
    (0, np.int64(-3), "index -3 is outside"),
    (0, 1.0, "index must be an integer or an integer array, got float"),
    (0, True, "index must be an integer or an integer array, got bool"),
    (0, np.bool_(True), "index must be an integer or an integer array, got bool"),
    (0, "1", "index must be an integer or an integer array, got str"),
    (0, None, "index must be an integer or an integer array, got NoneType"),
    (0, [1, 2], "index must be an integer or an integer array, got list"),
    (0, np.array([3, 4, -1]), "index -1 at position 2 is outside"),
    (0, np.array([3, 2**32, 2**33]), "index 4294967296 at position 1 is outside"),
    (0, np.array([2**64 - 1], dtype=np.uint64), "index 18446744073709551615 at position 0 is outside"),
    (
        0,
        np.array([1.0]),
        "index array must have an integer dtype with values of 0 to 4294967295, got float64",
    ),
    (0, np.array([True]), "got bool"),
    (0, np.array([2**70]), "got object"),
    (-1, 0, "master_seed must be 0 or more, got -1"),
    (-(10**5000), 0, "master_seed must be 0 or more, got (an integer of 16610 bits)"),
    (True, 0, "master_seed must be an integer of 0 or more, got bool"),
    (1.0, 0, "master_seed must be an integer of 0 or more, got float"),
    ("20261123", 0, "master_seed must be an integer of 0 or more, got str"),
    (None, 0, "master_seed must be an integer of 0 or more, got NoneType"),
]


@pytest.mark.parametrize(("master", "index", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_derive_refuses(master: Any, index: Any, message: str) -> None:
    with pytest.raises(JobError) as refusal:
        seeds.derive(master, index)
    assert message in str(refusal.value)


@pytest.mark.parametrize("index", [2**32, np.array([2**32])])
def test_one_item_too_many_is_refused_with_the_reason_and_the_way_out(index: Any) -> None:
    with pytest.raises(JobError, match=r"low 32 bits .* share its noise .* several jobs") as refusal:
        seeds.derive(0, index)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("seed", [-1, 2**32, np.array([0, 2**32])])
def test_invert_refuses_what_is_no_seed(seed: Any) -> None:
    with pytest.raises(JobError, match=r"seed .*outside 0 to 4294967295"):
        seeds.invert(0, seed)


@pytest.mark.parametrize("width", [0, -1, 33])
def test_a_width_beyond_32_bits_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match="1 to 32 bits"):
        seeds.Permutation(0, width)


def test_a_value_beyond_the_width_is_refused() -> None:
    with pytest.raises(JobError, match="index 256 is outside 0 to 255"):
        seeds.Permutation(0, 8).forward(256)


# Seeds that the items bring along


@pytest.mark.parametrize("good", [[], [0], [0, 2**32 - 1], [7, 7]])
def test_explicit_seeds_within_32_bits_pass(good: list[int]) -> None:
    seeds.validate(np.array(good, dtype=np.int64))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([1, 2**32, -5]), "seed 4294967296 at position 1 is outside 0 to 4294967295"),
        (np.array([1, 2, -5, 2**40]), "seed -5 at position 2 is outside 0 to 4294967295"),
        (np.array([2**63], dtype=np.uint64), "seed 9223372036854775808 at position 0"),
        (np.array([1, 2**64]), "integer dtype with values of 0 to 4294967295, got object"),
        (np.array([1.5]), "integer dtype with values of 0 to 4294967295, got float64"),
    ],
)
def test_explicit_seeds_that_torch_would_shorten_are_refused(bad: np.ndarray, message: str) -> None:
    with pytest.raises(JobError) as refusal:
        seeds.validate(bad)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("given_seeds", "pairs"),
    [
        ([], []),
        ([4], []),
        ([4, 5, 6], []),
        ([4, 4], [(0, 1)]),
        ([4, 4, 4, 4], [(0, 1)]),
        ([9, 1, 2, 1, 9, 1], [(1, 3), (0, 4)]),
        ([8, 8, 7, 7, 6, 6], [(0, 1), (2, 3), (4, 5)]),
    ],
)
def test_repeated_seeds_are_named_once_in_reading_order(given_seeds: list[int], pairs: list[tuple[int, int]]) -> None:
    assert seeds.repeated(np.array(given_seeds, dtype=np.int64)) == pairs


@reproducibly
@given(st.lists(st.integers(0, 12), max_size=60))
def test_repeated_agrees_with_reading_from_the_top(given_seeds: list[int]) -> None:
    positions: dict[int, list[int]] = {}
    for position, seed in enumerate(given_seeds):
        positions.setdefault(seed, []).append(position)
    twice = [(found[0], found[1]) for found in positions.values() if len(found) > 1]
    expected = sorted(twice, key=lambda pair: pair[1])[:10]
    assert seeds.repeated(np.array(given_seeds, dtype=np.int64)) == expected


def test_derived_seeds_pass_both_checks() -> None:
    derived = seeds.derive(20261123, np.arange(100_000))
    seeds.validate(derived)
    assert seeds.repeated(derived) == []
