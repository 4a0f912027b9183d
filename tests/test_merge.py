"""Parts made apart, put together: the bytes of one run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import DIGITS, SMALL, data, reprobatch
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, EnvironmentDiffers, JobError, RunFailed
from reprobatch.merge import merge


@pytest.fixture
def parts(digits: Path, tmp_path: Path) -> list[Path]:
    """The digits in two parts, as two clusters leave them; one shard is in both."""
    made = []
    for name, shards in (("one", [0, 1, 2]), ("two", [2, 3, 4])):
        part = tmp_path / name
        shutil.copytree(digits, part, ignore=shutil.ignore_patterns("SHA256SUMS", "shard-*"))
        entries = json.loads((digits / "manifest.json").read_text())
        (part / "manifest.json").write_text(
            json.dumps({k: v for k, v in entries.items() if k not in ("root", "files")})
        )
        for shard in shards:
            shutil.copy(digits / "data" / f"shard-00000{shard}.parquet", part / "data")
        made.append(part)
    return made


def change(part: Path, **entries: object) -> None:
    path = part / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_a_run_of_a_part_makes_its_shards_and_merged_they_are_one_run(digits: Path, tmp_path: Path) -> None:
    made = reprobatch("run", DIGITS, "--out", tmp_path / "first", "--part", "1/2", "--json", *SMALL)
    outcome = json.loads(made.stdout)
    assert (outcome["items"], outcome["made"], outcome["root"]) == (32, 32, None)
    first = data(tmp_path / "first")
    assert list(first) == ["shard-000000.parquet", "shard-000001.parquet"] and first.items() <= data(digits).items()
    merged = reprobatch("merge", tmp_path / "first", digits, "--out", tmp_path / "d", "--json")
    assert json.loads(merged.stdout)["root"] == json.loads((digits / "manifest.json").read_text())["root"]
    for path in digits.rglob("*"):
        if path.is_file() and path.parent.name != "log":
            assert (tmp_path / "d" / path.relative_to(digits)).read_bytes() == path.read_bytes(), path.name


def test_shards_that_several_parts_hold_have_to_be_equal(parts: list[Path], tmp_path: Path) -> None:
    root = merge([Dataset(part) for part in parts], tmp_path / "d")
    assert root == Dataset(tmp_path / "d").manifest["root"]
    assert Dataset(tmp_path / "d").store.get("SHA256SUMS")


def test_missing_shards_are_named_and_the_rest_is_kept(parts: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"expected 5 shards in all parts together, found 2 missing; first: .*000003"):
        merge([Dataset(parts[0])], tmp_path / "d")
    assert len(data(tmp_path / "d")) == 3 and "root" not in Dataset(tmp_path / "d").manifest
    assert merge([Dataset(parts[1])], tmp_path / "d")


def test_a_damaged_shard_is_not_copied(parts: list[Path], tmp_path: Path) -> None:
    path = parts[1] / "data" / "shard-000004.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[300] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"shard-000004\.parquet"):
        merge([Dataset(part) for part in parts], tmp_path / "d")
    assert "shard-000004.parquet" not in data(tmp_path / "d")


def test_parts_of_different_jobs_are_refused_with_what_differs(parts: list[Path], tmp_path: Path) -> None:
    job = json.loads((parts[1] / "job.json").read_text())
    (parts[1] / "job.json").write_text(json.dumps({**job, "master_seed": 1}))
    with pytest.raises(JobError, match="master_seed: 20261123 here, 1 there"):
        merge([Dataset(part) for part in parts], tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_parts_of_machines_that_give_other_bits_are_refused(parts: list[Path], tmp_path: Path) -> None:
    facts = json.loads((parts[1] / "manifest.json").read_text())["environment"]
    change(parts[1], canary={"checksum": "0" * 64}, environment={**facts, "python": "2.7"})
    with pytest.raises(EnvironmentDiffers, match=r"another canary than .*python: 2.7"):
        merge([Dataset(part) for part in parts], tmp_path / "d")


def test_merging_into_another_datasets_place_is_refused(parts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.txt").write_text("mine")
    with pytest.raises(JobError, match="found something else at"):
        merge([Dataset(part) for part in parts], tmp_path / "d")


@pytest.mark.parametrize("part", ["0/2", "3/2", "1/6", "half", "1", "-1/2", "1/0"])
def test_a_part_that_is_none_is_refused(part: str, tmp_path: Path) -> None:
    done = reprobatch("run", DIGITS, "--out", tmp_path / "d", f"--part={part}", *SMALL, check=False)
    assert done.returncode == 2 and "expected" in done.stderr and "Traceback" not in done.stderr
