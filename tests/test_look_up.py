"""One item out of many: what a look-up opens and reads does not grow with the dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synthetic
from reprobatch.dataset import Dataset
from reprobatch.folder import FolderStore
from reprobatch.record import GROUP_BYTES, Output
from reprobatch.store import shard_name

MEGABYTE = 1 << 20


def output(index: int) -> Output:
    return Output("float32", (4, 256, 256), np.full(4 * 256 * 256, index, "<f4").tobytes())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 items of a megabyte in three shards of thirty: row groups of six, as a batch is of three."""
    return synthetic.made(tmp_path_factory.mktemp("large") / "d", shard=30, of=output)


def bytes_read() -> int:
    """Bytes that this process asked the system for, threads included (``rchar`` of proc(5))."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("index", [0, 29, 30, 47, 69])
def test_a_look_up_opens_one_file_and_reads_one_row_group(
    large: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    opened: list[str] = []
    open_file = FolderStore.open

    def counted(self: FolderStore, name: str) -> Any:
        opened.append(name)
        return open_file(self, name)

    monkeypatch.setattr(FolderStore, "open", counted)
    dataset = Dataset(large)
    assert dataset.plan.shards == 3
    before = bytes_read()
    row, batch = dataset.look_up(index)
    read = bytes_read() - before
    assert opened == [shard_name(index // 30)]
    assert row.output == output(index) and [r.index for r in batch] == [
        index - index % 3 + k for k in range(len(batch))
    ]
    group = 6 * MEGABYTE if index < 66 else 4 * MEGABYTE
    assert GROUP_BYTES < 6 * MEGABYTE
    assert group <= read < group + MEGABYTE  # and the footer


def test_the_checksums_of_a_shard_are_read_without_its_outputs(large: Path) -> None:
    dataset = Dataset(large)
    dataset.checksums(0)
    before = bytes_read()
    assert dataset.checksums(1)[0] == output(30).checksum
    assert bytes_read() - before < MEGABYTE / 4
