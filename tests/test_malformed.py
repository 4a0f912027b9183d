"""Jobs and arguments that are wrong: one line that says what, exit code 2, nothing written.

Every table is driven through ``run``, whose runner is taken away: what is wrong must be said before
Ray is started.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reprobatch
from reprobatch import cli
from reprobatch.jobitems import RESERVED_ARGUMENTS, RESERVED_COLUMNS

GOOD = {
    "name": "tiny",
    "master_seed": "7",
    "pipeline": "{model: model}",
    "items": "{prompts: prompts.txt}",
    "batch_size": "4",
    "shard_size": "8",
}
RUN = ["run", "job.yaml", "--out", "made"]


def text(**changes: str | None) -> str:
    """A good job's YAML with some keys changed, or left out where they are ``None``."""
    keys = {**GOOD, **changes}
    return "".join(f"{key}: {value}\n" for key, value in keys.items() if value is not None)


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 8]) + data[at + 8 :]


def listing(folder: Path) -> dict[str, bytes | None]:
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


def runner_called(*_: object, **__: object) -> NoReturn:
    raise AssertionError("expected the error before anything runs")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a good job, its model (no weights are needed) and its prompts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "reprobatch.runner", SimpleNamespace(run=runner_called))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    (tmp_path / "job.yaml").write_text(text())
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def dataset(folder: Path) -> Path:
    """A dataset of two items that has a job and no shard yet."""
    (folder / "dataset").mkdir()
    (folder / "dataset" / "job.json").write_text(reprobatch.load("job.yaml").job.canonical)
    return folder / "dataset"


class Refused:
    """Calls the command and checks everything that all refusals share; returns what the line says."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._capsys = folder, capsys

    def __call__(self, *arguments: str) -> str:
        before = listing(self._folder)
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        printed, said = self._capsys.readouterr()
        assert ended.value.code == 2, said
        assert said.startswith("reprobatch: ") and said.endswith("\n") and len(said.splitlines()) == 1, said
        assert "Traceback" not in said
        assert printed == ""
        assert listing(self._folder) == before
        return said


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    return Refused(folder, capsys)


def test_the_job_that_the_tables_change_gets_to_the_runner(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(RUN)
    assert ended.value.code == 1
    assert "expected the error before anything runs" in capsys.readouterr().err


# The text is no job

BOMB = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}' if n else '1'] * 10)}]\n" for n in range(7))
NOT_A_JOB: list[tuple[str, str | bytes, str]] = [
    ("no YAML", "name: [tiny", "not valid YAML"),
    ("a tab as indentation", "name: tiny\nitems:\n\tcount: 2\n", "line 3, column 1"),
    ("empty file", "", "expected a mapping of keys such as 'name' and 'pipeline', found nothing"),
    ("nothing but a comment", "# later\n", "found nothing"),
    ("a list at the top", "- name: tiny\n", "found a list"),
    ("text at the top", "tiny\n", "found text"),
    ("a number at the top", "7\n", "found a number"),
    ("two documents", text() + "---\n" + text(), "found another document (line 7, column 1)"),
    ("a key twice", text() + "name: other\n", 'duplicate key "name"'),
    ("a nested key twice", text(items="{count: 2, count: 3}"), 'duplicate key "count"'),
    ("a tag that calls a function", text(call='{x: !!python/object/apply:os.system ["touch x"]}'), "os.system"),
    ("a tag that names a function", text(call="{x: !!python/name:os.system }"), "could not determine a constructor"),
    ("a tag of its own", text(name="!mine tiny"), "could not determine a constructor for the tag '!mine'"),
    ("bytes", text(call="{x: !!binary aGk=}"), "call.x: expected text, a number, a list or a mapping, found a bytes"),
    ("a set", text(call="{x: !!set {a}}"), "call.x: expected text, a number, a list or a mapping, found a set"),
    ("a date", text(name="2026-11-23"), "name: expected text, a number, a list or a mapping, found a date; put text"),
    ("a date that is none", text(name="2026-13-45"), "month must be in 1..12"),
    ("a tagged number that is none", text(name="!!int tiny"), "a value is not what it looks like"),
    ("a tagged boolean that is none", text(name="!!bool tiny"), "a value is not what it looks like"),
    ("an alias of nothing", text(call="*defaults"), "found undefined alias 'defaults'"),
    ("an alias of itself", text(call="&a {x: *a}"), "nested more than 32 deep; is an alias part of itself?"),
    ("aliases that multiply", text() + BOMB, "expected at most 100000 values"),
    ("brackets without end", text(call="{x: " + "[" * 600), "nested too deeply"),
    ("a merge of no mapping", text(call="{<<: 3}"), "expected a mapping or list of mappings for merging"),
    ("a control character", text(name="a\0b"), "special characters are not allowed"),
    ("Latin-1", text(name="caf\xe9").encode("latin-1"), "expected UTF-8 text, found"),
    ("half a character", text(name='"\\ud800"'), "name: expected Unicode text, found half a character"),
    ("half a character in a key", text(call='{"\\ud800": 1}'), "call: in a key, expected Unicode text"),
    ("a number as a key", text() + "7: x\n", "the job: expected keys that are text, found 7; put it in quotes"),
    ("a number as a nested key", text(call="{7: x}"), "call: expected keys that are text, found 7; put it in quotes"),
    ("null as a key", text(call="{null: x}"), "call: expected keys that are text, found None"),
    ("a list as a key", text() + "? [a, b]\n: x\n", "the job: expected keys that are text"),
]


@pytest.mark.parametrize(("content", "expected"), [pytest.param(*row[1:], id=row[0]) for row in NOT_A_JOB])
def test_text_that_is_no_job(refused: Refused, folder: Path, content: str | bytes, expected: str) -> None:
    (folder / "job.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    assert expected in refused(*RUN)


# Keys and values

LONG = "1" + "0" * 4999
WRONG_VALUES: list[tuple[dict[str, str | None], str]] = [
    *(({key: None}, f"job.yaml: missing key '{key}'") for key in GOOD),
    ({"pipeline": "{dtype: float32}"}, "missing key 'pipeline.model'"),
    ({"pipeline": "{model: model, scheduler: {config: {}}}"}, "missing key 'pipeline.scheduler.name'"),
    ({"name": None, "batch_size": None}, "missing key 'name' (and 1 more)"),
    # keys that are not known, at every level
    ({"nmae": "tiny"}, "unknown key 'nmae' (did you mean 'name'?)"),
    ({"name": None, "nmae": "tiny"}, "unknown key 'nmae' (did you mean 'name'?) (and 1 more)"),
    ({"zzz": "1"}, "unknown key 'zzz' (known: name, master_seed"),
    ({"pipeline": "{modle: model}"}, "unknown key 'pipeline.modle' (did you mean 'model'?)"),
    (
        {"pipeline": "{model: model, scheduler: {name: DDIMScheduler, confg: {}}}"},
        "unknown key 'pipeline.scheduler.confg' (did you mean 'config'?)",
    ),
    ({"items": "{promts: prompts.txt}"}, "unknown key 'items.promts' (did you mean 'prompts'?)"),
    ({"workers": "{thread: 1}"}, "unknown key 'workers.thread' (did you mean 'threads'?)"),
    ({"determinism": "{profil: strict}"}, "unknown key 'determinism.profil' (did you mean 'profile'?)"),
    ({"format": "reprobatch-job/1"}, "unknown key 'format'"),
    # types
    ({"name": "7"}, "name: expected text, found 7; put it in quotes"),
    ({"name": "[tiny]"}, 'name: expected text, found ["tiny"]'),
    ({"master_seed": '"7"'}, 'master_seed: expected a whole number, found "7"'),
    ({"master_seed": "true"}, "master_seed: expected a whole number, found true"),
    ({"master_seed": "7.0"}, "master_seed: expected a whole number, found 7.0"),
    ({"master_seed": "1e3"}, "master_seed: expected a whole number, found 1000.0"),
    ({"master_seed": ""}, "master_seed: expected a whole number, found null"),
    ({"pipeline": "model"}, 'pipeline: expected a mapping, found "model"'),
    ({"pipeline": "{model: }"}, "pipeline.model: expected text, found null"),
    ({"pipeline": "{model: model, revision: 1234567}"}, "pipeline.revision: expected text, found 1234567; put it in"),
    ({"pipeline": "{model: model, scheduler: [DDIMScheduler]}"}, "pipeline.scheduler: expected a mapping, found ["),
    ({"items": "prompts.txt"}, 'items: expected a mapping, found "prompts.txt"'),
    ({"items": "{prompts: [a, b]}"}, 'items.prompts: expected text, found ["a", "b"]'),
    ({"items": "{count: true}"}, "items.count: expected a whole number, found true"),
    ({"items": "{count: 2, repeat: 1.5}"}, "items.repeat: expected a whole number, found 1.5"),
    ({"items": "{count: 2, grid: [1, 2]}"}, "items.grid: expected a mapping, found [1, 2]"),
    ({"items": "{count: 2, grid: {x: 1}}"}, "items.grid.x: expected a list, found 1"),
    ({"items": "{count: 2, metadata: prompt}"}, 'items.metadata: expected a list, found "prompt"'),
    ({"items": "{count: 2, batched: [1]}"}, "items.batched.0: expected text, found 1"),
    ({"call": "[1]"}, "call: expected a mapping, found [1]"),
    ({"workers": "2"}, "workers: expected a mapping, found 2"),
    ({"workers": "{threads: 1.0}"}, "workers.threads: expected a whole number, found 1.0"),
    ({"workers": "{cpus: one}"}, 'workers.cpus: expected a number, found "one"'),
    ({"determinism": "true"}, "determinism: expected a mapping, found true"),
    # ranges and choices
    ({"name": "a/b"}, "name: expected up to 100 letters, digits and, after the first, any of _ . -, found"),
    ({"name": "a" * 101}, "name: expected up to 100 letters"),
    ({"name": '""'}, "name: expected up to 100 letters"),
    ({"master_seed": "-1"}, "master_seed: expected a number of at least 0, found -1"),
    ({"master_seed": LONG}, "Exceeds the limit (4300 digits)"),
    ({"master_seed": "0x" + "f" * 1000}, "master_seed: expected a whole number of at most 2048 bits, found one"),
    ({"batch_size": "0"}, "batch_size: expected a number of at least 1, found 0"),
    ({"batch_size": "40000", "shard_size": "40000"}, "batch_size: expected a number of at most 32767, found 40000"),
    ({"batch_size": "0x" + "f" * 4000}, "batch_size: expected a whole number of at most 2048 bits"),
    ({"shard_size": "0"}, "shard_size: expected a number of at least 1, found 0"),
    ({"shard_size": "10"}, "job.yaml: shard_size 10 must be a multiple of batch_size 4"),
    ({"shard_size": "10"}, "use 8 or 12\n"),
    ({"shard_size": "3"}, "use 4\n"),
    ({"workers": "{threads: 0}"}, "workers.threads: expected a number of at least 1, found 0"),
    ({"workers": "{threads: 5000}"}, "workers.threads: expected a number of at most 1024, found 5000"),
    ({"workers": "{cpus: -1}"}, "workers.cpus: expected a number of at least 0, found -1"),
    ({"workers": "{gpus: 1.5}"}, "workers.gpus: expected a fraction below 1 or a whole number"),
    ({"pipeline": "{model: ''}"}, 'pipeline.model: expected text that is not empty, found ""'),
    ({"pipeline": "{model: a/b, revision: ''}"}, "pipeline.revision: expected text that is not empty"),
    ({"pipeline": "{model: model, dtype: float64}"}, "expected 'float32', 'float16' or 'bfloat16', found \"float64\""),
    ({"output": "Pixels!"}, "output: expected latent, pixels or a field of the pipeline's output class"),
    ({"output": "latents"}, "output: expected latent, pixels or a field of the output class (did you mean 'latent'?)"),
    ({"output": "dtype"}, "output: expected latent, pixels or a field of the output class, found"),
    ({"determinism": "loose"}, "determinism.profile: expected 'strict' or 'portable', found \"loose\""),
    ({"determinism": "{cublas_workspace: ':1:1'}"}, "cublas_workspace: expected ':16:8' or ':4096:8', found"),
    ({"pipeline": "{model: model, scheduler: ddim}"}, "expected the name of a diffusers scheduler class, such as"),
    ({"pipeline": "{model: model, scheduler: os.Scheduler}"}, "expected the name of a diffusers scheduler class"),
    # numbers that JSON cannot hold
    ({"call": "{guidance_scale: .nan}"}, "call.guidance_scale: expected a finite number, found nan"),
    ({"call": "{guidance_scale: 1e400}"}, "call.guidance_scale: expected a finite number, found inf"),
    ({"call": "{sigmas: [1.0, -.inf]}"}, "call.sigmas.1: expected a finite number, found -inf"),
    ({"call": "{options: {eta: .inf}}"}, "call.options.eta: expected a finite number, found inf"),
    ({"workers": "{cpus: .inf}"}, "workers.cpus: expected a finite number, found inf"),
    ({"items": "{count: 2, grid: {eta: [0.5, .nan]}}"}, "items.grid.eta.1: expected a finite number, found nan"),
    (
        {"pipeline": "{model: model, scheduler: {name: DDIMScheduler, config: {beta_start: .inf}}}"},
        "pipeline.scheduler.config.beta_start: expected a finite number, found inf",
    ),
    # arguments that are not the job's to set
    *(
        ({"call": f"{{{name}: 1}}"}, f"call: '{name}' cannot be set here: {why}")
        for name, why in RESERVED_ARGUMENTS.items()
    ),
    *(
        ({"items": f"{{count: 2, grid: {{{name}: [1]}}}}"}, f"items: '{name}' cannot be set here")
        for name in RESERVED_ARGUMENTS
    ),
    ({"call": "{seed: 3}"}, "'seed' cannot be set here: seeds come from master_seed"),
    ({"items": "{count: 2, grid: {seed: [1, 2]}}"}, "'seed' cannot be set here: seeds come from master_seed"),
    ({"call": "{guidance scale: 3}"}, "expected the names of call arguments, found 'guidance scale'"),
    # items without a file
    ({"items": "{}"}, "items: expected exactly one of 'prompts' (a file) and 'count'"),
    ({"items": "{count: 2, prompts: prompts.txt}"}, "items: expected exactly one of 'prompts' (a file) and 'count'"),
    ({"items": "{count: 0}"}, "items.count: expected a number of at least 1, found 0"),
    ({"items": "{count: -3}"}, "items.count: expected a number of at least 1, found -3"),
    ({"items": "{count: 2, repeat: 0}"}, "items.repeat: expected a number of at least 1, found 0"),
    ({"items": "{count: 4294967297}"}, "expected at most 2**32 = 4294967296 items, found 4294967297"),
    ({"items": "{prompts: prompts.txt, repeat: 2147483649}"}, "items, found 4294967298"),
    (
        {"items": f"{{count: 1, grid: {{{', '.join(f'x{n}: [0, 1, 2, 3]' for n in range(40))}}}}}"},
        f"items, found {4**40}",
    ),
    ({"items": "{count: 2, grid: {eta: []}}"}, "items: grid.eta is empty; give it at least one value"),
    ({"items": "{count: 2, grid: {eta: [1, a]}}"}, 'items: grid.eta: expected values of one type, found [1, "a"]'),
    ({"items": "{count: 2, grid: {eta: [1, true]}}"}, "items: grid.eta: expected values of one type, found [1, true]"),
    ({"items": "{count: 2, grid: {eta: [null]}}"}, "items: grid.eta: expected numbers, text or booleans, found [null]"),
    ({"items": "{count: 2, grid: {eta: [[1]]}}"}, "items: grid.eta: expected numbers, text or booleans, found [[1]]"),
    (
        {"items": "{count: 2, grid: {eta: [9223372036854775808]}}"},
        "items: grid.eta: expected whole numbers of at most 64 bits, found 9223372036854775808",
    ),
    ({"items": "{count: 2, grid: {index: [1]}}"}, "column 'index' of the items: the dataset has a column of that name"),
    ({"items": "{count: 2, grid: {eta: [1]}}", "call": "{eta: 0}"}, "'eta' is set in call and is a column"),
    ({"items": "{count: 2, metadata: [eta]}"}, "items.metadata names 'eta', which is no column of the items"),
    # the model
    ({"pipeline": "{model: 'builtin:digist'}"}, "found 'digist' (did you mean 'digits'?)"),
    ({"pipeline": "{model: 'builtin:digits', revision: main}"}, "pipeline.revision belongs to hub ids"),
    ({"pipeline": "{model: model, revision: main}"}, "pipeline.revision belongs to hub ids"),
    ({"pipeline": "{model: owner/name}"}, "hub model 'owner/name' needs pipeline.revision: a commit, or a branch"),
    ({"pipeline": "{model: no-such-folder}"}, "to be builtin:NAME, an existing folder or a hub id (owner/name), found"),
    ({"pipeline": "{model: '~no-such-user/model'}"}, "pipeline.model: '~no-such-user/model' cannot be a path"),
    ({"pipeline": f"{{model: {'m' * 300}}}"}, "cannot be a path"),
]  # fmt: skip


def test_at_least_fifty_malformed_jobs_are_in_the_tables() -> None:
    assert len(NOT_A_JOB) + len(WRONG_VALUES) >= 50


@pytest.mark.parametrize(("changes", "expected"), WRONG_VALUES, ids=[row[1][:60] for row in WRONG_VALUES])
def test_keys_and_values_that_are_wrong(
    refused: Refused, folder: Path, changes: dict[str, str | None], expected: str
) -> None:
    (folder / "job.yaml").write_text(text(**changes))
    assert expected in refused(*RUN)


# Files of items

PROMPTS = pa.table({"prompt": ["a cat", "a dog"]})
LATIN = pa.table({"prompt": pa.array([b"caf\xe9"]).view(pa.string())})
WRONG_FILES: list[tuple[str, str | bytes, str, str]] = [
    # the file itself
    ("rows.docx", "a cat\n", "", "expected a file ending in .txt, .jsonl, .csv, .parquet, found 'rows.docx'"),
    ("rows", "a cat\n", "", "expected a file ending in .txt, .jsonl, .csv, .parquet, found 'rows'"),
    ("rows.txt", "", "", "items.prompts: 'rows.txt' holds no items"),
    ("rows.txt", " \n\r\n\t\n", "", "items.prompts: 'rows.txt' holds no items"),
    ("rows.txt", "caf\xe9".encode("latin-1"), "", "cannot read 'rows.txt' as txt: 'utf-8' codec"),
    ("rows.csv", "", "", "cannot read 'rows.csv' as csv: Empty CSV file"),
    ("rows.csv", "prompt\n", "", "items.prompts: 'rows.csv' holds no items"),
    ("rows.csv", "prompt,x\na cat,1\na dog\n", "", "cannot read 'rows.csv' as csv: CSV parse error"),
    ("rows.csv", "prompt\ncaf\xe9\n".encode("latin-1"), "", "cannot read 'rows.csv' as csv"),
    ("rows.jsonl", "", "", "items.prompts: 'rows.jsonl' holds no items"),
    ("rows.jsonl", "\n \n", "", "items.prompts: 'rows.jsonl' holds no items"),
    ("rows.jsonl", "{}\n{}\n", "", "items.prompts: 'rows.jsonl' holds no items"),
    ("rows.jsonl", '{"prompt": "a cat"\n', "", "cannot read 'rows.jsonl' as jsonl: JSON parse error"),
    ("rows.jsonl", '["a cat"]\n', "", "cannot read 'rows.jsonl' as jsonl: JSON parse error"),
    ("rows.jsonl", '{"prompt": "a"}\n{"prompt": 1}\n', "", "changed from string to number in row 1"),
    ("rows.jsonl", '{"prompt": "a", "prompt": "b"}\n', "", "was specified twice in row 0"),
    ("rows.jsonl", '{"prompt": "caf\xe9"}\n'.encode("latin-1"), "", "cannot read 'rows.jsonl' as jsonl"),
    ("rows.parquet", b"", "", "cannot read 'rows.parquet' as parquet"),
    ("rows.parquet", b"PAR1 is not enough", "", "cannot read 'rows.parquet' as parquet"),
    ("rows.parquet", parquet(PROMPTS)[:-20], "", "cannot read 'rows.parquet' as parquet"),
    ("rows.parquet", damaged(parquet(PROMPTS), 4), "", "cannot read row group 0 of 'rows.parquet'"),
    ("rows.parquet", parquet(PROMPTS.slice(0, 0)), "", "items.prompts: 'rows.parquet' holds no items"),
    ("rows.parquet", parquet(LATIN), "", "cannot read row group 0 of 'rows.parquet': Column 0: In chunk 0: Invalid"),
    # columns
    *(
        ("rows.csv", f"prompt,{name}\na,1\n", "", f"column '{name}' of the items: the dataset has a column of that")
        for name in sorted(RESERVED_COLUMNS)
    ),
    *(
        ("rows.csv", f"{name}\n1\n", "", f"column '{name}' of the items cannot be a call argument: {why}")
        for name, why in RESERVED_ARGUMENTS.items()
    ),
    ("rows.csv", "prompt,my note\na,b\n", "", "column 'my note' of the items cannot be a call argument; name it in"),
    ("rows.csv", "prompt,\na,b\n", "", "column '' of the items cannot be a call argument"),
    ("rows.csv", "prompt,prompt\na,b\n", "", "two columns are called 'prompt'; rename one of them"),
    ("rows.parquet", parquet(pa.table([["a"], ["b"]], ["prompt", "prompt"])), "", "two columns are called 'prompt'"),
    ("rows.jsonl", '{"prompt": ["a", "b"]}\n', "", "column 'prompt' of the items: expected text, numbers or"),
    ("rows.jsonl", '{"prompt": "a", "size": {"x": 1}}\n', "", "column 'size' of the items: expected text, numbers or"),
    ("rows.jsonl", '{"prompt": null}\n', "", "column 'prompt' of the items: expected text, numbers or"),
    ("rows.parquet", parquet(pa.table({"prompt": [b"a"]})), "", "expected text, numbers or booleans, found binary"),
    ("rows.csv", "prompt,eta\na,1\n", "grid: {eta: [1]}", "items.grid.eta: the item file has a column of that name"),
    ("rows.csv", "prompt,note\na,b\n", "metadata: [nte]", "names 'nte', which is no column of the items (did you"),
    ("rows.csv", "prompt,note\na,b\n", "batched: [nte]", "items.batched names 'nte', which is no column of the items"),
    # values
    ("rows.jsonl", '{"prompt": "a"}\n{"eta": 1.0}\n', "", "column 'prompt' of the items: row 1 (from 0) has no value"),
    ("rows.csv", "prompt,eta\na,1\nb,-inf\n", "", "column 'eta' of the items: expected finite numbers, found -inf in"),
    ("rows.parquet", parquet(pa.table({"eta": [float("nan")]})), "", "expected finite numbers, found nan in row 0"),
    ("rows.csv", "prompt,seed\na,0\nb,-1\n", "", "seed -1 at position 1 is outside 0 to 4294967295"),
    ("rows.csv", "prompt,seed\na,0\nb,4294967296\n", "", "seed 4294967296 at position 1 is outside 0 to 4294967295"),
    ("rows.csv", "prompt,seed\na,0\nb,\n", "", "column 'seed' of the items: row 1 (from 0) has no value"),
    ("rows.csv", "prompt,seed\na,0\nb,1.5\n", "", "column 'seed' of the items: expected whole numbers of at"),
    ("rows.csv", "prompt,seed\na,0\nb,x\n", "", "column 'seed' of the items: expected whole numbers"),
    ("rows.parquet", parquet(pa.table({"seed": pa.array([2**64 - 1], pa.uint64())})), "", "cannot read row group 0"),
    ("rows.csv", "prompt,seed\na,0\n", "metadata: [seed]", "names 'seed', but that column is what seeds an item"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "more", "expected"), WRONG_FILES, ids=[f"{row[0]}: {row[3][:50]}" for row in WRONG_FILES]
)
def test_files_of_items_that_are_wrong(
    refused: Refused, folder: Path, name: str, content: str | bytes, more: str, expected: str
) -> None:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    (folder / "job.yaml").write_text(text(items=f"{{prompts: {name}, {more}}}"))
    assert expected in refused(*RUN)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing.txt", "items.prompts: no file 'missing.txt' in the working directory or beside the job file"),
        ("model", "items.prompts: no file 'model'"),
        ("~no-such-user/p.txt", "items.prompts: '~no-such-user/p.txt' cannot be a path"),
        ("p" * 300 + ".txt", "File name too long"),
    ],
)
def test_files_of_items_that_are_not_there(refused: Refused, folder: Path, name: str, expected: str) -> None:
    (folder / "job.yaml").write_text(text(items=f"{{prompts: {name}}}"))
    assert expected in refused(*RUN)


def test_an_argument_both_in_call_and_in_the_item_file(refused: Refused, folder: Path) -> None:
    (folder / "job.yaml").write_text(text(call="{prompt: a bird}"))
    assert "'prompt' is set in call and is a column of the items; keep one of them" in refused(*RUN)


# Model folders


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (None, "expected a diffusers pipeline folder with a readable model_index.json"),
        ("{", "expected a diffusers pipeline folder with a readable model_index.json"),
        ("[]", "expected the name of a diffusers pipeline class in model_index.json, found None"),
        ("{}", "expected the name of a diffusers pipeline class in model_index.json, found None"),
        ('{"_class_name": ["pipeline", "Mine"]}', "pipelines that bring their own code are not run"),
    ],
    ids=["no index", "no JSON", "a list", "no class", "a class with its own code"],
)
def test_model_folders_that_are_wrong(refused: Refused, folder: Path, index: str | None, expected: str) -> None:
    path = folder / "model" / "model_index.json"
    path.unlink() if index is None else path.write_text(index)
    assert expected in refused(*RUN)


# Overrides


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("batch_size", "-s: expected key.sub=value, found 'batch_size'"),
        ("=4", "-s: expected key.sub=value, found '=4'"),
        ("items..count=4", "-s: expected key.sub=value, found 'items..count=4'"),
        ("items.=4", "-s: expected key.sub=value, found 'items.=4'"),
        ("name.sub=4", "-s name.sub: 'name' is not a mapping in this job"),
        ("items.prompts.x=4", "-s items.prompts.x: 'prompts' is not a mapping in this job"),
        ("call.x=[1", "-s call.x: not a YAML value"),
        (
            "call.x=2026-13-45",
            "-s call.x: not a YAML value: a value is not what it looks like (month must be in 1..12)",
        ),
        ("call.x=2026-11-23", "call.x: expected text, a number, a list or a mapping, found a date"),
        ('call.x=!!python/object/apply:os.system ["touch x"]', "-s call.x: not a YAML value: could not determine"),
        ("call={x: 1, x: 2}", '-s call: not a YAML value: found duplicate key "x"'),
        ("batchsize=4", "unknown key 'batchsize' (did you mean 'batch_size'?)"),
        ("items.cuont=4", "unknown key 'items.cuont' (did you mean 'count'?)"),
        ("batch_size=four", 'batch_size: expected a whole number, found "four"'),
        ("batch_size=", "batch_size: expected a whole number, found null"),
        ("batch_size=1e1", "batch_size: expected a whole number, found 10.0"),
        ("master_seed=no", 'master_seed: expected a whole number, found "no"'),
        ("call.x=.nan", "call.x: expected a finite number, found nan"),
        ("shard_size=9", "shard_size 9 must be a multiple of batch_size 4"),
    ],
)
def test_overrides_that_are_wrong(refused: Refused, override: str, expected: str) -> None:
    assert expected in refused(*RUN, "-s", override)


@pytest.mark.parametrize(("content", "found"), [("", "nothing"), ("- a\n", "a list"), ("a\n", "text")])
def test_an_override_of_a_file_that_is_no_mapping(refused: Refused, folder: Path, content: str, found: str) -> None:
    (folder / "job.yaml").write_text(content)
    assert f"expected a mapping of keys such as 'name' and 'pipeline', found {found}" in refused(*RUN, "-s", "name=x")


# Arguments

WRONG_ARGUMENTS: list[tuple[list[str], str]] = [
    (["rum", "job.yaml"], "no command 'rum' (did you mean 'run'?); see 'reprobatch --help'"),
    (["frobnicate"], "no command 'frobnicate'; see 'reprobatch --help'"),
    (["--frobnicate"], "--frobnicate"),
    (["run", "job.yaml"], "Missing option '--out'; see 'reprobatch run --help'"),
    (["run", "--out", "made"], "Missing argument 'JOB'; see 'reprobatch run --help'"),
    (["run", "job.yaml", "other.yaml", "--out", "made"], "unexpected extra argument (other.yaml)"),
    (["run", "job.yaml", "--out"], "Option '--out' requires an argument"),
    (["run", "job.yaml", "--out", "prompts.txt"], "Invalid value for '--out': Directory 'prompts.txt' is a file"),
    ([*RUN, "--workers", "0"], "Invalid value for '--workers': 0 is not in the range x>=1"),
    ([*RUN, "--workers", "two"], "'two' is not a valid integer"),
    ([*RUN, "--wokers", "2"], "no option '--wokers' (did you mean '--workers'?); see 'reprobatch run --help'"),
    ([*RUN, "-s"], "Option '-s' requires an argument"),
    (["plan", "missing.yaml"], "no job file at 'missing.yaml'; give the path of a YAML file"),
    (["plan", "model"], "cannot read the job file 'model': Is a directory"),
    (["plan", "loop.yaml"], "cannot read the job file 'loop.yaml': Too many levels of symbolic links"),
    (["plan", "job.yaml/job.yaml"], "cannot read the job file 'job.yaml/job.yaml': Not a directory"),
    (["plan", "j" * 300], "File name too long"),
    (["show", "dataset", "one"], "'one' is not a valid integer; see 'reprobatch show --help'"),
    (["show", "dataset", "1.5"], "'1.5' is not a valid integer"),
    (["show", "dataset"], "Missing argument 'INDEX'"),
    (["show", "dataset", "2"], "expected an index within 0 … 1, found 2"),
    (["show", "dataset", "--", "-1"], "expected an index within 0 … 1, found -1"),
    (["show", "dataset", "9" * 40], "expected an index within 0 … 1, found 999"),
    (["show", "dataset", "9" * 5000], "is not a valid integer"),
    (["regenerate", "dataset", "2"], "expected an index within 0 … 1, found 2"),
    (["regenerate", "dataset", "0", "--to", "0.bmp"], "ending in .safetensors, .npy, .png, .wav, .gif, .mp4, found"),
    (["regenerate", "dataset", "0", "--to", "0"], ".png, .wav, .gif, .mp4, found '0'"),
    (["regenerate", "dataset"], "Missing argument 'INDEX': expected DIR and INDEX, or a PNG with a recipe"),
    (["regenerate", "missing.png"], "expected a PNG, found no file at 'missing.png'"),
    (["regenerate", "job.yaml"], "'job.yaml': expected a PNG, found something else"),
    (["regenerate", "dataset", "0", "--job", "job.yaml"], "--job and -s go with a picture"),
    (["regenerate", "x.png", "-s", "a=b"], "-s goes with --job"),
    (["export", "dataset", "--to", "out", "--rows", "3"], "--rows goes with --contact-sheet"),
    (["regenerate", "dataset", "0", "--to", "no/0.png"], "--to: the folder of 'no/0.png' does not exist"),
    (["verify", "dataset", "--regenerate", "0"], "'--regenerate': 0 is not in the range x>=1"),
    (["verify", "dataset", "--regenerate", "all"], "'all' is not a valid integer"),
    (["export", "dataset"], "Missing option '--to'"),
    *(
        ([command, "model", *more], "expected a dataset with a job.json, found none in 'model'; check the path")
        for command, *more in (["status"], ["verify"], ["show", "0"], ["regenerate", "0"], ["export", "--to", "out"])
    ),
    (["status", "missing"], "expected a dataset with a job.json, found none in 'missing'"),
    (["status", "job.yaml"], "expected a dataset with a job.json, found none in 'job.yaml'"),
    (["status", "d" * 300], "File name too long"),
]  # fmt: skip


@pytest.mark.usefixtures("dataset")
@pytest.mark.parametrize(
    ("arguments", "expected"), WRONG_ARGUMENTS, ids=[" ".join(row[0])[:60] for row in WRONG_ARGUMENTS]
)
def test_arguments_that_are_wrong(refused: Refused, folder: Path, arguments: list[str], expected: str) -> None:
    (folder / "loop.yaml").symlink_to("loop.yaml")
    assert expected in refused(*arguments)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "job.json: expected JSON"),
        ("[]", "job.json: expected a mapping"),
        ('{"name": "tiny"}', "job.json: missing key 'master_seed'"),
        ('{"format": "reprobatch-job/2"}', "job.json: missing key"),
        ('{"name": "tiny", "call": {"x": NaN}}', "job.json: call.x: expected a finite number, found nan"),
    ],
)
def test_a_folder_whose_job_is_none(refused: Refused, dataset: Path, content: str, expected: str) -> None:
    (dataset / "job.json").write_text(content)
    assert expected in refused("status", "dataset")


def test_a_job_file_that_may_not_be_read(refused: Refused, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> NoReturn:
        raise PermissionError(13, "Permission denied", "job.yaml")

    with monkeypatch.context() as patched:  # a test run as root may read everything
        patched.setattr(Path, "read_text", denied)
        said = refused(*RUN)
    assert "cannot read the job file 'job.yaml': Permission denied; give the path of a YAML file" in said


# What scripts see


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["plan", "job.yaml", "--json", "-s", "batch_size=0"], "JobError"),
        (["show", "missing", "0", "--json"], "JobError"),
        (["run", "job.yaml", "--json"], "MissingParameter"),
        (["rum", "--json"], "UsageError"),
    ],
)
def test_with_json_the_error_is_one_document_on_stdout(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], kind: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    printed, said = capsys.readouterr()
    assert ended.value.code == 2
    document: dict[str, Any] = json.loads(printed)
    assert document == {"error": said.removeprefix("reprobatch: ").removesuffix("\n"), "kind": kind}
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--debug", "plan", "no.yaml"], ["plan", "no.yaml", "--debug"]])
def test_debug_shows_the_traceback_before_the_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("Traceback") and said.splitlines()[-1].startswith("reprobatch: no job file at 'no.yaml'")


# In a process of its own

WITHOUT = """
import sys
from reprobatch.cli import main
try:
    main(sys.argv[1:])
finally:
    loaded = sorted({"torch", "ray", "diffusers", "transformers"} & sys.modules.keys())
    assert not loaded, loaded
"""


@pytest.mark.parametrize(
    ("start", "changes", "more", "expected"),
    [
        (["-m", "reprobatch.cli"], {"batch_size": "0"}, [], "batch_size: expected a number of at least 1, found 0"),
        (["-c", WITHOUT], {"items": "{prompts: no.txt}"}, [], "items.prompts: no file 'no.txt'"),
        (["-c", WITHOUT], {}, ["-s", "pipeline.model=a/b"], "hub model 'a/b' needs pipeline.revision"),
    ],
    ids=["as people call it", "a bad file, without torch and ray", "a bad override, without torch and ray"],
)
def test_a_bad_job_in_a_process_of_its_own(
    folder: Path, start: list[str], changes: dict[str, str | None], more: list[str], expected: str
) -> None:
    (folder / "job.yaml").write_text(text(**changes))
    before = listing(folder)
    done = subprocess.run([sys.executable, *start, *RUN, *more], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("reprobatch: ") and len(done.stderr.splitlines()) == 1, done.stderr
    assert expected in done.stderr
    assert listing(folder) == before
