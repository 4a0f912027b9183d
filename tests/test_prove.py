"""A proof shows with the published root alone that an item is in a dataset, or that a dataset extends another."""

from __future__ import annotations

import io
import json
import re
import signal
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pymerkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from reprobatch import merkle, prooffile, proving, record
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError
from reprobatch.progress import Progress
from reprobatch.proof import inclusion_from_ranges, verify_inclusion
from reprobatch.record import Output
from reprobatch.store import shard_name
from synthetic import Command, made, output

GOLDEN = Path(__file__).parent / "golden"
INCLUSION, CONSISTENCY = GOLDEN / "proof-inclusion.json", GOLDEN / "proof-consistency.json"
PUBLISHED = {"root": "c77c25dac2f412d33f0c25006959ce00a891a4cdb07070247f7b6c889ffd0fad", "size": 70}

reproducibly = settings(deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def seventy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 items in 8 shards of 9, the last of 7; never changed by a test."""
    return made(tmp_path_factory.mktemp("seventy") / "dataset")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return made(tmp_path / "copy")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    before = signal.getsignal(signal.SIGTERM)
    yield Command(capsys)
    signal.signal(signal.SIGTERM, before)


def checksums(folder: Path) -> list[str]:
    found: list[str] = pq.read_table(folder / "data", columns=["checksum"])["checksum"].to_pylist()
    return found


# What is written


def test_proofs_are_the_golden_ones(seventy: Path, command: Command) -> None:
    assert command("prove", seventy, 42) == (0, INCLUSION.read_text(), "")
    assert command("prove", seventy, "--extends", 40) == (0, CONSISTENCY.read_text(), "")


def test_a_proof_holds_what_is_proved_and_nothing_else() -> None:
    assert set(json.loads(INCLUSION.read_text())) == {"format", "kind", "index", "checksum", "size", "root", "path"}
    old = {"old_size", "old_root"}
    assert set(json.loads(CONSISTENCY.read_text())) == {"format", "kind", "size", "root", "path"} | old


def test_pymerkle_accepts_the_proof_of_every_item(seventy: Path) -> None:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    tree.append_entries([bytes.fromhex(checksum) for checksum in checksums(seventy)])
    dataset = Dataset(seventy)
    for index, checksum in enumerate(checksums(seventy)):
        proof = proving.prove(dataset, index)
        assert (proof.index, proof.checksum, proof.size) == (index, checksum, 70)
        serialized = tree.prove_inclusion(index + 1).serialize()
        serialized["path"] = [record.leaf(checksum).hex(), *proof.path]
        theirs = pymerkle.InclusionProof.deserialize(serialized)
        pymerkle.verify_inclusion(record.leaf(checksum), tree.get_root(), theirs, index=index + 1, size=70)
        assert proof.root == tree.get_root().hex()


def test_a_dataset_proves_that_it_extends_each_of_its_beginnings(seventy: Path) -> None:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    tree.append_entries([bytes.fromhex(checksum) for checksum in checksums(seventy)])
    dataset = Dataset(seventy)
    for old_size in range(1, 71):
        proof = proving.prove_extends(dataset, old_size)
        assert proof.holds and proof.old_root == tree.get_root(old_size).hex()


@pytest.mark.parametrize("shard", [3, 30, 72])
def test_a_proof_does_not_depend_on_the_shard_size(shard: int, tmp_path: Path) -> None:
    dataset = Dataset(made(tmp_path / "other", shard=shard))
    assert prooffile.text(proving.prove(dataset, 42)) == INCLUSION.read_text()
    assert prooffile.text(proving.prove_extends(dataset, 40)) == CONSISTENCY.read_text()


def test_a_grown_dataset_is_proved_to_extend_the_one_that_was_published(tmp_path: Path, command: Command) -> None:
    old, new = made(tmp_path / "old", tens=4), made(tmp_path / "new")
    roots = [json.loads((folder / "manifest.json").read_text())["root"] for folder in (old, new)]
    command("prove", new, "--extends", 40, "--to", tmp_path / "grown.json")
    known = ["--old-size", 40, "--root", roots[1], "--size", 70]
    code, printed, _ = command("prove", "--check", tmp_path / "grown.json", "--old-root", roots[0], *known)
    assert (code, printed.splitlines()[0]) == (0, "proved: the first 40 of 70 items are unchanged")
    edited = made(tmp_path / "edited", tens=4, of=lambda index: output(index + (index == 3)))
    other = json.loads((edited / "manifest.json").read_text())["root"]
    code, printed, _ = command("prove", "--check", tmp_path / "grown.json", "--old-root", other, *known)
    assert code == 1 and printed.startswith(f"old_root: expected {other}, found {roots[0]} in the proof\nnot proved")


def test_footers_and_one_column_of_one_shard_are_enough(copy: Path) -> None:
    for number in range(8):
        path = copy / shard_name(number)
        content, metadata = bytearray(path.read_bytes()), pq.read_metadata(path)
        for column in (metadata.row_group(0).column(at) for at in range(metadata.num_columns)):
            if (number, column.path_in_schema) != (42 // 9, "checksum"):
                start = column.dictionary_page_offset or column.data_page_offset
                content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
        path.write_bytes(content)
    dataset = Dataset(copy)
    assert prooffile.text(proving.prove(dataset, 42)) == INCLUSION.read_text()
    proving.prove_extends(dataset, 40)  # 40 lies in the same shard
    proving.prove_extends(dataset, 45)  # and 45 between two
    with pytest.raises(DataError, match=r"shard-000003\.parquet: column checksum is damaged"):
        proving.prove(dataset, 30)


def test_every_footer_is_told_once(seventy: Path) -> None:
    told: list[int] = []
    proving.prove(Dataset(seventy), 3, told.append)
    assert told == [1] * 8


def test_progress_is_silent_for_as_long_as_it_is_told_to_be() -> None:
    said = [io.StringIO(), io.StringIO()]
    for stream, quiet in zip(said, (0.0, 600.0), strict=True):
        with Progress(2, label="footers read", stream=stream, quiet=quiet) as progress:
            progress.add(2)
    assert said[0].getvalue().startswith("2/2 footers read") and said[1].getvalue() == ""


# What is refused when it is made


def _no_shard(copy: Path) -> None:
    (copy / shard_name(6)).unlink()


def _another_root(copy: Path) -> None:
    (copy / "manifest.json").write_text(json.dumps({"root": "0" * 64}))


def _no_root(copy: Path) -> None:
    (copy / "manifest.json").write_text("{}")


def _another_place(copy: Path) -> None:
    (copy / shard_name(2)).write_bytes((copy / shard_name(3)).read_bytes())


def _other_checksums(copy: Path) -> None:
    _rewrite(copy / shard_name(4), lambda values: [values[1], values[0], *values[2:]])


def _no_checksums(copy: Path) -> None:
    _rewrite(copy / shard_name(4), lambda values: ["none"] * len(values))


def _null_checksums(copy: Path) -> None:
    _rewrite(copy / shard_name(4), lambda values: [None] * len(values))


def _no_range(copy: Path) -> None:
    _rewrite(copy / shard_name(1), list, {b"reprobatch.merkle": b"9:18:"})


def _rewrite(path: Path, change: Callable[[list], list], footer: dict[bytes, bytes] | None = None) -> None:
    with pq.ParquetFile(path) as file:
        table, entries = file.read(), dict(file.metadata.metadata)
    at = table.schema.get_field_index("checksum")
    table = table.set_column(at, table.schema.field(at), pa.array(change(table["checksum"].to_pylist()), pa.string()))
    entries |= footer or {}
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({k: v for k, v in entries.items() if k != b"ARROW:schema"})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_shard, "data/shard-000006.parquet: expected this shard, found none"),
        (_another_root, f"expected the manifest's root {'0' * 64}, found "),
        (_no_root, "expected a complete dataset, found no root in its manifest"),
        (_another_place, "data/shard-000002.parquet: expected items 18 … 26, found a footer of 27 … 35"),
        (_other_checksums, "data/shard-000004.parquet: expected the checksums that its footer was made of"),
        (_no_checksums, "data/shard-000004.parquet: expected the checksums that its footer was made of"),
        (_null_checksums, "data/shard-000004.parquet: expected the checksums that its footer was made of"),
        (_no_range, "data/shard-000001.parquet: expected 4 hashes for leaves 9 to 18 (exclusive), got 0"),
    ],
)
def test_a_damaged_dataset_proves_nothing(
    copy: Path, damage: Callable[[Path], None], said: str, command: Command, tmp_path: Path
) -> None:
    damage(copy)
    for arguments in (["prove", copy, 42], ["prove", copy, "--extends", 40]):
        code, printed, line = command(*arguments, "--to", tmp_path / "proof.json")
        assert (code, printed, line.count("\n")) == (1, "", 1)
        assert said in line
    assert not (tmp_path / "proof.json").exists()


WRONG_USE = [
    ([], "expected DIR and INDEX, DIR and --extends OLD_SIZE, or --check FILE"),
    (["{dataset}"], "expected DIR and INDEX"),
    (["{dataset}", "1", "--extends", "2"], "expected DIR and INDEX"),
    (["{dataset}", "70"], "expected an index within 0 … 69, found 70"),
    (["{dataset}", "--extends", "0"], "expected an old size within 1 … 70, found 0"),
    (["{dataset}", "--extends", "71"], "expected an old size within 1 … 70, found 71"),
    (["{dataset}", "1", "--root", "0" * 64], "--root goes with --check"),
    (["{dataset}", "--check", "{proof}"], "DIR goes without --check"),
    (["{dataset}", "1", "--to", "nowhere/proof.json"], "the folder of 'nowhere/proof.json' does not exist"),
    (["nowhere", "1"], "expected a dataset with a job.json, found none in 'nowhere'"),
    (["--check", "nowhere.json"], "cannot read the proof 'nowhere.json': No such file or directory"),
    (["--check", "."], "is a directory"),
    (["--check", "{proof}", "--root", "f" * 63], "--root: expected 64 hexadecimal digits"),
    (["--check", "{proof}", "--root", "g" * 64], "--root: expected 64 hexadecimal digits"),
    (["--check", "{proof}", "--size", "0"], "0 is not in the range x>=1"),
    (["--check", "{proof}", "--old-size", "3"], "expected no old_size for an inclusion proof"),
    (["--check", "{proof}", "--old-root", "0" * 64], "expected no old_root for an inclusion proof"),
    (["--check", "{proof}", "--dataset", "{dataset}"], "--dataset and --model go with --item"),
    (["--check", str(CONSISTENCY), "--item", "x.npy"], "--item goes with an inclusion proof"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG_USE)
def test_wrong_use_is_said_in_one_line(arguments: list[str], said: str, seventy: Path, command: Command) -> None:
    places = {"dataset": seventy, "proof": INCLUSION}
    assert said in command.refuses("prove", *(argument.format(**places) for argument in arguments))


# What is checked


def test_a_proof_is_checked_against_what_was_published(command: Command) -> None:
    root = str(PUBLISHED["root"])
    code, printed, said = command("prove", "--check", INCLUSION, "--root", root.upper(), "--size", 70)
    checksum = output(42).checksum
    assert (code, said) == (0, "")
    assert printed == f"proved: item 42 of 70\nchecksum {checksum}\nroot     {root}\n"


def test_what_is_believed_because_the_proof_says_so_is_named(command: Command) -> None:
    code, printed, _ = command("prove", "--check", INCLUSION)
    assert code == 0 and "root, size: the proof's own word; compare with what was published, or give --root" in printed
    _, printed, _ = command("prove", "--check", INCLUSION, "--root", PUBLISHED["root"])
    assert "size is the proof's own word: the checksum is in the dataset whatever it is, its index is not" in printed
    _, printed, _ = command("prove", "--check", CONSISTENCY, "--json")
    assert json.loads(printed)["on_trust"] == ["root", "size", "old_root", "old_size"]


def test_without_its_size_a_root_does_not_say_which_item_it_is() -> None:
    """The last of five items sits where the last of two would: what ``on_trust`` warns of."""
    leaves = [record.leaf(output(index).checksum) for index in range(5)]
    root = merkle.CompactRange.of(0, leaves).root().hex()
    beside = merkle.CompactRange.of(0, leaves[:4]).root().hex()
    claim = prooffile.InclusionProof(index=1, checksum=output(4).checksum, size=2, root=root, path=[beside])
    assert prooffile.check(claim, {"root": root}) == prooffile.Checked([], ["size"])
    assert prooffile.check(claim, {"root": root, "size": 5}).problems == ["size: expected 5, found 2 in the proof"]


def test_facts_are_one_document(seventy: Path, command: Command, tmp_path: Path) -> None:
    to = tmp_path / "42.json"
    proof = json.loads(INCLUSION.read_text())
    said = {name: proof[name] for name in ("kind", "index", "checksum", "size", "root")}
    _, printed, _ = command("prove", seventy, 42, "--json")
    assert printed == INCLUSION.read_text()  # so that a redirected one can be checked
    _, printed, _ = command("prove", seventy, 42, "--to", to, "--json")
    assert json.loads(printed) == said | {"hashes": 7, "bytes": to.stat().st_size, "to": str(to)}
    assert to.read_text() == INCLUSION.read_text()
    _, printed, _ = command("prove", "--check", to, "--json")
    trust = {"on_trust": ["root", "size"], "problems": [], "item": None}
    assert json.loads(printed) == said | trust | {"verdict": "proved"}


def _proofs() -> st.SearchStrategy[dict[str, Any]]:
    return st.sampled_from([INCLUSION, CONSISTENCY]).map(lambda path: json.loads(path.read_text()))


@reproducibly
@given(_proofs(), st.data())
def test_a_forged_proof_is_refused(proof: dict[str, Any], data: st.DataObject) -> None:
    """One value changed to another of its kind, or hashes dropped, doubled, swapped; roots and sizes are known."""
    known = {name: proof[name] for name in prooffile.PUBLISHED if name in proof}
    assert prooffile.check(prooffile.parse(json.dumps(proof).encode(), "it"), known) == prooffile.Checked([], [])
    before = json.dumps(proof)
    name = data.draw(st.sampled_from(sorted(set(proof) - {"format", "kind"})))
    if name == "path":
        path, at = proof["path"], data.draw(st.integers(0, len(proof["path"]) - 1))
        to = data.draw(st.integers(0, len(path)))
        other = path.pop(at)
        move = data.draw(st.sampled_from(["drop", "double", "move", "flip"]))
        path[at:at] = [other] if move == "double" else [_flipped(other, data)] if move == "flip" else []
        path[to:to] = [other] if move in ("double", "move") else []
    elif isinstance(proof[name], str):
        proof[name] = _flipped(proof[name], data)
    else:
        proof[name] = data.draw(st.integers(0, 200) | st.integers(0, 2**64 - 2))
    if json.dumps(proof) != before:
        try:
            assert prooffile.check(prooffile.parse(json.dumps(proof).encode(), "it"), known).problems
        except JobError:
            assert proof[name] == 0  # a size


def _flipped(digest: str, data: st.DataObject) -> str:
    return f"{int(digest, 16) ^ 1 << data.draw(st.integers(0, 255)):064x}"


@pytest.mark.parametrize("golden", [INCLUSION, CONSISTENCY], ids=["inclusion", "consistency"])
def test_a_truncated_file_is_refused(golden: Path) -> None:
    content = golden.read_bytes()
    for length in range(len(content) - 1):  # all but the newline is the proof
        with pytest.raises(JobError, match="expected a proof in JSON"):
            prooffile.parse(content[:length], "it")


def test_a_forgery_exits_one_and_says_what_does_not_fit(command: Command, tmp_path: Path) -> None:
    proof = json.loads(INCLUSION.read_text())
    proof["path"][3] = "0" * 64
    (tmp_path / "forged.json").write_text(json.dumps(proof))
    code, printed, said = command("prove", "--check", tmp_path / "forged.json")
    assert (code, said) == (1, "")
    assert printed.startswith(
        "path: expected 7 hashes that lead from the checksum to the root, found others\nnot proved"
    )
    code, printed, _ = command("prove", "--check", INCLUSION, "--root", "0" * 64, "--json")
    facts = json.loads(printed)
    assert code == 1 and facts["verdict"] == "not proved"
    assert facts["problems"] == [f"root: expected {'0' * 64}, found {PUBLISHED['root']} in the proof"]


def _with(**changes: Any) -> str:
    proof = json.loads(INCLUSION.read_text()) | changes
    return json.dumps({name: value for name, value in proof.items() if value is not ...})


HEX = "ab" * 32
MALFORMED: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "expected a proof in JSON"),
    "no JSON": ("index: 42", "expected a proof in JSON"),
    "no UTF-8": (b'{"\xff', "expected a proof in JSON"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "expected a proof in JSON"),
    "two documents": (_with() + _with(), "Extra data"),
    "a list": ("[]", "expected a JSON object, found []"),
    "another format": (_with(format="reprobatch-proof/2"), 'reprobatch-proof/1, found "reprobatch-proof/2"'),
    "no format": (_with(format=...), "expected format reprobatch-proof/1, found null"),
    "another kind": (_with(kind="exclusion"), 'inclusion or consistency, found "exclusion"'),
    "a kind that is no text": (_with(kind=["inclusion"]), "inclusion or consistency, found"),
    "the other kind": (_with(kind="consistency"), "unknown key 'checksum'"),
    "an unknown key": (_with(seed=7), "unknown key 'seed'"),
    "a long unknown key": (_with(**{"k" * 60000: 7}), "unknown key 'kkk"),
    "a missing key": (_with(root=...), "missing key 'root'"),
    "a key twice": ('{"index": 1, "index": 2}', "a key twice"),
    "a key twice, deep inside": ('{"index": [{"a": 1, "a": 2}]}', "a key twice"),
    "an index that is true": (_with(index=True), "index: expected a whole number, found true"),
    "an index with a point": (_with(index=42.0), "index: expected a whole number, found 42.0"),
    "an index in quotes": (_with(index="42"), 'index: expected a whole number, found "42"'),
    "an index below zero": (_with(index=-1), "index: expected a number of at least 0, found -1"),
    "an index beyond 64 bits": (_with(index=2**64), "index: expected a number below"),
    "an index of 5000 digits": (_with(index="?").replace('"?"', "9" * 5000), "expected a proof in JSON"),
    "not a number": (_with(index=float("nan")), "the number NaN"),
    "infinity": (_with(size=float("inf")), "the number Infinity"),
    "a number too large for a float": (_with(index="?").replace('"?"', "1e999"), "index: expected a whole number"),
    "no items": (_with(size=0), "size: expected a number of at least 1, found 0"),
    "a size that is null": (_with(size=None), "size: expected a whole number, found null"),
    "a short hash": (_with(root=HEX[:-1]), "root: expected 64 digits 0-9 and a-f"),
    "a long hash": (_with(root=HEX + "0"), "root: expected 64 digits 0-9 and a-f"),
    "a hash and a newline": (_with(root=HEX + "\n"), "root: expected 64 digits 0-9 and a-f"),
    "upper case": (_with(root=HEX.upper()), "root: expected 64 digits 0-9 and a-f"),
    "digits that are not ASCII": (_with(checksum="\u0660" * 64), "checksum: expected 64 digits 0-9 and a-f"),
    "half a character": (_with(checksum="\ud800" * 64), "checksum: expected Unicode text"),
    "half a character in a key": (_with(**{"\ud800": 1}), "expected Unicode text"),
    "a hash in the path that is none": (_with(path=[HEX, "x" * 64]), "path.1: expected 64 digits 0-9 and a-f"),
    "a path that is text": (_with(path=HEX), "path: expected a list"),
    "a path of numbers": (_with(path=[1]), "path.0: expected text"),
    "a path longer than any": (_with(path=[HEX] * 66), "path: expected at most 65 entries"),
    "nested without end": ("[" * 60000, "nested too deeply"),
    "deep inside": (_with(path="?").replace('"?"', "[" * 30000 + "]" * 30000), "nested too deeply"),
    "a huge file": (_with() + " " * 70000, "expected a proof of at most 65536 bytes, found a longer file"),
}


@pytest.mark.parametrize(("content", "said"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_proof_is_refused_in_one_line(
    content: str | bytes, said: str, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "proof.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert said in command.refuses("prove", "--check", tmp_path / "proof.json")


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70)
_JSON = _SCALARS | st.lists(_SCALARS, max_size=3) | st.dictionaries(st.text(max_size=9), _SCALARS, max_size=3)


@reproducibly
@given(_proofs(), st.data(), _JSON)
def test_whatever_stands_in_a_file_it_is_read_or_refused(
    proof: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    proof[data.draw(st.sampled_from(sorted(proof)))] = value
    try:
        prooffile.check(prooffile.parse(json.dumps(proof).encode(), "it"), {})
    except JobError as error:
        assert "\n" not in str(error) and len(str(error)) < 400


# The files of an item


@pytest.fixture
def item(tmp_path: Path) -> Callable[[str, Output], Path]:
    """Writes an item as ``regenerate --to`` does, which would load torch."""

    def write(name: str, output: Output) -> Path:
        if name.endswith(".npy"):
            np.save(tmp_path / name, output.numpy())
        else:
            short = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
            short |= {"uint8": "U8", "int16": "I16"}
            tensor = {"dtype": short[output.dtype], "shape": output.shape, "data_offsets": [0, len(output.data)]}
            (tmp_path / name).write_bytes(_safetensors(json.dumps({"output": tensor}), output.data))
        return tmp_path / name

    return write


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_an_items_file_has_the_checksum_of_its_proof(
    suffix: str, item: Callable[[str, Output], Path], command: Command
) -> None:
    code, printed, _ = command("prove", "--check", INCLUSION, "--item", item(f"42{suffix}", output(42)))
    assert code == 0 and f"42{suffix} is this item\n" in printed
    wrong = item(f"41{suffix}", output(41))
    code, printed, _ = command("prove", "--check", INCLUSION, "--item", wrong, "--json")
    facts = json.loads(printed)
    assert (code, facts["verdict"]) == (1, "not proved")
    expected, found = output(42).checksum, output(41).checksum
    assert facts["problems"][0].startswith(f"41{suffix}: expected checksum {expected}, found {found}")
    assert facts["item"] == {"file": str(wrong), "dtype": "float32", "shape": [4], "checksum": found}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "uint8", "int16"])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_every_dtype_is_read_as_it_was_written(dtype: str, suffix: str, item: Callable[[str, Output], Path]) -> None:
    from reprobatch import itemfile

    data = (np.arange(24 * record.ITEM_SIZE[dtype], dtype="u1") * 5 % 120).tobytes()
    written = Output(dtype, (2, 3, 4), data)
    found = itemfile.read(item(f"item{suffix}", written))
    if (dtype, suffix) == ("bfloat16", ".npy"):
        assert found.dtype == "float32" and itemfile.is_rounded(found)
    else:
        assert found == written and not itemfile.is_rounded(found)


def test_arrays_in_another_byte_or_memory_order_are_the_same_item(tmp_path: Path) -> None:
    from reprobatch import itemfile

    values = np.arange(6, dtype="<f4").reshape(2, 3)
    for other in (values, values.astype(">f4"), np.asfortranarray(values)):
        np.save(tmp_path / "item.npy", other)
        assert itemfile.read(tmp_path / "item.npy") == Output("float32", (2, 3), values.tobytes())
    np.save(tmp_path / "scalar.npy", np.float32(3))
    assert itemfile.read(tmp_path / "scalar.npy").checksum == record.checksum("float32", (), np.float32(3).tobytes())


def test_an_npy_of_a_bfloat16_item_is_answered_with_what_to_give_instead(
    item: Callable[[str, Output], Path], tmp_path: Path, command: Command
) -> None:
    half = Output("bfloat16", (2,), bytes([128, 63, 0, 64]))
    proof = prooffile.InclusionProof(
        index=0, checksum=half.checksum, size=1, root=record.leaf(half.checksum).hex(), path=[]
    )
    (tmp_path / "proof.json").write_text(prooffile.text(proof))
    code, printed, _ = command("prove", "--check", tmp_path / "proof.json", "--item", item("x.npy", half))
    assert code == 1 and "an .npy cannot hold bfloat16, if the item is that give its .safetensors" in printed
    code, _, _ = command("prove", "--check", tmp_path / "proof.json", "--item", item("x.safetensors", half))
    assert code == 0


def _npy(**header: Any) -> bytes:
    text = str({"descr": "<f4", "fortran_order": False, "shape": (4,)} | header).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def _safetensors(header: str, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header.encode() + data


NO_ITEM: dict[str, tuple[str, bytes, str]] = {
    "another kind of file": ("x.pt", b"", "expected a file ending in .npy, .safetensors, .png"),
    "an empty .npy": ("x.npy", b"", "expected an array in numpy's format"),
    "a header that is code": (
        "x.npy",
        _npy(shape="?").replace(b"'?'", b"(9**9,)"),
        "expected an array in numpy's format",
    ),
    "less than its shape": ("x.npy", _npy() + bytes(15), "expected an array in numpy's format"),
    "more than its shape": ("x.npy", _npy() + bytes(17), "expected 144 bytes for its array, found 145"),
    "an absurd shape": ("x.npy", _npy(shape=(2**62, 2**62)), "expected an array in numpy's format"),
    "a pickle": ("x.npy", _npy(descr="|O") + bytes(32), "expected an array in numpy's format"),
    "a dtype that no item has": ("x.npy", _npy(descr="<i8") + bytes(32), "expected one of float32"),
    "an empty .safetensors": ("x.safetensors", b"", "expected a safetensors file"),
    "no tensor": ("x.safetensors", _safetensors("{}"), "expected one tensor, found 0"),
    "a tensor short of bytes": (
        "x.safetensors",
        _safetensors('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', bytes(15)),
        "expected a safetensors file",
    ),
    "a tensor of a dtype that no item has": (
        "x.safetensors",
        _safetensors('{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}', bytes(8)),
        "expected one of float32",
    ),
    "a PNG without its dataset": ("x.png", b"", "holds decoded pixels of 8 bits, which have no checksum in a root"),
}


@pytest.mark.parametrize(("name", "content", "said"), NO_ITEM.values(), ids=NO_ITEM.keys())
def test_what_is_no_items_file_is_refused_in_one_line(
    name: str, content: bytes, said: str, tmp_path: Path, command: Command
) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in command.refuses("prove", "--check", INCLUSION, "--item", tmp_path / name)


# Pictures


def _pixels(index: int) -> Output:
    values = np.random.default_rng(index).random((6, 5, 3), dtype=np.float32)
    return Output("float32", (6, 5, 3), values.tobytes())


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("pixels") / "dataset", 1, 9, _pixels, "output=pixels")


@pytest.fixture
def png(pixels: Path, tmp_path: Path) -> Callable[..., list[object]]:
    """Writes a proof of item 4 and a picture; what to give ``prove`` for them."""
    from PIL import Image

    (tmp_path / "4.json").write_text(prooffile.text(proving.prove(Dataset(pixels), 4)))

    def write(picture: np.ndarray, **options: Any) -> list[object]:
        Image.fromarray(picture).save(tmp_path / "4.png", **options)
        return ["--check", tmp_path / "4.json", "--item", tmp_path / "4.png", "--dataset", pixels]

    return write


def _rounded(index: int) -> np.ndarray:
    return (_pixels(index).numpy() * 255).round().astype(np.uint8)


def test_a_picture_is_compared_pixel_for_pixel_with_the_proven_item(
    png: Callable[..., list[object]], command: Command, pixels: Path
) -> None:
    code, printed, _ = command("prove", *png(_rounded(4)))
    assert code == 0 and f"4.png is this item, decoded here by the model of {pixels}\n" in printed
    touched = _rounded(4)
    touched[5, 4, 2] ^= 1
    code, printed, _ = command("prove", *png(touched), "--json")
    facts = json.loads(printed)
    assert (code, facts["verdict"], facts["item"]["pixels"], facts["item"]["linf"]) == (1, "not proved", "different", 1)
    code, printed, _ = command("prove", *png(_rounded(4)[:5]))
    assert code == 1 and "4.png: expected [6, 5, 3] pixels, found [5, 5, 3]" in printed


def test_a_dataset_with_another_item_at_its_place_speaks_for_no_picture(
    png: Callable[..., list[object]], command: Command, tmp_path: Path
) -> None:
    other = made(tmp_path / "other", 1, 9, lambda index: _pixels(index + 1), "output=pixels")
    code, printed, _ = command("prove", *png(_rounded(4))[:-1], other)
    assert code == 1 and f"other: expected item 4 with checksum {_pixels(4).checksum}, found" in printed


@pytest.mark.parametrize(
    ("picture", "options", "said"),
    [
        (np.zeros((6, 5), np.uint16), {}, "found mode I;16, 16 bits, 1 pictures"),
        (np.zeros((6, 5), bool), {}, "found mode 1, 1 bits, 1 pictures"),
        (np.zeros((6, 5, 3), np.uint8), {"format": "JPEG"}, "expected a PNG, found something else"),
    ],
)
def test_a_picture_that_export_never_writes_is_refused(
    picture: np.ndarray, options: dict[str, Any], said: str, png: Callable[..., list[object]], command: Command
) -> None:
    assert said in command.refuses("prove", *png(picture, **options))


def test_a_picture_of_sixteen_bits_is_not_taken_for_its_upper_eight(
    png: Callable[..., list[object]], command: Command
) -> None:
    arguments = png(_rounded(4))
    path = Path(str(arguments[3]))
    lines = [b"\0" + bytes(byte for value in line.tobytes() for byte in (value, 77)) for line in _rounded(4)]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 5, 6, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"".join(lines)))]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in (*chunks, (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)
    assert "found mode RGB, 16 bits, 1 pictures" in command.refuses("prove", *arguments)


# Without reprobatch


def _from_the_docs() -> Callable[..., bool]:
    block = re.search(r"```python\n(.*?def holds.*?)```", (ROOT / "docs" / "proofs.md").read_text(), re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    found: Callable[..., bool] = names["holds"]
    return found


@reproducibly
@given(st.integers(1, 80), st.data())
def test_the_lines_of_plain_python_in_the_docs_say_the_same(size: int, data: st.DataObject) -> None:
    holds = _from_the_docs()
    leaves = [record.leaf(output(index).checksum) for index in range(size)]
    root = merkle.CompactRange.of(0, leaves).root().hex()
    index = data.draw(st.integers(0, size - 1))
    made = merkle.CompactRange.of(0, leaves[:index]), merkle.CompactRange.of(index, leaves[index : index + 1])
    ranges = [*made, merkle.CompactRange.of(index + 1, leaves[index + 1 :])]
    path = [digest.hex() for digest in inclusion_from_ranges(ranges, index)]
    claim = {"index": index, "checksum": output(index).checksum, "size": size, "path": path}
    assert holds(claim, root)
    claim[data.draw(st.sampled_from(["index", "size"]))] = data.draw(st.integers(0, 90))
    mine = verify_inclusion(
        record.leaf(claim["checksum"]),
        claim["index"],
        claim["size"],
        [bytes.fromhex(d) for d in path],
        bytes.fromhex(root),
    )
    assert holds(claim, root) == mine
    assert not holds(claim | {"checksum": output(index + 1).checksum}, root)
    assert not holds(claim | {"path": [*path, root]}, root)
    assert not holds(claim | {"path": path[:-1]}, root) or not path
