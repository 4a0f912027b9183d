"""The row format: golden bytes, every dtype, and row groups of whole batches."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reprobatch import record
from reprobatch.errors import DataError
from reprobatch.outputs import by_slot, to_tensor
from reprobatch.record import Output, Row, ShardWriter, rows_of

GOLDEN = Path(__file__).parent / "golden"
COLUMNS = {"prompt": "string", "guidance_scale": "double"}


def _rows(count: int, batch_size: int, size: int = 4) -> list[Row]:
    return [
        Row(
            100 + at,
            7 * at,
            at // batch_size,
            at % batch_size,
            {"prompt": f"é {at}", "guidance_scale": 1.5},
            Output("float32", (size,), np.arange(at, at + size, dtype="<f4").tobytes()),
        )
        for at in range(count)
    ]


def _shard(rows: list[Row], batch_size: int, also: Sequence[str] = ()) -> bytes:
    writer = ShardWriter(COLUMNS, "latents", "a" * 64, 3, "permute32-v1", also=also)
    for at in range(0, len(rows), batch_size):
        writer.add(rows[at : at + batch_size])
    return b"".join(writer.finish()[0])


def test_checksum_covers_dtype_shape_and_bytes() -> None:
    data = bytes(range(16))
    golden = json.loads((GOLDEN / "checksum.json").read_text())
    assert record.checksum("float32", (2, 2), data) == golden["float32 2,2"]
    assert golden["float32 2,2"] == hashlib.sha256(b"float32\n2,2\n" + data).hexdigest()
    others = {record.checksum(*args) for args in (("float32", (4,), data), ("float16", (2, 4), data))}
    assert len(others | {golden["float32 2,2"]}) == 3


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "uint8"])
def test_every_dtype_comes_back_exactly(dtype: str) -> None:
    made = (torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1)) * 40).to(getattr(torch, dtype))
    first, second = by_slot(made, 2)
    assert (first.dtype, first.shape) == (dtype, (3, 4))
    assert torch.equal(to_tensor(first), made[0]) and torch.equal(to_tensor(second), made[1])
    assert np.array_equal(first.numpy(), made[0].float().numpy() if dtype == "bfloat16" else made[0].numpy())


def test_non_contiguous_and_list_outputs_keep_their_values() -> None:
    made = torch.arange(24.0).reshape(2, 3, 4).transpose(1, 2)
    assert torch.equal(to_tensor(by_slot(made, 2)[1]), made[1])
    arrays = [np.full((2, 2), value, np.float32) for value in (1, 2)]
    assert np.array_equal(by_slot(arrays, 2)[1].numpy(), arrays[1])


def test_bytes_that_fit_no_shape_are_refused() -> None:
    with pytest.raises(DataError, match="expected 16 bytes"):
        Output("float32", (2, 2), b"123")


@given(st.integers(1, 40), st.integers(1, 9))
def test_rows_read_back_are_the_rows_written(count: int, batch_size: int) -> None:
    rows = _rows(count, batch_size)
    table = pq.read_table(io.BytesIO(_shard(rows, batch_size)))
    assert rows_of(table, COLUMNS, "latents") == rows


def test_row_groups_hold_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "GROUP_BYTES", 100)
    data = _shard(_rows(20, 4), 4)  # 16 bytes an item, 64 a batch: two batches a group
    metadata = pq.read_metadata(io.BytesIO(data))
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [8, 8, 4]


def test_shard_bytes_are_the_golden_ones() -> None:
    """Other bytes mean another pyarrow or another format: the first is re-pinned, the second is a new id."""
    import pyarrow

    golden = json.loads((GOLDEN / "shard.json").read_text())
    assert pyarrow.__version__ == golden["pyarrow"], "the golden belongs to the pinned pyarrow of constraints.txt"
    assert hashlib.sha256(_shard(_rows(20, 4), 4)).hexdigest() == golden["sha256"]


def test_a_shard_of_several_outputs_is_the_golden_one() -> None:
    golden = json.loads((GOLDEN / "shard-several.json").read_text())
    rows = [
        replace(row, output=replace(row.output, also={"decoded": Output("uint8", (1, 2), bytes([row.index % 256, 7]))}))
        for row in _rows(20, 4)
    ]
    assert rows[3].checksum == golden["checksum of item 103"]
    assert hashlib.sha256(_shard(rows, 4, also=["decoded"])).hexdigest() == golden["sha256"]


def test_footer_names_format_job_shard_seeds_and_compact_range() -> None:
    metadata = pq.read_metadata(io.BytesIO(_shard(_rows(5, 4), 4))).metadata
    entries = {k.decode(): v.decode() for k, v in metadata.items()}
    assert entries["reprobatch.format"] == "reprobatch-shard/1"
    assert (entries["reprobatch.job"], entries["reprobatch.shard"]) == ("a" * 64, "3")
    assert entries["reprobatch.seeds"] == "permute32-v1" and entries["reprobatch.merkle"].startswith("100:105:")
