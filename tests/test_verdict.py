"""The verdict: identical means the same bits; anything else is told with how far apart the values are."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from reprobatch.record import ITEM_SIZE, Output, checksum
from reprobatch.verdict import compare

NAN, INF = float("nan"), float("inf")


def output(dtype: str, values: Any, shape: tuple[int, ...] | None = None) -> Output:
    """Values as an output of that dtype; bfloat16 is the upper half of a float32."""
    if dtype == "bfloat16":
        data = (np.array(values, "<f4").view("<u4") >> 16).astype("<u2")
    else:
        data = np.array(values, np.dtype(dtype).newbyteorder("<"))
    return Output(dtype, data.shape if shape is None else shape, data.tobytes())


@pytest.mark.parametrize(
    ("dtype", "stored", "computed", "atol", "rtol", "verdict", "linf"),
    [
        # identical: the same bits, whatever the tolerance
        ("float32", [1, 2], [1, 2], 0, 0, "identical", 0.0),
        ("float32", [1, 2], [1, 2], 1, 1, "identical", 0.0),
        ("float32", [0.0], [0.0], 0, 0, "identical", 0.0),
        ("float32", [-0.0], [-0.0], 0, 0, "identical", 0.0),
        ("float32", [NAN, 1], [NAN, 1], 0, 0, "identical", 0.0),
        ("float32", [INF], [INF], 0, 0, "identical", 0.0),
        ("float32", [], [], 0, 0, "identical", 0.0),
        ("float32", 3.0, 3.0, 0, 0, "identical", 0.0),
        ("uint8", [0, 255], [0, 255], 0, 0, "identical", 0.0),
        # other bits, and no tolerance
        ("float32", [1, 2], [1, 2.5], 0, 0, "different", 0.5),
        ("float32", [1, 2], [1, -2], 0, 0, "different", 4.0),
        ("float32", [1], [1 + 2**-23], 0, 0, "different", 2.0**-23),
        ("float32", [0.0], [-0.0], 0, 0, "different", 0.0),
        ("float16", [1], [1 + 2**-10], 0, 0, "different", 2.0**-10),
        ("bfloat16", [1], [1 + 2**-7], 0, 0, "different", 2.0**-7),
        ("bfloat16", [0.0], [-0.0], 0, 0, "different", 0.0),
        ("float64", [1], [1 + 2**-52], 0, 0, "different", 2.0**-52),
        ("uint8", [0], [255], 0, 0, "different", 255.0),
        ("uint8", [255], [0], 0, 0, "different", 255.0),
        ("int16", [-32768], [32767], 0, 0, "different", 65535.0),
        # within: |computed - stored| <= atol + rtol * |stored|, everywhere
        ("float32", [0.0], [-0.0], 1e-9, 0, "within", 0.0),
        ("float32", [1, 2], [1.5, 2], 0.5, 0, "within", 0.5),
        ("float32", [1, 2], [1.5, 2], 0.49, 0, "different", 0.5),
        ("float32", [1, 2], [1.5, 2.75], 0.5, 0, "different", 0.75),
        ("float32", [2, 4], [3, 6], 0, 0.5, "within", 2.0),
        ("float32", [3, 6], [2, 4], 0, 0.25, "different", 2.0),
        ("float32", [-4], [-6], 0, 0.5, "within", 2.0),
        ("float32", [0], [1e-3], 0, 1e3, "different", 1e-3),
        ("float32", [4], [7], 1, 0.5, "within", 3.0),
        ("float16", [60000], [-60000], 1e9, 0, "within", 120000.0),
        ("bfloat16", [1, 2], [1 + 2**-7, 2], 0.01, 0, "within", 2.0**-7),
        # values that cannot be subtracted
        ("float32", [NAN], [1], 1e9, 1e9, "different", None),
        ("float32", [1], [NAN], 1e9, 1e9, "different", None),
        ("float32", [NAN, 1], [NAN, 2], 1e9, 1e9, "different", None),
        ("float32", [INF], [-INF], 1e9, 1e9, "different", None),
        ("float32", [INF, 1], [INF, 2], 1e9, 1e9, "different", None),
        ("float16", [1], [INF], 1e9, 0, "different", None),
        ("bfloat16", [1], [NAN], 1e9, 0, "different", None),
        ("float64", [1.7e308], [-1.7e308], 1, 0, "different", None),
    ],
)
def test_verdicts(
    dtype: str, stored: Any, computed: Any, atol: float, rtol: float, verdict: str, linf: float | None
) -> None:
    one, other = output(dtype, stored), output(dtype, computed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare(one, other, atol, rtol)
    assert found.verdict == verdict
    assert found.linf == (None if linf is None else pytest.approx(linf, rel=1e-6, abs=0))
    assert (found.stored, found.computed) == (one.checksum, other.checksum)


@pytest.mark.parametrize(
    ("stored", "computed"),
    [
        (output("float32", [1, 2]), output("float32", [1])),
        (output("float32", [1, 2, 3, 4]), output("float32", [1, 2, 3, 4], (2, 2))),
        (output("float32", [[1, 2], [3, 4]]), output("float32", [1, 2, 3, 4])),
        (output("float32", [1]), output("float32", 1.0)),
        (output("float32", [1]), output("float64", [1])),
        (output("float16", [1]), output("bfloat16", [1])),
        (output("float16", [0]), output("bfloat16", [0])),
        (output("uint8", []), output("float32", [])),
    ],
)
def test_another_shape_or_dtype_is_different_at_any_tolerance(stored: Output, computed: Output) -> None:
    found = compare(stored, computed, atol=1e9, rtol=1e9)
    assert (found.verdict, found.linf) == ("different", None)
    assert found.stored != found.computed


def test_nan_of_other_bits_is_different() -> None:
    one = Output("float32", (1,), bytes.fromhex("0000c07f"))
    other = Output("float32", (1,), bytes.fromhex("0100c07f"))
    assert np.isnan(one.numpy()).all() and np.isnan(other.numpy()).all()
    found = compare(one, other, atol=1e9)
    assert (found.verdict, found.linf) == ("different", None)


def test_bfloat16_values_are_read_exactly() -> None:
    values = [1.0, -2.5, 3.015625, 2.0**127, 2.0**-126, 0.0]
    assert output("bfloat16", values).numpy().tolist() == values


@pytest.mark.parametrize("dtype", ITEM_SIZE)
def test_every_dtype_of_a_record_can_be_compared(dtype: str) -> None:
    found = compare(output(dtype, [1, 2]), output(dtype, [1, 5]))
    assert (found.verdict, found.linf) == ("different", 3.0)


def test_checksums_told_are_those_that_a_row_keeps() -> None:
    one = output("float32", [[1, 2]])
    assert compare(one, one).stored == checksum("float32", (1, 2), np.array([1, 2], "<f4").tobytes())
