"""A dataset is read, bit for bit, by the libraries people have: docs/reading.md, and every row by each of them."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import duckdb
import mlcroissant
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import ray

import handmade
import reprobatch
from conftest import ROOT
from reprobatch.record import Output

PAGE = (ROOT / "docs" / "reading.md").read_text()
BLOCKS = [
    pytest.param("\n" * PAGE.count("\n", 0, found.start(2)) + found[2], id=found[1])
    for found in re.finditer(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
]
LIBRARIES = {"datasets", "duckdb", "mlcroissant", "pandas", "polars", "pyarrow", "ray", "torch"}
COLUMNS = {"guidance": "double", "odd 'name'": "string", "quick": "bool", "steps": "int64"}


def execute(code: str) -> None:
    """Run a block of the page, which has to assert something."""
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(code))), "the block asserts nothing"
    exec(compile(code, "docs/reading.md", "exec"), {"__name__": "reading"})


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``datasets`` as HF_HUB_OFFLINE and HF_DATASETS_OFFLINE set it, its cache in the test's own folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def local_ray() -> Iterator[None]:
    yield
    ray.shutdown()


@pytest.mark.parametrize("code", BLOCKS)
def test_block_of_the_page_runs_as_it_stands(
    code: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_ray: None
) -> None:
    (tmp_path / "digits").symlink_to(digits)
    monkeypatch.chdir(tmp_path)
    execute(code)


def test_page_shows_every_library_and_no_block_of_it_is_left_out() -> None:
    assert len(BLOCKS) == PAGE.count("```python")
    nodes = [node for block in BLOCKS for node in ast.walk(ast.parse(str(block.values[0])))]
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in named} >= LIBRARIES


@pytest.mark.parametrize("code", ["print()", "assert False", "assert True\nraise ValueError"])
def test_a_block_that_fails_or_asserts_nothing_is_noticed(code: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        execute(code)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of bfloat16 and of two shapes, every type of column, missing values, awkward text."""
    texts = ['quote " and \\', "line\nbreak", "é 😀", None]
    items = [
        {"guidance": at / 3, "odd 'name'": texts[at % 4], "quick": [True, False, None][at % 3], "steps": 2**62 + at}
        for at in range(40)
    ]
    noise = np.random.default_rng(1).bytes(40 * 12)
    outputs = [Output("bfloat16", ((2, 3), (6,))[at % 2], noise[at * 12 : at * 12 + 12]) for at in range(40)]
    folder = tmp_path_factory.mktemp("odd") / "odd"
    return handmade.write(folder, handmade.job(COLUMNS, 40, dtype="bfloat16"), items, outputs)


def by_pyarrow(root: Path) -> list[dict[str, Any]]:
    return pyarrow.dataset.dataset(root / "data").to_table().to_pylist()


def by_pandas(root: Path) -> list[dict[str, Any]]:
    frame = pd.read_parquet(root / "data")
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def by_polars(root: Path) -> list[dict[str, Any]]:
    return pl.read_parquet(root / "data" / "*.parquet").to_dicts()


def by_duckdb(root: Path) -> list[dict[str, Any]]:
    found = duckdb.read_parquet(str(root / "data" / "*.parquet"))
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def by_datasets(root: Path) -> list[dict[str, Any]]:
    return list(datasets.load_dataset(str(root), split="train"))


def by_datasets_as_a_stream(root: Path) -> list[dict[str, Any]]:
    return list(datasets.load_dataset(str(root), split="train", streaming=True))


@pytest.mark.parametrize("name", ["digits", "odd"])
@pytest.mark.parametrize(
    "read",
    [by_pyarrow, by_pandas, by_polars, by_duckdb, by_datasets, by_datasets_as_a_stream],
    ids=lambda f: f.__name__,
)
def test_every_value_of_every_row_comes_back(
    read: Callable[[Path], list[dict[str, Any]]], name: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(name)
    found = sorted(read(root), key=lambda row: row["index"])
    expected = [
        {
            "index": item.index,
            "seed": item.seed,
            "batch": item.batch,
            "slot": item.slot,
            **item.row.item,
            "dtype": item.dtype,
            "shape": list(item.shape),
            "latents": item.output.data,
            "checksum": item.checksum,
        }
        for item in reprobatch.open(root)
    ]
    assert [{**row, "shape": list(row["shape"])} for row in found] == expected
    assert [list(row) for row in found] == [list(row) for row in expected]


def test_croissant_gives_the_same_rows_with_text_as_bytes(odd: Path) -> None:
    records = mlcroissant.Dataset(odd / "croissant.json").records("items")
    found = {row["items/index"]: row for row in records}
    assert sorted(found) == list(range(40))
    for item in reprobatch.open(odd):
        row, text = found[item.index], item.row.item["odd 'name'"]
        assert (
            reprobatch.checksum(row["items/dtype"].decode(), row["items/shape"], row["items/latents"]) == item.checksum
        )
        assert row["items/5"] == (None if text is None else text.encode())
        own = {name: row[f"items/{name}"] for name in ("guidance", "quick", "steps")}
        assert own == {name: item.row.item[name] for name in own}


FILTERS: dict[str, Callable[[str], list[tuple[int, ...]]]] = {
    "pyarrow": lambda files: (
        pyarrow.dataset.dataset(Path(files).parent)
        .to_table(columns=["seed"], filter=pyarrow.dataset.field("index") == 20)["seed"]
        .to_pylist()
    ),
    "polars": lambda files: pl.scan_parquet(files).filter(pl.col("index") == 20).collect()["seed"].to_list(),
    "duckdb": lambda files: [seed for (seed,) in duckdb.sql(f"SELECT seed FROM '{files}' WHERE index = 20").fetchall()],
}


@pytest.mark.parametrize("library", FILTERS)
def test_a_filter_on_index_reads_only_the_row_groups_that_can_hold_it(library: str, odd: Path, tmp_path: Path) -> None:
    """Shown by making the pages of all others unreadable; footers, which hold the statistics, are left."""
    shutil.copytree(odd / "data", tmp_path / "data")
    for name in ("shard-000000.parquet", "shard-000002.parquet"):
        path = tmp_path / "data" / name
        data = bytearray(path.read_bytes())
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        data[4:footer] = b"\xff" * (footer - 4)
        path.write_bytes(data)
    with pytest.raises(Exception, match=r"."):
        by_pyarrow(tmp_path)
    assert FILTERS[library](str(tmp_path / "data" / "*.parquet")) == [7 * 20]


def test_arrow_tensors_are_refused_by_datasets_and_lose_their_shape_elsewhere(tmp_path: Path) -> None:
    """Why outputs are plain bytes."""
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype="f4").reshape(2, 2, 3))
    pq.write_table(pa.table({"latents": tensors}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"fixed_shape_tensor.* does not have a datasets dtype"):
        datasets.load_dataset(str(tmp_path), split="train")
    assert pd.read_parquet(tmp_path / "a.parquet")["latents"][0].shape == (6,)
    assert duckdb.read_parquet(str(tmp_path / "a.parquet")).fetchall()[0] == ([0, 1, 2, 3, 4, 5],)
