"""The recipe as text in a PNG: what it holds, that it comes back as it was, and what is refused.

The golden file was written from the literals below by ``json.dumps`` alone; its digest is ``sha256sum`` of its text
without the entry ``digest``.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

import reprobatch
from conftest import ROOT
from reprobatch import pngfile, recipe
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError
from reprobatch.job import ResolvedJob
from reprobatch.recipes import Recipes
from reprobatch.record import ITEM_SIZE, Output
from synthetic import Command, made

GOLDEN = Path(__file__).parent / "golden" / "recipe.json"
PICTURE = np.arange(90, dtype=np.uint8).reshape(6, 5, 3)
reproducibly = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture(scope="module")
def job() -> ResolvedJob:
    return ResolvedJob.from_json(json.dumps(json.loads(GOLDEN.read_text())["job"]))


def entries(job: ResolvedJob, **changes: Any) -> dict[str, Any]:
    """The parts of a recipe of item 42, whose batch is full."""
    neighbours = [
        {"slot": slot, "seed": reprobatch.derive(job.master_seed, 40 + slot), "item": {"prompt": "a handwritten zero"}}
        for slot in (0, 1, 3, 4, 5, 6, 7)
    ]
    return {
        "job": job,
        "job_digest": job.digest,
        "index": 42,
        "seed": reprobatch.derive(job.master_seed, 42),
        "batch": 5,
        "slot": 2,
        "filled": 8,
        "item": {"prompt": "a handwritten zero"},
        "output": {"dtype": "float32", "shape": [4, 8, 8]},
        "checksum": "ab" * 32,
        "alone": None,
        "neighbours": neighbours,
        "environment": {"canary": "cd" * 32, "facts": {"cpu": "Xeon"}},
        **changes,
    }


def a_recipe(job: ResolvedJob, **changes: Any) -> recipe.Recipe:
    return recipe.Recipe.model_validate(entries(job, **changes))


def with_digest(data: dict[str, Any]) -> str:
    """Text of a recipe that says of itself that it is whole: what a stranger writes."""
    data = {key: value for key, value in data.items() if key != "digest"}
    whole = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return json.dumps({**data, "digest": hashlib.sha256(whole.encode()).hexdigest()})


def written(path: Path, text: str | None) -> Path:
    path.write_bytes(pngfile.encode(PICTURE, text))
    return path


def test_the_text_is_that_of_the_golden_file(job: ResolvedJob) -> None:
    golden = GOLDEN.read_text()
    found = a_recipe(job, neighbours=None, alone=True)
    assert recipe.text(found) + "\n" == golden
    assert recipe.parse(golden) == found


def test_its_digests_are_those_of_plain_python() -> None:
    data = json.loads(GOLDEN.read_text())
    assert json.loads(with_digest(data)) == data
    text = json.dumps(data["job"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == data["job_digest"]


@reproducibly
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_prompt_comes_back_from_a_picture(job: ResolvedJob, tmp_path: Path, prompt: str) -> None:
    one = a_recipe(job, item={"prompt": prompt})
    path = written(tmp_path / "x.png", recipe.text(one))
    assert recipe.parse(pngfile.read_text(path)) == one


@pytest.mark.parametrize("prompt", ["", "\0", "a\0b\r\n\x1b[2J\x7f\x85", "👩‍👩‍👧 \U0010ffff", "x" * 900_000, "\\ud800"])
def test_odd_prompts_come_back(job: ResolvedJob, tmp_path: Path, prompt: str) -> None:
    one = a_recipe(job, item={"prompt": prompt})
    path = written(tmp_path / "x.png", recipe.text(one))
    assert recipe.parse(pngfile.read_text(path)).item == {"prompt": prompt}
    assert recipe.text(one).isascii()


@reproducibly
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.none() | st.text(max_size=5),
)
def test_numbers_come_back_to_the_bit(job: ResolvedJob, real: float, whole: int, yes: bool, text: str | None) -> None:
    source = {"name": "r.jsonl", "format": "jsonl", "sha256": "0" * 64, "rows": 60}
    columns = {"prompt": "string", "real": "double", "whole": "int64", "yes": "bool", "text": "string"}
    data = job.as_dict()
    data["items"] |= {"source": source, "columns": columns, "count": 60, "repeat": 1}
    odd = ResolvedJob.from_json(json.dumps(data))
    item = {"prompt": "a", "real": real, "whole": whole, "yes": yes, "text": text}
    found = recipe.parse(recipe.text(a_recipe(odd, item=item, neighbours=None))).item
    assert {name: repr(value) for name, value in found.items()} == {name: repr(item[name]) for name in found}
    assert found.keys() == item.keys()


def test_half_a_character_is_refused(job: ResolvedJob) -> None:
    with pytest.raises(JobError, match="item 42: expected Unicode text in its columns, found half a character"):
        recipe.text(a_recipe(job, item={"prompt": "\ud800"}))
    text = with_digest(json.loads(GOLDEN.read_text())).replace("a handwritten zero", "\\ud800")
    with pytest.raises(JobError, match="agrees with its own digest, found it changed or damaged"):
        recipe.parse(text)


def test_every_dtype_of_an_item_has_a_place_in_a_recipe(job: ResolvedJob) -> None:
    for dtype in ITEM_SIZE:
        assert a_recipe(job, output={"dtype": dtype, "shape": []}).output.dtype == dtype


# What a stranger may have written

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "another seed": ({"seed": 7}, "expected seed"),
    "another index": ({"index": 43}, "expected seed"),
    "an index beyond the job": ({"index": 10**6}, "found index 1000000"),
    "a slot beyond the batch": ({"slot": 8, "filled": 8}, "found index 42, slot 8 of 8"),
    "more slots than a batch has": ({"filled": 9}, "slot 2 of 9"),
    "another job's digest": ({"job_digest": "0" * 64}, "expected a job with digest 0000"),
    "no checksum": ({"checksum": "../../etc"}, "checksum: expected 64 hexadecimal digits"),
    "a dtype of objects": ({"output": {"dtype": "object", "shape": [1]}}, "output.dtype: expected"),
    "a column too many": ({"item": {"prompt": "a", "path": "/etc/passwd"}}, "expected an item with the columns prompt"),
    "a column too few": ({"item": {}}, "expected an item with the columns prompt"),
    "a number for a prompt": ({"item": {"prompt": 1}}, "expected string in column 'prompt', found 1"),
    "a neighbour twice": (
        {"neighbours": [{"slot": 0, "seed": 1, "item": {"prompt": "a"}}] * 7},
        "expected a neighbour for each other of 8 slots",
    ),
    "a key too many": ({"script": "rm"}, "unknown key 'script'"),
    "outputs that the job has not": ({"also": {"decoded": {"dtype": "uint8", "shape": []}}}, "further outputs"),
    "a key that a terminal obeys": ({"\x1b[2J": 1}, "unknown key '\N{REPLACEMENT CHARACTER}[2J'"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_recipe_that_does_not_fit_itself_is_refused(change: str) -> None:
    more, said = CHANGES[change]
    with pytest.raises(JobError) as error:
        recipe.parse(with_digest(json.loads(GOLDEN.read_text()) | more), "'x.png'")
    assert said in str(error.value) and str(error.value).startswith("'x.png': ") and str(error.value).isprintable()


@pytest.mark.parametrize(
    ("model", "revision"),
    [
        ("/srv/model", None),
        ("../model", None),
        ("~/model", None),
        ("folder:../../model", None),
        ("folder:", None),
        ("owner/name", None),
        ("owner/name", "main"),
        ("builtin:digits", "0" * 40),
        ("https://host/model", None),
        ("../x/y", "0" * 40),
    ],
)
def test_a_model_that_is_a_path_is_never_followed(model: str, revision: str | None) -> None:
    data = json.loads(GOLDEN.read_text())
    data["job"]["pipeline"] |= {"model": model, "revision": revision}
    data["job_digest"] = ResolvedJob.from_json(json.dumps(data["job"])).digest
    with pytest.raises(JobError, match="expected model by name or by hub id and commit, found"):
        recipe.parse(with_digest(data))


@pytest.mark.parametrize(
    "items",
    [
        {"repeat": 0},
        {"count": 2**32},
        {"source": None, "grid": [{"name": "prompt", "values": ["a"] * 500}], "count": 1000, "repeat": 3},
        {"metadata": ["nowhere"]},
        {"grid": [{"name": "steps", "values": [1]}]},
    ],
)
def test_items_that_do_not_make_their_number_are_refused(items: dict[str, Any]) -> None:
    data = json.loads(GOLDEN.read_text())
    data["job"]["items"] |= items
    data["job_digest"] = ResolvedJob.from_json(json.dumps(data["job"])).digest
    with pytest.raises(JobError, match="found rows, repetitions and a grid that do not"):
        recipe.parse(with_digest(data))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a recipe in JSON, found other text"),
        ("[" * 100_000, "expected a recipe in JSON"),
        ("[]", "found JSON of another program"),
        ('{"format": "reprobatch-proof/1"}', "found JSON of another program"),
        ('{"format": "reprobatch-recipe/2"}', "found reprobatch-recipe/2; a newer reprobatch reads it"),
        ('{"format": "reprobatch-recipe/1"}', "expected a recipe that agrees with its own digest"),
        ('{"format": "reprobatch-recipe/1", "index": NaN}', "expected a recipe in JSON"),
        ('{"format": "reprobatch-recipe/1", "index": ' + "9" * 5000 + "}", "expected a recipe in JSON"),
        ("x" * (recipe.LIMIT + 1), "expected a recipe of at most 1048576 bytes, found 1048577"),
    ],
    ids=lambda text: text[:40],
)
def test_text_that_is_no_recipe_of_ours_is_refused(text: str, said: str) -> None:
    with pytest.raises(JobError, match=re.escape(said)):
        recipe.parse(text)


# Files


def chunked(*chunks: tuple[bytes, bytes], after: bytes = b"") -> bytes:
    """A PNG of one black pixel with chunks between its header and its pixels."""
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(4))), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content + after


def test_a_text_of_200_mb_is_refused_unread(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "x.png"
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 200 << 20, b"iTXt") + b"reprobatch\0\0\0\0\0")
        file.seek((200 << 20) - 15 + 4, io.SEEK_CUR)
        file.write(b"\0")
    said = command.refuses("regenerate", path)
    assert "expected text of at most 1049600 bytes, found 209715200" in said


def test_a_text_that_unpacks_to_much_is_refused(tmp_path: Path, command: Command) -> None:
    bomb = zlib.compress(bytes(50 << 20))
    path = tmp_path / "x.png"
    path.write_bytes(chunked((b"iTXt", b"reprobatch\0\1\0\0\0" + bomb)))
    assert "Decompressed data too large" in command.refuses("regenerate", path)


FILES: dict[str, tuple[bytes, str]] = {
    "no picture": (b"hello", "expected a PNG, found something else; recipes are in PNGs only"),
    "empty": (b"", "expected a PNG, found something else"),
    "cut off": (pngfile.encode(PICTURE, "x")[:-8], "cut off"),
    "cut off in a chunk": (pngfile.encode(PICTURE, "x" * 100)[:60], "cut off"),
    "a picture without": (pngfile.encode(PICTURE), "expected a PNG with a recipe, found none in it"),
    "another program's text": (chunked((b"tEXt", b"parameters\0a cat, Steps: 20")), "found none in it"),
    "a chunk with another sum": (chunked((b"tEXt", b"reprobatch\0{}")).replace(b"{}", b"[]"), "found a damaged one"),
    "a huge profile": (chunked((b"iCCP", bytes((16 << 20) + 1))), "a chunk beside the pixels of at most 16777216"),
    "not our text": (chunked((b"tEXt", b"reprobatch\0{}")), "found JSON of another program"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_carries_no_recipe_is_refused(name: str, tmp_path: Path, command: Command) -> None:
    content, said = FILES[name]
    path = tmp_path / "x.png"
    path.write_bytes(content)
    assert said in command.refuses("regenerate", path)


def test_a_recipe_in_a_jpeg_is_refused(tmp_path: Path, command: Command) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "x.jpg", comment=GOLDEN.read_bytes())
    assert "expected a PNG, found something else; recipes are in PNGs only" in command.refuses(
        "regenerate", tmp_path / "x.jpg"
    )


@pytest.mark.parametrize("chunk", ["tEXt", "zTXt", "iTXt packed", "behind the pixels"])
def test_other_programs_may_move_the_text_to_another_kind_of_chunk(tmp_path: Path, chunk: str) -> None:
    info = PngImagePlugin.PngInfo()
    text, path = GOLDEN.read_text().strip(), tmp_path / "x.png"
    if chunk == "iTXt packed":
        info.add_itxt("reprobatch", text, zip=True)
    elif chunk == "behind the pixels":
        info.add(b"tEXt", b"reprobatch\0" + text.encode(), after_idat=True)
    else:
        info.add_text("reprobatch", text, zip=chunk == "zTXt")
    Image.fromarray(PICTURE).save(path, pnginfo=info)
    assert pngfile.read_text(path) == text


# From a dataset


def _pixels(index: int) -> Output:
    return Output("uint8", (6, 5, 3), np.random.default_rng(index).integers(0, 256, 90, np.uint8).tobytes())


def test_exports_carry_recipes_and_are_byte_identical(tmp_path: Path, command: Command) -> None:
    dataset = made(tmp_path / "d", 1, 9, _pixels, "output=pixels")
    exports = []
    for name in ("one", "two"):
        code, printed, _ = command("export", dataset, "--to", tmp_path / name, "--json")
        assert code == 0 and json.loads(printed) == {
            "items": 10,
            "files": 10,
            "format": "png",
            "to": str(tmp_path / name),
        }
        exports.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert exports[0] == exports[1] and sorted(exports[0])[:2] == ["0.png", "1.png"]
    found = recipe.parse(pngfile.read_text(tmp_path / "one" / "4.png"))
    row = Dataset(dataset).look_up(4)[0]
    assert (found.index, found.seed, found.batch, found.slot, found.filled) == (4, row.seed, 1, 1, 3)
    assert (found.item, found.checksum, found.alone) == ({"prompt": "a digit"}, row.checksum, None)
    assert [each.slot for each in found.neighbours or []] == [0, 2]
    assert found.job.canonical == (dataset / "job.json").read_text()
    assert str(tmp_path) not in (tmp_path / "one" / "4.png").read_bytes().decode("latin-1")


def test_an_export_may_leave_recipes_out(tmp_path: Path, command: Command) -> None:
    dataset = made(tmp_path / "d", 1, 9, _pixels, "output=pixels")
    command("export", dataset, "--to", tmp_path / "out", "--no-recipe")
    assert b"reprobatch" not in (tmp_path / "out" / "0.png").read_bytes()


def test_bytes_without_their_checksum_get_no_recipe(tmp_path: Path) -> None:
    dataset = Dataset(made(tmp_path / "d", 1, 9, _pixels, "output=pixels"))
    row, batch = dataset.look_up(4)
    object.__setattr__(row, "output", _pixels(5))
    with pytest.raises(DataError, match="item 4: expected bytes with checksum"):
        Recipes(dataset).text(row, batch)


def test_neighbours_that_take_too_much_room_are_left_out_and_an_item_that_does_is_refused(tmp_path: Path) -> None:
    dataset = Dataset(made(tmp_path / "d", 1, 9, _pixels, "output=pixels"))
    row, batch = dataset.look_up(4)
    assert len(recipe.parse(Recipes(dataset).text(row, batch)).neighbours or []) == 2
    batch[0].item["prompt"] = "x" * recipe.LIMIT
    assert recipe.parse(Recipes(dataset).text(row, batch)).neighbours is None
    row.item["prompt"] = "x" * recipe.LIMIT
    with pytest.raises(JobError, match=r"item 4: expected a recipe of at most .*--no-recipe"):
        Recipes(dataset).text(row, batch)


def test_the_lines_of_plain_pillow_in_the_docs_read_a_recipe(tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "recipes.md").read_text(), re.DOTALL)
    assert block is not None and len(block[1].strip().splitlines()) <= 4
    written(tmp_path / "42.png", GOLDEN.read_text().strip())
    names: dict[str, Any] = {}
    exec(block[1].replace('"42.png"', repr(str(tmp_path / "42.png"))), names)
    assert names["recipe"] == json.loads(GOLDEN.read_text())
