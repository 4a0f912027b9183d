"""verify names whatever is not as it should be, and exits 1."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import ROOT, reprobatch
from reprobatch import merkle
from reprobatch.dataset import Dataset
from reprobatch.store import shard_name
from reprobatch.verification import Report, verify

LAST = shard_name(4)
BUILTIN = ROOT / "src" / "reprobatch" / "builtin" / "digits"


@pytest.fixture
def copy(digits: Path, tmp_path: Path) -> Path:
    shutil.copytree(digits, tmp_path / "copy")
    return tmp_path / "copy"


def test_an_untouched_dataset_is_intact(digits: Path) -> None:
    report = verify(Dataset(digits))
    assert (report.verdict, report.items, report.problems) == ("intact", 70, [])


def test_root_is_the_merkle_tree_head_over_checksums_read_with_pyarrow_alone(digits: Path) -> None:
    table = pq.read_table(digits / "data").sort_by("index")
    level = [hashlib.sha256(b"\0" + bytes.fromhex(c)).digest() for c in table["checksum"].to_pylist()]
    assert _head(level).hex() == json.loads((digits / "manifest.json").read_text())["root"]


def _head(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + _head(leaves[:split]) + _head(leaves[split:])).digest()


def test_sha256sum_agrees(digits: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=digits, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("shard", range(5))
def test_last_byte_of_any_shard_changed_is_named(copy: Path, shard: int) -> None:
    path = copy / shard_name(shard)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = reprobatch("verify", copy, "--json", check=False)
    facts = json.loads(done.stdout)
    assert done.returncode == 1 and facts["verdict"] == "damaged"
    assert {p["shard"] for p in facts["problems"] if p["shard"] is not None} == {shard}


def test_any_flipped_bit_is_found_even_without_the_file_hashes(copy: Path) -> None:
    """Without SHA256SUMS what is left are page checksums, item checksums, footer and plan.

    A bit in a footer's text about the writer can flip unseen by them; in the rows it cannot.
    """
    path = copy / shard_name(1)
    original = path.read_bytes()
    footer = int.from_bytes(original[-8:-4], "little") + 8
    (copy / "SHA256SUMS").unlink()
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"], manifest["root"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    dice = random.Random(5)
    for _ in range(60):
        content = bytearray(original)
        at = dice.randrange(4, len(content) - footer)
        content[at] ^= 1 << dice.randrange(8)
        path.write_bytes(content)
        found = [p for p in verify(Dataset(copy)).problems if p.shard == 1]
        assert found, f"bit in byte {at} of {len(content)}"


def _truncate(copy: Path) -> None:
    (copy / LAST).write_bytes((copy / LAST).read_bytes()[:-100])


def _remove(copy: Path) -> None:
    (copy / LAST).unlink()


def _double(copy: Path) -> None:
    shutil.copy(copy / shard_name(3), copy / LAST)


def _stranger(copy: Path) -> None:
    shutil.copy(copy / LAST, copy / shard_name(5))


def _foreign(copy: Path) -> None:
    _rewrite(copy, footer={b"reprobatch.job": b"0" * 64})


def _forge_latents(copy: Path) -> None:
    _rewrite(copy, column="latents", change=lambda values: [b"\0" * len(values[0]), *values[1:]])


def _forge_seed(copy: Path) -> None:
    _rewrite(copy, column="seed", change=lambda values: [values[0] + 1, *values[1:]])


def _forge_slot(copy: Path) -> None:
    _rewrite(copy, column="slot", change=lambda values: [1, *values[1:]])


def _forge_checksum(copy: Path) -> None:
    _rewrite(copy, column="checksum", change=lambda values: [values[1], values[0], *values[2:]])


def _forge_order(copy: Path) -> None:
    _rewrite(copy, column="index", change=lambda values: [values[1], values[0], *values[2:]])


def _drop_sums(copy: Path) -> None:
    (copy / "SHA256SUMS").unlink()


def _forge_root(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["root"] = merkle.EMPTY_ROOT.hex()
    (copy / "manifest.json").write_text(json.dumps(manifest))


def _rewrite(
    copy: Path,
    column: str | None = None,
    change: Callable[[list], list] = list,
    footer: dict[bytes, bytes] | None = None,
) -> None:
    """Write the last shard anew, well-formed, with other content."""
    with pq.ParquetFile(copy / LAST) as file:
        table, entries = file.read(), dict(file.metadata.metadata)
    if column is not None:
        at = table.schema.get_field_index(column)
        field = table.schema.field(column)
        table = table.set_column(at, field, pa.array(change(table[column].to_pylist()), field.type))
    entries |= footer or {}
    with pq.ParquetWriter(copy / LAST, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({k: v for k, v in entries.items() if k != b"ARROW:schema"})


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (_truncate, "unreadable"),
        (_remove, "missing"),
        (_double, "doubled"),
        (_stranger, "extra"),
        (_foreign, "foreign"),
        (_forge_latents, "checksum"),
        (_forge_seed, "seed"),
        (_forge_slot, "place"),
        (_forge_checksum, "checksum"),
        (_forge_order, "rows"),
        (_drop_sums, "manifest"),
        (_forge_root, "root"),
    ],
)
def test_each_kind_of_damage_is_named(copy: Path, damage: Callable[[Path], None], kind: str) -> None:
    damage(copy)
    report: Report = verify(Dataset(copy))
    assert report.verdict != "intact"
    assert kind in {problem.kind for problem in report.problems}, [str(p) for p in report.problems]
    assert all("\n" not in str(problem) for problem in report.problems)


def test_verify_loads_no_torch_and_says_what_it_expected(copy: Path) -> None:
    _forge_latents(copy)
    done = reprobatch("verify", copy, check=False)
    assert done.returncode == 1
    assert "item 64: checksum: expected " in done.stdout and ", found " in done.stdout


def test_verify_by_regenerating_says_what_that_proves(digits: Path) -> None:
    done = reprobatch("verify", digits, "--regenerate", 3)
    root = json.loads((digits / "manifest.json").read_text())["root"]
    said = f"3 items made again, chosen by {root}: none differs: with 95 % confidence fewer than 100.0% of all do"
    assert said in done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "reprobatch/2"),
        ("job_digest", "0" * 64),
        ("model_digest", "0" * 64),
        ("seed_scheme", "other"),
        ("plan", {"items": 71, "shards": 5, "batches": 9, "padded": 2}),
        ("plan", {"items": 70, "shards": 5, "batches": 10, "padded": 2}),
        ("plan", None),
    ],
)
def test_what_the_manifest_says_is_worked_out_again(copy: Path, name: str, value: object) -> None:
    entries = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**entries, name: value}))
    report = verify(Dataset(copy))
    assert report.verdict == "damaged" and [problem.kind for problem in report.problems] == ["manifest"]
    assert name in report.problems[0].expected


def test_a_job_in_other_words_is_not_the_one_that_was_made(copy: Path) -> None:
    (copy / "job.json").write_text(json.dumps(json.loads((copy / "job.json").read_text()), indent=2))
    report = verify(Dataset(copy))
    assert [str(p) for p in report.problems] == [
        "manifest: expected job.json in canonical form, found other text that means the same"
    ]


def test_the_models_digest_is_worked_out_again_where_it_is_at_hand(copy: Path) -> None:
    assert verify(Dataset(copy)).model == "recomputed"
    folder = copy.parent / "digits"
    shutil.copytree(BUILTIN, folder)
    job = json.loads((copy / "job.json").read_text())
    (copy / "job.json").write_text(json.dumps({**job, "pipeline": {**job["pipeline"], "model": "folder:digits"}}))
    away = verify(Dataset(copy)).model
    assert away.startswith("not recomputed: expected the model folder 'digits'") and "--model PATH" in away
    assert verify(Dataset(copy), places={"model": str(folder)}).model == "recomputed"
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    report = verify(Dataset(copy), places={"model": str(folder)})
    assert "model" in {problem.kind for problem in report.problems} and report.verdict == "damaged"
