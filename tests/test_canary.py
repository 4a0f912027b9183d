"""A worker that computes other bits is found out before it gets work. On Ray nodes that really differ."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import cluster
from conftest import DIGITS, SMALL, data, reprobatch
from reprobatch.actor import Actor
from reprobatch.claim import claim
from reprobatch.contract import first_batch
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError
from reprobatch.folder import FolderStore
from reprobatch.regenerate import Regenerator
from reprobatch.resolve import load

ODD = {"ATEN_CPU_CAPABILITY": "default"}  # torch's kernels without vector instructions: other bits on any CPU


def begun(digits: Path, out: Path) -> Path:
    """The dataset as it was after its first shard."""
    (out / "data").mkdir(parents=True)
    for name in ("job.json", "README.md", "data/shard-000000.parquet"):
        shutil.copy(digits / name, out / name)
    manifest = json.loads((digits / "manifest.json").read_text())
    del manifest["root"], manifest["files"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


@pytest.fixture(scope="module")
def mixed() -> Iterator[str]:
    with cluster.nodes({}, ODD) as nodes:
        yield nodes.address


def test_a_worker_with_other_bits_is_turned_away_and_the_job_goes_on(digits: Path, tmp_path: Path, mixed: str) -> None:
    out = begun(digits, tmp_path / "d")
    done = reprobatch("run", DIGITS, "--out", out, "--address", mixed, *SMALL)
    assert "turned away" in done.stderr
    assert "torch.cpu_capability: DEFAULT, recorded: " in done.stderr
    assert data(out) == data(digits)
    assert (out / "SHA256SUMS").read_bytes() == (digits / "SHA256SUMS").read_bytes()


def test_where_no_worker_gives_the_recorded_bits_the_run_ends_and_says_so(digits: Path, tmp_path: Path) -> None:
    out = begun(digits, tmp_path / "d")
    with cluster.nodes(ODD) as nodes:
        done = reprobatch("run", DIGITS, "--out", out, "--address", nodes.address, *SMALL, check=False)
    assert done.returncode == 1
    assert "expected workers that give the recorded bits" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(data(out)) == ["shard-000000.parquet"]


def test_environments_many_admits_both_and_records_which_made_each_shard(tmp_path: Path, mixed: str) -> None:
    out = tmp_path / "d"
    changes = ["environments=many", "items.repeat=20", "shard_size=8", "call.num_inference_steps=2"]
    many = [part for change in changes for part in ("-s", change)]
    done = reprobatch("run", DIGITS, "--out", out, "--address", mixed, *many)
    assert "turned away" not in done.stderr
    dataset = Dataset(out)
    known = dataset.manifest["environments"]
    assert {facts["torch"]["cpu_capability"] == "DEFAULT" for facts in known.values()} == {True, False}
    regenerator = Regenerator(dataset)
    here = regenerator.agreement().found
    assert here in known
    made_in = {dataset.footer(shard).environment: shard for shard in range(dataset.plan.shards)}
    assert made_in.keys() <= known.keys()
    for made, shard in made_in.items():
        index = dataset.plan.shard(shard).start
        assert regenerator.agreement(index).agrees == (made == here)
        assert regenerator(index).comparison.verdict == ("identical" if made == here else "different")
    assert json.loads(reprobatch("verify", out, "--json").stdout)["verdict"] == "intact"


def test_regenerate_says_beforehand_that_this_environment_gives_other_bits(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = reprobatch("regenerate", digits, 3, "--json")
    assert "canary agrees" in same.stderr
    assert json.loads(same.stdout)["canary"]["agrees"] is True
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    other = reprobatch("regenerate", digits, 3, "--json", check=False)
    assert other.returncode == 1
    assert "canary differs" in other.stderr and "cpu_capability: DEFAULT" in other.stderr
    found = json.loads(other.stdout)
    assert found["canary"]["agrees"] is False and found["verdict"] == "different" and 0 < found["linf"] < 1e-3
    checked = reprobatch("verify", digits, "--regenerate", 2, check=False)
    assert checked.returncode == 1 and "canary differs" in checked.stderr


def test_a_second_attempt_in_another_environment_is_no_conflict_and_in_the_same_one_it_is(tmp_path: Path) -> None:
    resolved = load(DIGITS, [*SMALL[1::2], "environments=many"])
    claim(FolderStore(tmp_path / "d"), resolved.job, resolved.reader.read)
    batches, items = resolved.plan.batches(0), resolved.reader.read(0, 16)
    actor = Actor()
    actor.load(resolved.job.canonical, None, first_batch(resolved.plan, resolved.reader.read), None)
    first = actor.make(str(tmp_path / "d"), 0, batches, items)
    actor.made_in = "bb" * 32
    second = actor.make(str(tmp_path / "d"), 0, batches, items)
    assert first.new and not second.new
    assert (second.sha256, second.compact, second.items) == (first.sha256, first.compact, first.items)
    actor.made_in = Dataset(tmp_path / "d").footer(0).environment
    with pytest.raises(DataError, match="expected the bytes of the first commit"):
        actor.make(str(tmp_path / "d"), 0, batches, [{"prompt": "a handwritten nine"}] * 16)
