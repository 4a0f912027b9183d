"""Items: four formats with the same content, repeated and laid over a grid, read by index range."""

from __future__ import annotations

import csv
import io
import itertools
import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobatch import cli, items, tables
from reprobatch.errors import JobError
from reprobatch.items import ItemReader
from reprobatch.jobitems import Items, ResolvedItems

Row = dict[str, Any]
FORMATS = ["txt", "jsonl", "csv", "parquet"]
PROMPTS = [
    "a cat",
    " two spaces before, one after ",
    "größer, ☃, 猫",
    'with "quotes", commas; and a \\ backslash',
    "a line separator\u2028inside, a form feed\x0cand a next line\x85too",
    "007",
    "1e3",
    "true",
    "2026-11-23",
    "NULL",
    "nan",
    "{not: json}",
]

by_the_book = settings(deadline=None, derandomize=True, max_examples=60)


def write(folder: Path, kind: str, rows: list[Row], name: str = "rows") -> Path:
    """The rows as a file of that kind, by the standard library where it can write one."""
    path = folder / f"{name}.{kind}"
    if kind == "txt":
        path.write_bytes("".join(f"{row['prompt']}\n" for row in rows).encode())
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif kind == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        path.write_bytes(text.getvalue().encode())
    else:
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    return path


def reader(path: Path | None, **spec: Any) -> ItemReader:
    """A reader of the items that a job with these keys has."""
    wanted = Items(prompts=None if path is None else path.name, **spec)
    return ItemReader(items.resolve(wanted, path), path)


def everything(found: ItemReader) -> list[Row]:
    return found.read(0, found.items.count)


# Four formats


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_prompts(tmp_path: Path, kind: str) -> None:
    rows = [{"prompt": prompt} for prompt in PROMPTS]
    assert everything(reader(write(tmp_path, kind, rows))) == rows


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_format_gives_the_same_columns(tmp_path: Path, kind: str) -> None:
    rows = [
        {"prompt": p, "steps": n, "scale": n + 0.5, "flag": n % 2 == 0, "day": f"2026-11-{n + 1:02d}", "at": "12:30:00"}
        for n, p in enumerate(PROMPTS)
    ]
    found = reader(write(tmp_path, kind, rows))
    assert everything(found) == rows
    assert [type(value) for value in everything(found)[0].values()] == [str, int, float, bool, str, str]
    assert found.items.columns == {
        "at": "string",
        "day": "string",
        "flag": "bool",
        "prompt": "string",
        "scale": "double",
        "steps": "int64",
    }


def test_the_same_items_in_another_format_are_pinned_as_another_file(tmp_path: Path) -> None:
    rows = [{"prompt": "a cat"}]
    pinned = [reader(write(tmp_path, kind, rows)).items.source for kind in FORMATS]
    assert [source and (source.name, source.format, source.rows) for source in pinned] == [
        (f"rows.{kind}", kind, 1) for kind in FORMATS
    ]
    assert len({source and source.sha256 for source in pinned}) == 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.txt", b"a cat\na dog\n"),
        ("no newline at the end.txt", b"a cat\na dog"),
        ("blank lines.txt", b"\n\na cat\n \t\n\na dog\n\n"),
        ("byte order mark.txt", b"\xef\xbb\xbfa cat\na dog\n"),
        ("windows.txt", b"a cat\r\n\r\na dog\r\n"),
        ("byte order mark.csv", b"\xef\xbb\xbfprompt\na cat\na dog\n"),
        ("windows.csv", b"prompt\r\na cat\r\na dog\r\n"),
        ("blank lines.csv", b"\nprompt\n\na cat\na dog\n"),
        ("quoted.csv", b'"prompt"\n"a cat"\n"a dog"\n'),
        ("plain.jsonl", b'{"prompt": "a cat"}\n{"prompt": "a dog"}\n'),
        ("blank lines.jsonl", b'\n{"prompt": "a cat"}\n\n\n{"prompt": "a dog"}'),
        ("byte order mark.jsonl", b'\xef\xbb\xbf{"prompt": "a cat"}\n{"prompt": "a dog"}\n'),
        ("windows.jsonl", b'{"prompt": "a cat"}\r\n{"prompt": "a dog"}\r\n'),
        ("SUFFIX IN CAPITALS.TXT", b"a cat\na dog\n"),
    ],
)
def test_how_a_file_was_saved_makes_no_other_items(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert everything(reader(tmp_path / name)) == [{"prompt": "a cat"}, {"prompt": "a dog"}]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_prompt_may_hold_line_breaks_where_the_format_can_say_so(tmp_path: Path, kind: str) -> None:
    rows = [{"prompt": "first\nsecond\r\n\nthird"}, {"prompt": "a cat"}]
    assert everything(reader(write(tmp_path, kind, rows))) == rows


@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "prompt_2", "negative_prompt_3"])
def test_a_csv_prompt_that_looks_like_a_number_stays_text(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.csv").write_text(f"{name},steps\n007,007\n1.0,2\n,3\n")
    found = everything(reader(tmp_path / "rows.csv", batched=[name]))
    assert found == [{name: "007", "steps": 7}, {name: "1.0", "steps": 2}, {name: "", "steps": 3}]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_prompt_may_be_megabytes_long(tmp_path: Path, kind: str) -> None:
    rows = [{"prompt": "a cat"}, {"prompt": "word " * 600_000 + "end"}]
    assert everything(reader(write(tmp_path, kind, rows))) == rows


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_file_longer_than_arrow_parses_at_once_is_read_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(tables, "_BLOCK", 100)
    rows = [{"prompt": f"first {n}\nsecond\n", "scale": n + 0.5 if n > 90 else n} for n in range(100)]
    assert everything(reader(write(tmp_path, kind, rows))) == rows


def test_a_csv_column_that_becomes_text_after_a_million_bytes_is_text_from_the_first_row(tmp_path: Path) -> None:
    rows = [{"prompt": "x" * 1000, "note": str(n) if n < 2000 else "many"} for n in range(2001)]
    found = everything(reader(write(tmp_path, "csv", rows), metadata=["note"]))
    assert (found[7]["note"], found[2000]["note"]) == ("7", "many")


def test_a_cell_without_a_value_is_none_but_only_outside_prompts(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,steps\na,1\nb,\n")
    assert everything(reader(tmp_path / "rows.csv"))[1] == {"prompt": "b", "steps": None}


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"], pa.string_view()),
    ],
    ids=lambda array: str(array.type),
)
def test_parquet_text_of_any_arrow_type_is_text(tmp_path: Path, array: pa.Array) -> None:
    pq.write_table(pa.table({"prompt": array}), tmp_path / "rows.parquet")
    assert everything(reader(tmp_path / "rows.parquet")) == [{"prompt": "a"}, {"prompt": "b"}]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.uint32(), pa.int64()], ids=str)
def test_parquet_whole_numbers_of_any_width_are_int64(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"class_labels": pa.array([1, 2], kind)}), tmp_path / "rows.parquet")
    found = reader(tmp_path / "rows.parquet")
    assert everything(found) == [{"class_labels": 1}, {"class_labels": 2}]
    assert found.items.columns == {"class_labels": "int64"}


# Parquet is not held


class CountedFile(pq.ParquetFile):
    """Notes which row groups are read, and of which columns."""

    reads: list[tuple[int, tuple[str, ...]]]

    def read_row_group(self, i: int, columns: Any = None, **options: Any) -> pa.Table:
        self.reads.append((i, tuple(columns)))
        return super().read_row_group(i, columns=columns, **options)


def test_parquet_is_read_a_row_group_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"p{n}", "note": f"n{n}"} for n in range(12)]
    found = reader(write(tmp_path, "parquet", rows), metadata=["note"])  # row groups of 3
    assert found.items.source is not None
    reads: list[tuple[int, tuple[str, ...]]] = []
    monkeypatch.setattr(CountedFile, "reads", reads, raising=False)
    monkeypatch.setattr(pq, "ParquetFile", CountedFile)
    found = ItemReader(found.items, tmp_path / "rows.parquet")
    both = ("prompt", "note")
    assert reads == []
    for start, stop, expected in [
        (0, 2, [(0, both)]),
        (2, 3, []),  # the group is held
        (4, 5, [(1, both)]),
        (2, 3, [(0, both)]),  # and no second one
        (2, 10, [(1, both), (2, both), (3, both)]),
        (9, 12, []),
        (5, 5, []),
    ]:
        reads.clear()
        assert found.read(start, stop) == rows[start:stop]
        assert reads == expected, (start, stop)


def test_batches_are_planned_from_the_columns_that_split_them_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"p{n}", "steps": n // 4} for n in range(12)]
    pinned = reader(write(tmp_path, "parquet", rows)).items
    reads: list[tuple[int, tuple[str, ...]]] = []
    monkeypatch.setattr(CountedFile, "reads", reads, raising=False)
    monkeypatch.setattr(pq, "ParquetFile", CountedFile)
    assert ItemReader(pinned, tmp_path / "rows.parquet").breaks().tolist() == [4, 8]
    assert reads == [(group, ("steps",)) for group in range(4)]


def test_a_file_that_changed_since_the_job_was_pinned_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "txt", [{"prompt": "a cat"}])
    pinned = reader(path).items
    path.write_text("a dog\n")
    with pytest.raises(JobError, match=r"expected the item file with SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}"):
        ItemReader(pinned, path)


# Which item is which

rows_of_file = st.integers(1, 7).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            "prompt": st.lists(st.sampled_from("abc"), min_size=n, max_size=n),
            "steps": st.lists(st.sampled_from([1, 2, None]), min_size=n, max_size=n),
            "scale": st.lists(st.sampled_from([0.5, 1.5]), min_size=n, max_size=n),
            "note": st.lists(st.sampled_from("xyz"), min_size=n, max_size=n),
        }
    )
)
grids = st.dictionaries(
    st.sampled_from(["eta", "strength", "clip_skip", "negative_prompt"]),
    st.one_of(
        st.lists(st.integers(0, 2), min_size=1, max_size=3),
        st.lists(st.sampled_from([0, 0.5, 1]), min_size=1, max_size=3),
        st.lists(st.booleans(), min_size=1, max_size=2),
        st.lists(st.sampled_from(["", "u"]), min_size=1, max_size=2),
    ),
    max_size=3,
)
batched = st.sets(st.sampled_from(["scale"]))


def naive(rows: list[Row], repeat: int, grid: dict[str, list[Any]]) -> list[Row]:
    """All items, by loops in the order that the documentation gives."""
    found = []
    for values in itertools.product(*grid.values()):
        for row in rows:
            for _ in range(repeat):
                found.append({**row, **dict(zip(grid, values, strict=True))})
    return found


def naive_breaks(expected: list[Row], lists: set[str]) -> list[int]:
    """A new batch begins where any splitting column differs from the previous item's."""
    splitting = [c for c in expected[0] if c not in lists]
    return [n for n in range(1, len(expected)) if any(expected[n][c] != expected[n - 1][c] for c in splitting)]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("items")


@by_the_book
@given(columns=rows_of_file, repeat=st.integers(1, 3), grid=grids, lists=batched, data=st.data())
def test_items_of_a_file_are_those_of_naive_loops(
    scratch: Path, columns: dict[str, list[Any]], repeat: int, grid: dict[str, list[Any]], lists: set[str], data: Any
) -> None:
    path = scratch / "rows.parquet"
    types = [("prompt", pa.string()), ("steps", pa.int64()), ("scale", pa.float64()), ("note", pa.string())]
    table = pa.table(columns, schema=pa.schema(types))
    pq.write_table(table, path, row_group_size=2)
    found = reader(path, repeat=repeat, grid=grid, batched=sorted(lists), metadata=["note"])
    expected = naive(table.to_pylist(), repeat, grid)
    assert found.items.count == len(expected)
    assert everything(found) == expected
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    assert found.read(start, stop) == expected[start:stop]
    breaks = found.breaks()
    assert breaks.dtype == np.int64
    assert breaks.tolist() == naive_breaks(expected, lists | {"prompt", "negative_prompt", "note"})


@by_the_book
@given(count=st.integers(1, 5), repeat=st.integers(1, 3), grid=grids)
def test_items_without_a_file_are_those_of_naive_loops(count: int, repeat: int, grid: dict[str, list[Any]]) -> None:
    found = reader(None, count=count, repeat=repeat, grid=grid)
    expected = naive([{} for _ in range(count)], repeat, grid)
    assert everything(found) == expected
    assert found.breaks().tolist() == naive_breaks(expected, {"negative_prompt"})


def test_an_index_is_a_setting_a_row_and_a_repetition(tmp_path: Path) -> None:
    path = write(tmp_path, "txt", [{"prompt": p} for p in "abcde"])
    found = reader(path, repeat=3, grid={"eta": [0.0, 1.0], "steps": [10, 20, 30, 40]})
    for setting, (eta, steps) in enumerate(itertools.product([0.0, 1.0], [10, 20, 30, 40])):
        for row, prompt in enumerate("abcde"):
            for repetition in range(3):
                index = (setting * 5 + row) * 3 + repetition
                assert found.read(index, index + 1) == [{"prompt": prompt, "eta": eta, "steps": steps}]


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 3), (2, 1), (3, 3)])
def test_an_index_range_outside_the_items_is_refused(tmp_path: Path, start: int, stop: int) -> None:
    found = reader(write(tmp_path, "txt", [{"prompt": "a"}, {"prompt": "b"}]))
    with pytest.raises(JobError, match=f"expected an index range within 0 … 2, found {start} … {stop}"):
        found.read(start, stop)


def test_whole_numbers_among_fractions_of_a_grid_are_fractions_as_the_dataset_will_hold_them() -> None:
    found = reader(None, count=1, grid={"guidance_scale": [1, 2.5]})
    assert repr(everything(found)) == "[{'guidance_scale': 1.0}, {'guidance_scale': 2.5}]"
    assert found.items.columns == {"guidance_scale": "double"}


def test_a_grid_of_four_billion_settings_is_never_written_out() -> None:
    grid = {f"prompt_{n}": list("ab") for n in range(32)}
    found = reader(None, count=1, grid=grid)
    assert found.items.count == 2**32
    assert "".join(found.read(2**32 - 2, 2**32 - 1)[0].values()) == "b" * 31 + "a"
    assert found.breaks().tolist() == []
    found = reader(None, count=1, grid={"eta": [0, 1], **dict(list(grid.items())[1:])})
    assert found.breaks().tolist() == [2**31]


def test_items_are_the_same_after_the_job_was_kept_and_read_back(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", [{"prompt": "a", "author": "x"}, {"prompt": "b", "author": "y"}])
    found = reader(path, repeat=2, grid={"steps": [2, 1], "eta": [0.5, 0]}, metadata=["author"])
    kept = ResolvedItems.model_validate_json(json.dumps(found.items.model_dump(mode="json"), sort_keys=True))
    assert kept == found.items
    assert everything(ItemReader(kept, path)) == everything(found)
    assert list(kept.columns) == list(found.items.columns)


# Columns that split batches, and columns that do not


def test_arguments_given_as_lists_and_metadata_split_no_batch(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "class_labels": n, "image_id": n, "note": f"n{n}", "seed": n} for n in range(4)]
    found = reader(write(tmp_path, "jsonl", rows), batched=["image_id"], metadata=["note"])
    assert items.splitting_columns(found.items) == []
    assert found.breaks().tolist() == []
    assert found.items.batched == ["class_labels", "image_id", "prompt"]
    assert found.items.metadata == ["note"]
    assert everything(found) == rows


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("prompt", True),
        ("prompt_2", True),
        ("negative_prompt", True),
        ("negative_prompt_2", True),
        ("class_labels", True),
        ("prompt_embeds", False),
        ("my_prompt", False),
        ("guidance_scale", False),
        ("height", False),
    ],
)
def test_names_of_arguments_that_pipelines_take_as_lists(name: str, listed: bool) -> None:
    assert items.is_batched_name(name) is listed


# Seeds that items bring along


def test_explicit_seeds_of_the_whole_range_are_kept(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "seed": 0}, {"prompt": "b", "seed": 2**32 - 1}]
    found = reader(write(tmp_path, "csv", rows))
    assert everything(found) == rows
    assert items.splitting_columns(found.items) == []


def test_repeated_seeds_are_reported_by_their_rows(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "seed": seed} for seed in (5, 6, 7, 6, 5, 5)]
    assert items.repeated_seeds(write(tmp_path, "csv", rows)) == [(1, 3), (0, 4)]
    assert items.repeated_seeds(write(tmp_path, "txt", rows)) == []


def test_a_run_says_first_that_seeds_are_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> NoReturn:
        raise JobError("stopped by the test")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "reprobatch.runner", SimpleNamespace(run=stop))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    write(tmp_path, "csv", [{"prompt": "a", "seed": seed} for seed in (5, 6, 5)])
    (tmp_path / "job.yaml").write_text(
        "{name: tiny, master_seed: 7, pipeline: {model: model}, items: {prompts: rows.csv, repeat: 2}, "
        "batch_size: 1, shard_size: 1}"
    )
    with pytest.raises(SystemExit):
        cli.main(["run", "job.yaml", "--out", "made"])
    assert capsys.readouterr().err.splitlines() == [
        "items.repeat is 2: each explicit seed is used as often",
        "rows 0 and 2 of the items have the same seed, and so the same noise",
        "reprobatch: stopped by the test",
    ]
