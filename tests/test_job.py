"""The job: what a person may write, and the one spelling under which it is kept.

The golden file was written from the literals below by ``json.dumps`` alone, its digest by ``sha256sum``;
nothing here rewrites either.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import reprobatch
from reprobatch import canonical, jobfile
from reprobatch.errors import JobError
from reprobatch.job import Determinism, Job, ResolvedJob, ResolvedPipeline, Workers
from reprobatch.jobitems import GridAxis, ItemSource, ResolvedItems
from reprobatch.settings import Scheduler

GOLDEN = Path(__file__).parent / "golden" / "job-digits-canonical.json"
ATTACHMENTS = Path(__file__).parent / "golden" / "job-attachments-canonical.json"
PARTS_DIGEST = "184b10cf90011f0619c2a637eeef53eb073daf38629db4982dc06395e35b8717"
DIGEST = "9948bc9952ce5998ca1464929caf119cd725a8b73239f9f15ff9489d392aa566"

JOB = ResolvedJob(
    name="digits",
    master_seed=2**64 + 7,
    pipeline=ResolvedPipeline(
        model="hub-owner/digits",
        revision="0123456789abcdef0123456789abcdef01234567",
        scheduler=Scheduler(name="DDIMScheduler", config={"clip_sample": False, "beta_start": 1e-4}),
        class_name="StableDiffusionPipeline",
        model_digest="ab" * 32,
    ),
    call={"num_inference_steps": 20, "negative_prompt": "größer — ☃"},
    items=ResolvedItems(
        source=ItemSource(name="digits.csv", format="csv", sha256="cd" * 32, rows=10),
        count=6000,
        repeat=100,
        grid=[GridAxis(name="guidance_scale", values=[1.0, 4.0, 7.5]), GridAxis(name="eta", values=[0, 1])],
        columns={
            "prompt": "string",
            "author": "string",
            "seed": "int64",
            "guidance_scale": "double",
            "eta": "int64",
        },
        batched=["prompt"],
        metadata=["author"],
    ),
    batch_size=8,
    shard_size=256,
    workers=Workers(gpus=0.5, threads=2),
    determinism=Determinism(profile="portable", cublas_workspace=":4096:8"),
)

WRITTEN = """
name: tiny
master_seed: 7
pipeline: {model: model}
items: {prompts: prompts.txt}
batch_size: 4
shard_size: 8
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a job, its model (no weights are needed) and its prompts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    (tmp_path / "job.yaml").write_text(WRITTEN)
    return tmp_path


def digest(text: str, *overrides: str) -> str:
    Path("changed.yaml").write_text(text)
    return reprobatch.load("changed.yaml", list(overrides)).job.digest


# What is published stays


def test_canonical_json_is_that_of_the_golden_file() -> None:
    assert JOB.canonical + "\n" == GOLDEN.read_text(encoding="utf-8")


def test_the_keys_of_parts_inputs_and_options_are_those_of_their_golden_file() -> None:
    """Written by ``json.dumps`` of literals, its digest by ``sha256sum``."""
    text = ATTACHMENTS.read_text(encoding="utf-8")
    read = ResolvedJob.from_json(text)
    assert (read.canonical + "\n", read.digest) == (text, PARTS_DIGEST)
    assert list(read.pipeline.attachments) == ["components.controlnet", "adapters.0", "adapters.1"]


def test_digest_is_the_sha256_of_the_canonical_json() -> None:
    assert JOB.digest == DIGEST


def test_a_job_read_back_is_the_same_job() -> None:
    read = ResolvedJob.from_json(GOLDEN.read_text(encoding="utf-8"))
    assert read == JOB
    assert (read.canonical, read.digest) == (JOB.canonical, JOB.digest)


@pytest.mark.parametrize("key", ["format", "seed_scheme"])
def test_a_job_of_another_format_or_seed_scheme_is_refused(key: str) -> None:
    data = json.loads(GOLDEN.read_text(encoding="utf-8")) | {key: "reprobatch-job/2"}
    with pytest.raises(JobError, match=f"job.json: {key}: expected '.*', found \"reprobatch-job/2\""):
        ResolvedJob.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "seed", [0, 2**32, 2**64 - 1, 2**64, 10**59 + 7, 2**2048 - 1], ids=lambda s: f"{s.bit_length()} bits"
)
def test_every_bit_of_a_long_master_seed_is_kept(seed: int) -> None:
    job = JOB.model_copy(update={"master_seed": seed})
    assert ResolvedJob.from_json(job.canonical).master_seed == seed


def test_a_master_seed_that_other_readers_of_json_may_refuse_is_refused() -> None:
    with pytest.raises(JobError, match="master_seed: expected a whole number of at most 2048 bits, found one of 2049"):
        ResolvedJob.from_json(JOB.model_copy(update={"master_seed": 2**2048}).canonical)


# Which jobs are the same


def test_the_order_of_keys_makes_no_other_job() -> None:
    dice = random.Random(20261123)

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            dice.shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(v) for v in value] if isinstance(value, list) else value

    data = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for _ in range(20):
        text = json.dumps(shuffled(data))
        assert text != JOB.canonical
        assert ResolvedJob.from_json(text).digest == DIGEST


def test_the_order_of_grid_arguments_makes_another_job(folder: Path) -> None:
    one = digest(WRITTEN, "items.grid={eta: [0, 1], guidance_scale: [1.0, 2.0]}")
    assert one != digest(WRITTEN, "items.grid={guidance_scale: [1.0, 2.0], eta: [0, 1]}")


@pytest.mark.parametrize(
    "override",
    [
        "call={}",
        "output=latent",
        "workers={}",
        "workers={cpus: 1, gpus: 0, threads: 1}",
        "workers={cpus: 1.0, gpus: 0.0, threads: 1}",
        "determinism=strict",
        "determinism={profile: strict, cublas_workspace: ':16:8'}",
        "items.repeat=1",
        "items={prompts: prompts.txt, repeat: 1, grid: {}, batched: [], metadata: []}",
        "items.batched=[prompt]",
        "pipeline.dtype=float32",
        "pipeline.scheduler=",
        "environments=one",
        "tolerance={atol: 0, rtol: 0.0}",
        "determinism.global_seed=none",
    ],
)
def test_a_default_written_out_makes_no_other_job(folder: Path, override: str) -> None:
    assert digest(WRITTEN, override) == digest(WRITTEN)


def test_shorthands_are_the_same_as_what_they_stand_for(folder: Path) -> None:
    short = digest(WRITTEN, "pipeline.scheduler=DDIMScheduler", "determinism=portable")
    assert short == digest(WRITTEN, "pipeline.scheduler.name=DDIMScheduler", "determinism.profile=portable")


CHANGES: dict[str, Any] = {
    "name": "letters",
    "master_seed": 2**64 + 8,
    "pipeline.model": "hub-owner/letters",
    "pipeline.revision": "1123456789abcdef0123456789abcdef01234567",
    "pipeline.dtype": "bfloat16",
    "pipeline.scheduler": None,
    "pipeline.scheduler.name": "PNDMScheduler",
    "pipeline.scheduler.config": {},
    "pipeline.scheduler.config.clip_sample": True,
    "pipeline.scheduler.config.beta_start": 1e-3,
    "pipeline.class_name": "StableDiffusionImg2ImgPipeline",
    "pipeline.model_digest": "ba" * 32,
    "call": {},
    "call.num_inference_steps": 20.0,
    "call.negative_prompt": "grosser - ☃",
    "items.source": None,
    "items.source.name": "letters.csv",
    "items.source.format": "jsonl",
    "items.source.sha256": "dc" * 32,
    "items.source.rows": 11,
    "items.count": 6001,
    "items.repeat": 101,
    "items.grid": [],
    "items.grid.0.name": "guidance",
    "items.grid.0.values": [1.0, 4.0],
    "items.grid.1.name": "noise",
    "items.grid.1.values": [0, True],
    "items.columns": {},
    "items.columns.prompt": "int64",
    "items.columns.author": "int64",
    "items.columns.seed": "string",
    "items.columns.guidance_scale": "int64",
    "items.columns.eta": "double",
    "items.batched": [],
    "items.metadata": [],
    "output": "pixels",
    "batch_size": 16,
    "shard_size": 512,
    "workers.cpus": 2.0,
    "workers.gpus": 0.0,
    "workers.threads": 1,
    "determinism.profile": "strict",
    "determinism.cublas_workspace": ":16:8",
    "determinism.global_seed": "batch",
    "pipeline.scheduler.seeded": "noise_sampler_seed",
    "environments": "many",
    "tolerance.atol": 1e-3,
    "tolerance.rtol": 1e-3,
}


def changed(path: str, value: Any) -> Any:
    data = json.loads(GOLDEN.read_text(encoding="utf-8"))
    *above, last = (int(part) if part.isdigit() else part for part in path.split("."))
    node = data
    for part in above:
        node = node[part]
    node[last] = value
    return data


def leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path


def test_the_table_of_changes_names_every_field() -> None:
    fixed = {"format", "seed_scheme"}
    assert set(leaves(json.loads(GOLDEN.read_text(encoding="utf-8")))) - fixed <= CHANGES.keys()


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_of_any_field_makes_another_job(path: str) -> None:
    data = changed(path, CHANGES[path])
    job = ResolvedJob.from_json(json.dumps(data))
    assert job.as_dict() == data
    assert job.digest != DIGEST
    differing = canonical.differences(job.as_dict(), JOB.as_dict())
    where = re.sub(r"\.(\d)", r"[\1]", path)
    assert differing and all(line.startswith(where) for line in differing)


def test_a_pinned_job_holds_no_path_of_this_machine(folder: Path) -> None:
    text = reprobatch.load(folder / "job.yaml", [f"pipeline.model={folder}/model"]).job.canonical
    assert str(folder) not in text
    assert json.loads(text)["pipeline"]["model"] == "folder:model"


def test_a_model_that_changed_under_its_name_makes_another_job(folder: Path) -> None:
    before = digest(WRITTEN)
    (folder / "model" / "unet").mkdir()
    (folder / "model" / "unet" / "config.json").write_text("{}")
    assert digest(WRITTEN) != before


def test_a_model_and_items_are_found_beside_the_job_file_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = reprobatch.load("job.yaml").job.digest
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert reprobatch.load(folder / "job.yaml").job.digest == here


# Overrides


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        (["name=other"], "name", "other"),
        (["name = other"], "name", "other"),
        (["call.x=a=b"], "call.x", "a=b"),
        (["master_seed=18446744073709551616"], "master_seed", 2**64),
        (["call.num_inference_steps=4"], "call.num_inference_steps", 4),
        (["call.options.eta.scale=0.5"], "call.options", {"eta": {"scale": 0.5}}),
        (["call.x=1", "call.y=2"], "call", {"x": 1, "y": 2}),
        (["call.x=1", "call.x=2"], "call", {"x": 2}),
        (["call.x=1", "call={y: 2}"], "call", {"y": 2}),
        (["call.x="], "call", {"x": None}),
        (["call.x=[1, 2.0, a, {b: true}]"], "call.x", [1, 2.0, "a", {"b": True}]),
        (["items.grid.eta=[0, 1]"], "items.grid", {"eta": [0, 1]}),
        (["items.repeat=3"], "items", {"prompts": "prompts.txt", "repeat": 3}),
        (["items.prompts=", "items.count=5"], "items", {"prompts": None, "count": 5}),
        (["workers.threads=2"], "workers", {"threads": 2}),
        (["determinism=strict", "determinism.cublas_workspace=:4096:8"], "determinism.profile", "strict"),
        (["determinism=strict", "determinism.cublas_workspace=:4096:8"], "determinism.cublas_workspace", ":4096:8"),
        (["pipeline.scheduler=DDIMScheduler", "pipeline.scheduler.config.eta=0"], "pipeline.scheduler.config.eta", 0),
    ],
)
def test_overrides_are_laid_over_the_file(folder: Path, overrides: list[str], path: str, expected: Any) -> None:
    found: Any = Job.load("job.yaml", overrides).model_dump(exclude_unset=True)
    for part in path.split("."):
        found = found[part]
    assert found == expected and type(found) is type(expected)


def test_overrides_leave_the_rest_of_the_file_as_it_is(folder: Path) -> None:
    before = Job.load("job.yaml").model_dump()
    after = Job.load("job.yaml", ["items.repeat=3", "call.x=1"]).model_dump()
    assert canonical.differences(after, before) == ["call.x: 1 here, absent there", "items.repeat: 3 here, 1 there"]


def test_an_override_changes_one_of_two_places_that_share_an_anchor(folder: Path) -> None:
    (folder / "job.yaml").write_text(WRITTEN + "call: {a: &both {x: 1}, b: *both}\n")
    assert Job.load("job.yaml", ["call.a.x=2"]).call == {"a": {"x": 2}, "b": {"x": 1}}


# YAML 1.2, and nothing that JSON cannot hold


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-0.0", -0.0),
        ("0o17", 15),
        ("0x1F", 31),
        ("+1", 1),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("12:30:45", "12:30:45"),
        (":16:8", ":16:8"),
        ('"1"', "1"),
        ("'a b'", "a b"),
        ("a\u2028b", "a\u2028b"),
        ("☃", "☃"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(folder: Path, written: str, expected: Any) -> None:
    (folder / "job.yaml").write_text(WRITTEN + f"call:\n  x: {written}\n", encoding="utf-8")
    from_file, from_override = Job.load("job.yaml").call, Job.load("job.yaml", [f"call.y={written}"]).call
    assert repr([from_file["x"], from_override["y"]]) == repr([expected, expected])


def test_a_byte_order_mark_and_windows_line_ends_are_fine(folder: Path) -> None:
    plain = Job.load("job.yaml")
    (folder / "job.yaml").write_bytes(b"\xef\xbb\xbf" + WRITTEN.replace("\n", "\r\n").encode())
    assert Job.load("job.yaml") == plain


def test_plain_data_is_copied_as_it_is_and_shares_nothing() -> None:
    inner = {"x": [1, 2.5, "ä", True, None]}
    value = {"a": inner, "b": [inner, inner]}
    copied = jobfile.plain(value)
    assert copied == value == copy.deepcopy(value)
    copied["a"]["x"].append(0)
    assert inner == {"x": [1, 2.5, "ä", True, None]} == copied["b"][0] == copied["b"][1]


# What two jobs differ in

LONG = "one very long prompt that goes on and on until nobody reads it any more, "


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: 1 here, 2 there"]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c: 1 here, 2 there"]),
        ({"a": 1, "b": 2}, {"a": 2, "b": 3}, ["a: 1 here, 2 there", "b: 2 here, 3 there"]),
        ({"a": 1}, {}, ["a: 1 here, absent there"]),
        ({}, {"a": None}, ["a: absent here, null there"]),
        ({"a": None}, {"a": None}, []),
        ({"a": None}, {"a": {"b": 1}}, ['a: null here, {"b": 1} there']),
        ({"a": 1}, {"a": 1.0}, ["a: 1 here, 1.0 there"]),
        ({"a": 1}, {"a": True}, ["a: 1 here, true there"]),
        ({"a": 0.0}, {"a": -0.0}, ["a: 0.0 here, -0.0 there"]),
        ({"a": "1"}, {"a": 1}, ['a: "1" here, 1 there']),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a[1]: 2 here, 3 there"]),
        ({"a": [1]}, {"a": [1.0]}, ["a[0]: 1 here, 1.0 there"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["a[0].b: 1 here, 2 there"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a: [1] here, [1, 2] there"]),
        ({"a": "ä☃"}, {"a": "a"}, ['a: "ä☃" here, "a" there']),
        (1, 2, ["value: 1 here, 2 there"]),
        (
            {"a": LONG + "cat"},
            {"a": LONG + "dog"},
            ['a: ... reads it any more, cat" here, ... reads it any more, dog" there'],
        ),
        (
            {"a": "b" + LONG},
            {"a": "c" + LONG},
            [f'a: "b{LONG[:55]}... here, "c{LONG[:55]}... there'],
        ),
    ],
)
def test_differences_name_each_place_with_both_values(here: Any, there: Any, expected: list[str]) -> None:
    assert canonical.differences(here, there) == expected
    assert (canonical.dumps(here) == canonical.dumps(there)) == (not expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_has_no_spelling_for_numbers_that_are_not_finite(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical.dumps({"a": value})


# What follows from a job


@pytest.mark.parametrize(("output", "column"), [("latent", "latents"), ("pixels", "pixels")])
def test_the_column_of_the_bytes_is_named_after_the_output(output: str, column: str) -> None:
    assert JOB.model_copy(update={"output": output}).column == column


@pytest.mark.parametrize(("gpus", "device"), [(0.0, "cpu"), (0.25, "cuda"), (1.0, "cuda")])
def test_a_worker_with_any_share_of_a_gpu_runs_on_it(gpus: float, device: str) -> None:
    assert JOB.model_copy(update={"workers": Workers(gpus=gpus)}).device == device
