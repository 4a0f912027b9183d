"""Spot checks: a seeded, recorded sample, what it reads, and what it proves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import cluster
from conftest import reprobatch
from reprobatch.dataset import Dataset
from reprobatch.sampling import bound, by_batch, check, choose
from reprobatch.store import shard_name


@pytest.fixture
def copy(digits: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits, tmp_path / "copy"))


def test_a_sample_is_chosen_by_the_root_or_by_a_seed_of_ones_own(digits: Path) -> None:
    dataset = Dataset(digits)
    by_root = choose(dataset, 10)
    assert by_root.seed == dataset.manifest["root"] and by_root.indices == choose(dataset, 10).indices
    assert by_root.indices == sorted(set(by_root.indices)) and len(by_root.indices) == 10
    assert choose(dataset, 10, "mine").indices == [9, 19, 20, 26, 30, 33, 37, 40, 48, 56]
    assert choose(dataset, 1000, "mine").indices == list(range(70))


@pytest.mark.parametrize(
    ("items", "total", "said"),
    [
        (1, 100, "with 95 % confidence fewer than 100.0% of all do"),
        (30, 1000, "with 95 % confidence fewer than 10.0% of all do"),
        (3000, 10**8, "with 95 % confidence fewer than 0.1% of all do"),
        (70, 70, "none of all does"),
    ],
)
def test_what_a_sample_proves(items: int, total: int, said: str) -> None:
    assert bound(items, total) == said


def test_the_bound_is_that_of_the_binomial_distribution() -> None:
    """Were a share of 3/N damaged, a sample of N would miss them all in fewer than 5 % of cases."""
    for items in (10, 100, 10_000):
        assert (1 - 3 / items) ** items < 0.05


def test_every_row_of_an_untouched_dataset_is_sound(digits: Path) -> None:
    dataset = Dataset(digits)
    assert check(dataset, choose(dataset, 1000)) == []


@pytest.mark.parametrize("kind", ["unreadable", "missing", "foreign", "seed", "checksum"])
def test_damage_to_a_looked_at_item_is_named(copy: Path, kind: str) -> None:
    path, job = copy / shard_name(1), copy / "job.json"
    facts = json.loads(job.read_text())
    if kind == "unreadable":
        content = bytearray(path.read_bytes())
        content[4000] ^= 1
        path.write_bytes(content)
    elif kind == "missing":
        path.unlink()
    elif kind == "foreign":
        job.write_text(json.dumps({**facts, "name": "another"}))
    elif kind == "seed":
        job.write_text(json.dumps({**facts, "master_seed": 5}))
    else:
        _rewrite(path)
    dataset = Dataset(copy)
    problems = check(dataset, choose(dataset, 70))
    assert kind in {problem.kind for problem in problems}
    assert {problem.shard for problem in problems if problem.kind == kind} >= {1}


def _rewrite(path: Path) -> None:
    """A forger's work: other bytes under the old checksum, pages and footer in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    latents = [bytes(len(value)) for value in table["latents"].to_pylist()]
    at = table.schema.get_field_index("latents")
    changed = table.set_column(at, "latents", pa.array(latents, pa.binary()))
    file = pq.ParquetFile(path)
    footer = {k.decode(): v.decode() for k, v in file.metadata.metadata.items() if k != b"ARROW:schema"}
    with pq.ParquetWriter(path, table.schema.remove_metadata()) as writer:
        writer.write_table(changed.replace_schema_metadata(None))
        writer.add_key_value_metadata(footer)


def test_items_of_one_batch_are_made_again_together(digits: Path) -> None:
    assert list(by_batch(Dataset(digits), [0, 7, 8, 15, 16, 69])) == [[0, 7], [8, 15], [16], [69]]


def test_the_command_says_what_was_looked_at_and_what_that_proves(digits: Path, copy: Path) -> None:
    sound = reprobatch("verify", digits, "--sample", 30, "--seed", "mine", "--json")
    facts = json.loads(sound.stdout)
    assert facts["verdict"] == "sound" and facts["items"] == 30 and facts["sample"]["seed"] == "mine"
    assert len(facts["sample"]["indices"]) == 30
    (copy / shard_name(2)).unlink()
    damaged = reprobatch("verify", copy, "--sample", 70, check=False)
    assert (
        damaged.returncode == 1 and "data/shard-000002.parquet: item 32: missing: expected this item" in damaged.stdout
    )


def test_a_cluster_checks_and_makes_again_what_one_machine_would(digits: Path, copy: Path) -> None:
    content = bytearray((copy / shard_name(4)).read_bytes())
    content[5000] ^= 1
    (copy / shard_name(4)).write_bytes(content)
    with cluster.nodes({}, {}) as nodes:
        spread = ["--json", "--address", nodes.address]
        made = json.loads(reprobatch("verify", digits, "--regenerate", 12, *spread).stdout)
        damaged = reprobatch("verify", copy, *spread, check=False)
    here = json.loads(reprobatch("verify", copy, "--json", check=False).stdout)
    assert made["verdict"] == "intact" and made["regenerated"]["differ"] == []
    assert len(made["regenerated"]["sample"]["indices"]) == 12 and made["regenerated"]["canary"]["agrees"]
    assert damaged.returncode == 1 and json.loads(damaged.stdout) == here
