"""Items for torch.utils.data, and a sampler by which each row group is read once in an epoch."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import handmade
import reprobatch
from reprobatch import record, torch_data
from reprobatch.errors import DataError, JobError
from reprobatch.record import Output
from reprobatch.torch_data import ShardSampler, TorchDataset

ITEMS = 90  # 6 shards of 16, row groups of 8 items and, at the end, of 2


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 bfloat16 outputs in 12 row groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "GROUP_BYTES", 64)
        noise = np.random.default_rng(2).integers(0, 0x7F00, (ITEMS, 6), np.uint16)  # finite numbers of bfloat16
        outputs = [Output("bfloat16", (2, 3), values.astype("<u2").tobytes()) for values in noise]
        items = [{"label": at % 10, "prompt": f"é {at}"} for at in range(ITEMS)]
        made = handmade.job({"label": "int64", "prompt": "string"}, ITEMS, dtype="bfloat16")
        return handmade.write(tmp_path_factory.mktemp("small") / "small", made, items, outputs)


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[tuple[int, int, int]]]:
    """What was read since it was last asked, by forked workers too: process, shard, row group."""
    log, real = tmp_path / "reads", torch_data._read
    log.touch()

    def counted(dataset: Any, shard: int, group: int) -> Any:
        with log.open("a") as file:
            file.write(f"{os.getpid()} {shard} {group}\n")
        return real(dataset, shard, group)

    def since() -> list[tuple[int, int, int]]:
        lines = log.read_text().splitlines()
        log.write_text("")
        return [tuple(map(int, line.split())) for line in lines]  # type: ignore[misc]

    monkeypatch.setattr(torch_data, "_read", counted)
    return since


def indices(loader: DataLoader[Any]) -> list[int]:
    return [int(index) for batch in loader for index in batch["index"]]


@pytest.mark.parametrize("name", ["digits", "small"])
def test_items_are_the_datasets_own(name: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(name)
    dataset, plain = TorchDataset(root), reprobatch.open(root)
    assert len(dataset) == len(plain)
    for item, expected in zip(dataset, plain, strict=True):
        tensor = item.pop("latents")
        assert tensor.dtype == getattr(torch, expected.dtype) and tuple(tensor.shape) == expected.shape
        assert bytes(tensor.view(torch.uint8).flatten().tolist()) == expected.output.data
        assert item == {"index": expected.index, "seed": expected.seed, **expected.row.item}


def test_items_are_asked_for_like_those_of_a_list(small: Path) -> None:
    dataset = TorchDataset(small)
    assert dataset[-1]["index"] == 89 and dataset[torch.tensor(3)]["index"] == 3
    for index in (90, -91):
        with pytest.raises(IndexError, match=rf"expected an index within 0 … 89, found {index}"):
            dataset[index]
    assert [item["index"] for item in dataset.__getitems__([40, 3, 40, -1])] == [40, 3, 40, 89]


def test_a_tensor_owns_its_memory(small: Path) -> None:
    dataset = TorchDataset(small)
    dataset[5]["latents"].zero_()
    assert torch.equal(dataset[5]["latents"], reprobatch.open(small)[5].tensor)


def test_items_asked_for_together_are_read_with_their_row_groups_once(
    small: Path, reads: Callable[[], list[Any]]
) -> None:
    dataset = TorchDataset(small, held=1)
    wanted = [0, 80, 7, 81, 24, 1, 31, 0]
    assert [item["index"] for item in dataset.__getitems__(wanted)] == wanted
    assert [read[1:] for read in reads()] == [(0, 0), (5, 0), (1, 1)]
    dataset.__getitems__([25, 0])  # row group (1, 1) is held, (0, 0) is not
    assert [read[1:] for read in reads()] == [(0, 0)]


def test_transform_makes_the_item(small: Path) -> None:
    dataset = TorchDataset(small, lambda item: (item["latents"].float() * 2, item["label"]))
    doubled, labels = next(iter(DataLoader(dataset, batch_size=5)))
    assert doubled.shape == (5, 2, 3) and labels.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(doubled[4], reprobatch.open(small)[4].tensor.float() * 2)


def test_default_collation_stacks_tensors_of_their_dtype(small: Path) -> None:
    batch = next(iter(DataLoader(TorchDataset(small), batch_size=3)))
    assert batch["latents"].dtype == torch.bfloat16 and batch["latents"].shape == (3, 2, 3)
    assert batch["prompt"] == ["é 0", "é 1", "é 2"] and batch["seed"].tolist() == [0, 7, 14]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_epoch_reads_each_row_group_once_in_one_worker_of_one_rank(
    workers: int, small: Path, reads: Callable[[], list[Any]]
) -> None:
    seen, lengths = [], set()
    for rank in range(2):
        dataset = TorchDataset(small, held=2)
        sampler = ShardSampler(dataset, 7, seed=3, rank=rank, world_size=2, workers=workers)
        loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers)
        sampler.set_epoch(1)
        seen += indices(loader)
        lengths |= {len(loader), len(list(sampler))}
    read = reads()
    assert sorted(seen) == list(range(ITEMS)) and seen != sorted(seen)
    assert len(lengths) == 1
    assert Counter(place[1:] for place in read) == {(s, g): 1 for s in range(6) for g in range(2)}
    assert len({process for process, *_ in read}) == 2 * workers or not workers


def test_workers_other_than_told_read_more_and_give_the_same(small: Path, reads: Callable[[], list[Any]]) -> None:
    dataset = TorchDataset(small)
    sampler = ShardSampler(dataset, 4, workers=1)
    told = indices(DataLoader(dataset, batch_sampler=sampler))
    assert len(reads()) == 12
    assert indices(DataLoader(dataset, batch_sampler=sampler, num_workers=2)) == told
    assert len(reads()) > 12


def test_every_epoch_has_an_order_of_its_own_and_the_same_number_of_batches(small: Path) -> None:
    dataset = TorchDataset(small)
    sampler = ShardSampler(dataset, 8, seed=1)
    epochs = []
    for number in (0, 1, 2, 1):
        sampler.set_epoch(number)
        epochs.append(list(sampler))
        assert len(epochs[-1]) == len(sampler) == 12
    assert epochs[1] == epochs[3] and epochs[0] != epochs[1] != epochs[2]
    assert list(ShardSampler(dataset, 8, seed=2)) != epochs[0]


def test_drop_last_gives_full_batches_only(small: Path) -> None:
    sampler = ShardSampler(TorchDataset(small), 8, rank=1, world_size=2, drop_last=True)
    assert [len(batch) for batch in sampler] == [8] * len(sampler)


def test_rank_and_world_size_are_those_of_torch_distributed(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = ShardSampler(TorchDataset(small), 8)
    assert (alone.rank, alone.world_size) == (0, 1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    sampler = ShardSampler(TorchDataset(small), 8)
    assert (sampler.rank, sampler.world_size) == (2, 3)
    assert list(sampler) == list(ShardSampler(TorchDataset(small), 8, rank=2, world_size=3))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rank": 2, "world_size": 2}, "expected a rank within 0 … 1, found 2"),
        ({"workers": -1}, "expected workers to be num_workers of the DataLoader, found -1"),
        ({"world_size": 4, "workers": 4}, "expected row groups enough for 16 readers"),
    ],
)
def test_a_sampler_that_cannot_be_is_refused(arguments: dict[str, int], said: str, small: Path) -> None:
    with pytest.raises(JobError, match=said):
        ShardSampler(TorchDataset(small), 4, **arguments)  # type: ignore[arg-type]


def test_an_epoch_before_the_first_is_refused(small: Path) -> None:
    with pytest.raises(JobError, match="expected an epoch of 0 or more, found -1"):
        ShardSampler(TorchDataset(small), 4).set_epoch(-1)


def test_each_worker_opens_the_dataset_for_itself_and_nothing_stays_open(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "opened"

    class Opened(reprobatch.Dataset):
        def __init__(self, root: Path | str) -> None:
            super().__init__(root)
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")

    monkeypatch.setattr(torch_data, "Dataset", Opened)
    dataset = TorchDataset(small, lambda item: [os.readlink(f) for f in Path("/proc/self/fd").iterdir() if f.exists()])
    pids = [set(pid) for pid in [log.read_text().split()]]
    files = [name for found in DataLoader(dataset, batch_size=None, num_workers=2) for name in found]
    opened = log.read_text().split()
    assert len(opened) == len(set(opened)) == 3 and pids[0] == {str(os.getpid())}
    assert files and not any(".parquet" in name for name in files)


def test_a_dataset_travels_to_other_processes_without_what_it_has_read(small: Path) -> None:
    """``tests/test_bucket.py`` reads from a spawned one."""
    dataset = TorchDataset(small)
    dataset[0]
    travelling = pickle.dumps(dataset)
    assert len(travelling) < 2000 and pickle.loads(travelling)[89]["index"] == 89


def test_a_dataset_that_grew_is_read_across_its_segments(small: Path, tmp_path: Path) -> None:
    """As if 24 of its items had been made first: the second shard is short, and others begin behind it."""
    whole = reprobatch.open(small)
    items, outputs = [item.row.item for item in whole], [item.output for item in whole]
    columns = whole.job.items.columns
    old, new = (handmade.job(columns, count, dtype="bfloat16") for count in (24, ITEMS))
    root = handmade.write(tmp_path / "grown", new, items, outputs, starts=(0, 24))
    segment = {"start": 0, "stop": 24, "job_digest": old.digest, "root": "0" * 64, "items": old.as_dict()["items"]}
    (root / "manifest.json").write_text(json.dumps({"segments": [segment]}))
    dataset = TorchDataset(root)
    assert [item["label"] for item in dataset] == [item["label"] for item in TorchDataset(small)]
    assert sorted(itertools.chain(*ShardSampler(dataset, 8, workers=2))) == list(range(ITEMS))
    assert dataset.row_groups()[:3] == [range(16), range(16, 24), range(24, 40)]


def test_damage_and_missing_shards_are_named(small: Path, tmp_path: Path) -> None:
    root = shutil.copytree(small, tmp_path / "copy")
    path = root / "data" / "shard-000001.parquet"
    data = bytearray(path.read_bytes())
    at = data.index(reprobatch.open(small)[17].output.data)
    data[at] ^= 1
    path.write_bytes(data)
    dataset = TorchDataset(root)
    with pytest.raises(DataError, match=r"shard-000001.parquet: row group 0 is damaged"):
        list(DataLoader(dataset, batch_size=4))
    (root / "data" / "shard-000002.parquet").unlink()
    with pytest.raises(DataError, match=r"shard-000002.parquet: expected this shard, found none"):
        dataset[40]
    with pytest.raises(DataError, match=r"shard-000002.parquet"):
        ShardSampler(dataset, 4)


def test_a_shard_of_another_dataset_in_the_place_of_one_is_noticed(small: Path, tmp_path: Path) -> None:
    root = shutil.copytree(small, tmp_path / "copy")
    shutil.copy(root / "data" / "shard-000000.parquet", root / "data" / "shard-000001.parquet")
    with pytest.raises(DataError, match=r"shard-000001.parquet: expected item 16 in row group 0, found 0"):
        TorchDataset(root)[16]
    shutil.copy(root / "data" / "shard-000005.parquet", root / "data" / "shard-000001.parquet")
    with pytest.raises(DataError, match=r"shard-000001.parquet: expected 16 rows, found 10"):
        TorchDataset(root)[16]


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="expected a dataset"):
        TorchDataset(tmp_path)
    with pytest.raises(JobError, match="expected held, the row groups kept in memory, to be at least 1, found 0"):
        TorchDataset(tmp_path, held=0)
