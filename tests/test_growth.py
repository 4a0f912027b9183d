"""More items at the end of a dataset: nothing is touched of what is there, and the new root covers both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import DIGITS, ROOT, SMALL, data, reprobatch
from making import make, resolved
from reprobatch import croissant, manifest
from reprobatch.card import dataset_card
from reprobatch.claim import claim
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError
from reprobatch.folder import FolderStore
from reprobatch.regenerate import Regenerator
from reprobatch.verification import verify

FEW = SMALL[1::2]
PROMPTS = (ROOT / "jobs" / "prompts" / "digits.txt").read_text().splitlines()


def prompts(folder: Path, lines: list[str]) -> str:
    path = folder / "digits.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return f"items.prompts={path}"


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """The first five prompts: 35 items, and a last batch of three that was padded."""
    folder = tmp_path_factory.mktemp("five")
    out = folder / "d"
    job = resolved(*FEW, prompts(folder, PROMPTS[:5]))
    claim(FolderStore(out), job.job, job.reader.read)
    known = json.loads((digits / "manifest.json").read_text())
    manifest.write(FolderStore(out), {name: known[name] for name in ("canary", "environment", "contract")})
    make(job, out)
    return out


@pytest.fixture
def begun(five: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(five, tmp_path / "d"))


def test_a_grown_dataset_keeps_its_shards_and_has_the_root_of_one_run(
    begun: Path, tmp_path: Path, digits: Path
) -> None:
    before = data(begun)
    made = reprobatch("run", DIGITS, "--out", begun, "--json", *SMALL, "-s", prompts(tmp_path, PROMPTS))
    assert "the dataset grows by 35 items" in made.stderr
    outcome = json.loads(made.stdout)
    assert (outcome["items"], outcome["made"]) == (70, 35)
    after = data(begun)
    assert after.items() >= before.items() and len(after) == len(before) + 3
    # the items' bits do not depend on their neighbours here, so that segments do not show in the root
    assert outcome["root"] == json.loads((digits / "manifest.json").read_text())["root"]
    dataset, whole = Dataset(begun), Dataset(digits)
    assert [item.checksum for item in dataset] == [item.checksum for item in whole]
    assert all(dataset[index].checksum == whole[index].checksum for index in (0, 34, 35, 69))
    assert verify(dataset).verdict == "intact"
    again = Regenerator(dataset)
    assert [again(index).comparison.verdict for index in (34, 35)] == ["identical"] * 2
    assert json.loads(reprobatch("status", begun, "--json").stdout)["shards"]["done"] == 6


@pytest.mark.parametrize(
    ("lines", "changes", "said"),
    [
        ([*PROMPTS[:4], "another", *PROMPTS[5:]], (), 'found item 28 with prompt "another" here, "a handwritten four"'),
        (PROMPTS[:4], (), "items.count: 28 here, 35 there"),
        (PROMPTS, ("master_seed=1",), "master_seed: 1 here, 20261123 there"),
        (PROMPTS, ("shard_size=32",), "shard_size: 32 here, 16 there"),
        (PROMPTS, ("items.repeat=8",), "items.repeat: 8 here, 7 there"),
        (PROMPTS, ("call.guidance_scale=2.0",), "call.guidance_scale: 2.0 here, 4.0 there"),
        (PROMPTS, ("items.grid={height: [16, 32]}",), "items.grid"),
    ],
)
def test_what_is_no_growth_is_refused_with_what_differs(
    begun: Path, tmp_path: Path, lines: list[str], changes: tuple[str, ...], said: str
) -> None:
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    job = resolved(*FEW, prompts(tmp_path, lines), *changes)
    with pytest.raises(JobError) as error:
        claim(FolderStore(begun), job.job, job.reader.read)
    assert said in str(error.value)
    assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before


def test_an_incomplete_dataset_is_completed_before_it_grows(begun: Path, tmp_path: Path) -> None:
    entries = json.loads((begun / "manifest.json").read_text())
    del entries["root"]
    (begun / "manifest.json").write_text(json.dumps(entries))
    job = resolved(*FEW, prompts(tmp_path, PROMPTS))
    with pytest.raises(JobError, match="complete it with its own job first"):
        claim(FolderStore(begun), job.job, job.reader.read)


@pytest.mark.parametrize("last", ["manifest.json", "job.json"])
def test_growth_that_was_cut_off_begins_again(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """Cut off after the manifest, and after the job, was written."""
    put = FolderStore.replace
    job = resolved(*FEW, prompts(tmp_path, PROMPTS))

    def cut(self: FolderStore, name: str, content: bytes) -> None:
        put(self, name, content)
        if name == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(FolderStore, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        claim(FolderStore(begun), job.job, job.reader.read)
    monkeypatch.setattr(FolderStore, "replace", put)
    assert [item.index for item in _readable(begun)] == list(range(35))
    dataset = make(job, begun)
    assert (len(dataset), dataset.plan.starts) == (70, (0, 35))
    assert (begun / "README.md").read_text() == dataset_card(job.job)
    assert (begun / "croissant.json").read_text() == croissant.metadata(job.job)
    assert verify(dataset).verdict == "intact"


def _readable(folder: Path) -> Any:
    dataset = Dataset(folder)
    return [dataset[index] for index in range(35)]


def test_growing_twice_keeps_every_earlier_root(begun: Path, tmp_path: Path) -> None:
    roots = [Dataset(begun).manifest["root"]]
    for count in (6, 7):
        roots.append(make(resolved(*FEW, prompts(tmp_path, PROMPTS[:count])), begun).manifest["root"])
    dataset = Dataset(begun)
    assert dataset.plan.starts == (0, 35, 42)
    assert [segment.root for segment in dataset.segments] == roots[:-1]
    assert verify(dataset).verdict == "intact"


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"root": "0" * 64}, "root"),
        ({"job_digest": "0" * 64}, "foreign"),
        ({"items": {}}, "manifest"),
    ],
)
def test_verify_recomputes_what_the_manifest_says_of_earlier_segments(
    begun: Path, tmp_path: Path, changed: dict[str, Any], kind: str
) -> None:
    make(resolved(*FEW, prompts(tmp_path, PROMPTS[:6])), begun)
    entries = json.loads((begun / "manifest.json").read_text())
    entries["segments"][0] |= changed
    (begun / "manifest.json").write_text(json.dumps(entries))
    report = verify(Dataset(begun))
    assert report.verdict == "damaged" and kind in {problem.kind for problem in report.problems}


@pytest.mark.parametrize("segments", [[{"start": 0}], [{"nonsense": 1}], "text", [{}, {}]])
def test_segments_that_are_none_are_said_in_a_line(begun: Path, segments: Any) -> None:
    entries = json.loads((begun / "manifest.json").read_text())
    (begun / "manifest.json").write_text(json.dumps({**entries, "segments": segments}))
    with pytest.raises(DataError, match=r"manifest.json: expected segments that follow one another"):
        len(Dataset(begun).plan.batches(0))


def test_an_old_shard_that_changed_is_found_before_the_new_root_is_written(begun: Path, tmp_path: Path) -> None:
    other = make(resolved(*FEW, prompts(tmp_path, PROMPTS[:5]), "master_seed=2"), tmp_path / "other")
    job = resolved(*FEW, prompts(tmp_path, PROMPTS[:6]))
    claim(FolderStore(begun), job.job, job.reader.read)
    (begun / "data" / "shard-000001.parquet").write_bytes(other.store.get("data/shard-000001.parquet"))
    with pytest.raises(DataError, match="expected a shard of this job"):
        make(job, begun)
    assert "root" not in Dataset(begun).manifest
