"""A report is one folder made of a dataset: the same bytes each time, whatever the dataset is like."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import handmade
from reprobatch import cli, report
from reprobatch.contract import Answer, Contract
from reprobatch.dataset import Dataset
from reprobatch.determinism import strict_settings
from reprobatch.errors import JobError
from reprobatch.job import ResolvedJob
from reprobatch.page import facts, pictures, run, snippet
from reprobatch.page.entries import entries
from reprobatch.page.folder import replacing
from reprobatch.record import DECODED, Output
from reprobatch.settings import Speed
from reprobatch.store import shard_name
from synthetic import Command

HARD = "</script><script>alert(1)</script> \u2028 \"quoted\" 'and' \\ 雪 🦆 \x7f"
RED = np.array([255, 0, 0], np.uint8)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    return Command(capsys)


def pixels(index: int, size: tuple[int, int] = (8, 6)) -> Output:
    """A picture of one grey, which is the item's index."""
    return Output("uint8", (*size, 3), bytes([index]) * (size[0] * size[1] * 3))


def written(folder: Path, count: int = 40, of: Callable[[int], Output] = pixels, **changes: Any) -> Path:
    """A dataset of so many items in shards of 16 and batches of 4; item 3's prompt is hard to show."""
    made = handmade.job({"prompt": "string", "strength": "double"}, count, **{"output": "pixels", **changes})
    items = [{"prompt": HARD if at == 3 else f"thing {at % 7}", "strength": at / 2} for at in range(count)]
    return handmade.write(folder, made, items, [of(at) for at in range(count)])


def told(folder: Path, name: str) -> Any:
    """What a script of a report hands over."""
    text = (folder / "data" / name).read_text("ascii")
    found = re.fullmatch(r"reprobatch\.\w+\(JSON\.parse\((.*)\)\);\n", text)
    assert found is not None
    return json.loads(json.loads(found[1]))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def opened(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_two_reports_of_a_dataset_are_byte_identical(tmp_path: Path, command: Command) -> None:
    written(tmp_path / "d")
    written(tmp_path / "e", of=lambda at: pixels(at // 2))
    for name in ("one", "two"):
        code, printed, _ = command("report", tmp_path / "d", tmp_path / "e", "--out", tmp_path / name, "--json")
        assert code == 0 and json.loads(printed)["items"] == 40
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_json_says_what_was_made(tmp_path: Path, command: Command) -> None:
    written(tmp_path / "d")
    _, printed, said = command("report", tmp_path / "d", "--out", tmp_path / "r", "--page", 10, "--limit", 30, "--json")
    files = contents(tmp_path / "r")
    assert json.loads(printed) == {
        "items": 30,
        "of": 40,
        "pages": 3,  # of 12, 12 and 6: a page ends with a batch of 4
        "pictures": 30,
        "sound": 30,
        "checksum": 0,
        "missing": 0,
        "unreadable": 0,
        "differing": None,
        "files": len(files),
        "bytes": sum(map(len, files.values())),
        "out": str(tmp_path / "r"),
    }
    assert said == ""
    starts = [told(tmp_path / "r", f"items-000{page}.js")["start"] for page in range(3)]
    assert starts == [0, 12, 24]


def test_every_item_is_told_with_its_row(tmp_path: Path, command: Command) -> None:
    dataset = Dataset(written(tmp_path / "d"))
    command("report", tmp_path / "d", "--out", tmp_path / "r")
    page = told(tmp_path / "r", "items-0000.js")
    for at, record in enumerate(dataset):
        row = record.row
        assert (page["seed"][at], page["batch"][at], page["slot"][at]) == (row.seed, row.batch, row.slot)
        assert page["checksum"][at] == row.checksum
        own = {name: column["values"][column["codes"][at]] for name, column in page["own"].items()}
        assert own == row.item
    assert page["state"] == "0" * 40 and page["why"] == {}


def test_no_text_of_a_dataset_can_become_markup(tmp_path: Path, command: Command) -> None:
    """Scripts are ASCII without ``<``; the page itself has the job's name alone, escaped."""
    written(tmp_path / "d")
    command("report", tmp_path / "d", "--out", tmp_path / "r")
    scripts = [data for name, data in contents(tmp_path / "r").items() if name.startswith("data/")]
    assert len(scripts) == 2 and all(data.isascii() and b"<" not in data for data in scripts)
    with replacing(tmp_path / "s") as folder:
        folder.put_page({"name": HARD, "items": 1})
    page = (tmp_path / "s" / "index.html").read_text()
    assert "alert(1)&lt;/script&gt;" in page and "<script>" not in page
    assert "default-src 'none'" in page and "unsafe" not in page and "http" not in page.replace("http-equiv", "")


def test_thumbnails_lie_in_sheets_exactly_as_they_are_stored(tmp_path: Path, command: Command) -> None:
    written(tmp_path / "d", 130)
    command("report", tmp_path / "d", "--out", tmp_path / "r")
    page = told(tmp_path / "r", "items-0000.js")
    assert page["sheets"] == [[6, 8, 10], [6, 8, 3]] and page["pictured"] == "1" * 130
    sheet = opened(tmp_path / "r" / "sheets" / "0000-0001.webp")
    assert sheet.shape == (24, 60, 3)
    assert (sheet[8:16, 0:6] == 110).all() and (sheet[16:24, 54:60] == 129).all()


def test_a_picture_larger_than_its_thumbnail_has_a_file_of_its_own(tmp_path: Path, command: Command) -> None:
    written(tmp_path / "d", 4, lambda at: pixels(40 * at, (200, 100)))
    command("report", tmp_path / "d", "--out", tmp_path / "r")
    page = told(tmp_path / "r", "items-0000.js")
    assert page["pictured"] == "2222" and page["sheets"] == [[64, 128, 1]]
    large = opened(tmp_path / "r" / "pictures" / "0000" / "3.webp")
    assert large.shape == (200, 100, 3) and np.abs(large.astype(int) - 120).max() <= 2


def test_columns_of_any_name_are_told(tmp_path: Path, command: Command) -> None:
    names = ["__proto__", "constructor", "<b>", "a b", "ü"]
    job = handmade.job(dict.fromkeys(names, "string"), 4, output="pixels")
    handmade.write(tmp_path / "d", job, [dict.fromkeys(names, "x")] * 4, [pixels(at) for at in range(4)])
    assert command("report", tmp_path / "d", "--out", tmp_path / "r")[0] == 0
    assert list(told(tmp_path / "r", "items-0000.js")["own"]) == sorted(names)


def test_what_is_missing_damaged_or_other_than_its_checksum_is_shown_as_that(tmp_path: Path, command: Command) -> None:
    folder = written(tmp_path / "d", 64)
    (folder / shard_name(1)).unlink()
    cut = folder / shard_name(2)
    cut.write_bytes(cut.read_bytes()[:-40])
    dataset = Dataset(folder)
    states = [entry.state for entry in entries(dataset, 64)]
    assert states == ["sound"] * 16 + ["missing"] * 16 + ["unreadable"] * 16 + ["sound"] * 16
    code, printed, _ = command("report", folder, "--out", tmp_path / "r", "--json")
    found = json.loads(printed)
    assert code == 0 and (found["sound"], found["missing"], found["unreadable"]) == (32, 16, 16)
    page = told(tmp_path / "r", "items-0000.js")
    assert page["why"]["20"] == "data/shard-000001.parquet is not there"
    assert "shard-000002.parquet" in page["why"]["40"] and page["seed"][40] is None
    assert page["pictured"] == "1" * 16 + "0" * 32 + "1" * 16


def test_bytes_that_do_not_give_their_checksum_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(written(tmp_path / "d", 8))
    rows = dataset.rows
    swapped = pixels(99)
    monkeypatch.setattr(
        dataset, "rows", lambda *at: [replace(r, output=swapped) if r.index == 5 else r for r in rows(*at)]
    )
    found = {entry.index: entry for entry in entries(dataset, 8) if entry.state != "sound"}
    assert list(found) == [5] and found[5].state == "checksum"
    assert found[5].why == f"stored {pixels(5).checksum}, its bytes give {swapped.checksum}"


def test_a_dataset_of_which_nothing_is_there_has_a_report(tmp_path: Path, command: Command) -> None:
    folder = written(tmp_path / "d", 16)
    (folder / shard_name(0)).unlink()
    code, printed, _ = command("report", folder, "--out", tmp_path / "r", "--json")
    assert code == 0 and json.loads(printed)["missing"] == 16
    assert told(tmp_path / "r", "items-0000.js")["sheets"] == [None]


def test_without_the_model_latents_have_plain_tiles_and_the_reason_is_said(tmp_path: Path, command: Command) -> None:
    made = written(tmp_path / "d", 4, lambda at: Output("float32", (4, 2, 2), bytes(64)), output="latent")
    code, printed, said = command("report", made, "--out", tmp_path / "r", "--json")
    assert code == 0 and json.loads(printed)["pictures"] == 0
    assert said.startswith("no pictures: model builtin:digits: expected digest 0000") and said.count("\n") == 1
    assert "reprobatch/builtin" not in (tmp_path / "r" / "data" / "dataset.js").read_text()


def test_latents_are_decoded_some_at_a_time_each_to_its_own_place() -> None:
    latents = [Output("float32", (1, 64, 64), np.full(4096, at, "<f4").tobytes()) for at in range(20)]
    latents.insert(7, Output("float32", (1, 2, 2), bytes(16)))
    calls: list[int] = []

    def decode(outputs: Any) -> list[np.ndarray]:
        calls.append(len(outputs))
        if outputs[0].shape == (1, 2, 2):
            raise JobError("of a layout that is not known")
        return [np.full((4, 4, 3), int(output.numpy()[0, 0, 0]), np.uint8) for output in outputs]

    found = report.shown_pictures(latents, "latent", decode)
    assert calls == [7, 1, 8, 5]
    assert found[7] is None
    assert [int(each[0, 0, 0]) for each in found if each is not None] == list(range(20))


@pytest.mark.parametrize(
    ("array", "name", "shown"),
    [
        (np.full((3, 2, 3), 0.5, np.float32), "pixels", [128, 128, 128]),
        (np.full((3, 2, 1), 7, np.uint8), "pixels", [7, 7, 7]),
        (np.full((3, 2), 1, np.float32), "images", [255, 255, 255]),
        (np.full((3, 2, 4), [255, 0, 0, 0], np.uint8), "pixels", [255, 255, 255]),
        (np.stack([np.full((3, 2, 3), RED), np.zeros((3, 2, 3), np.uint8)]), "frames", RED),
        (np.full((3, 2, 3), np.nan, np.float32), "pixels", [0, 0, 0]),
        (np.full((3, 2, 3), 1e30, np.float32), "pixels", [255, 255, 255]),
        (np.zeros((4, 8, 8), np.float32), "latent", None),
        (np.zeros((0, 2, 3), np.float32), "pixels", None),
        (np.zeros(5, np.float32), "image_embeds", None),
        (np.zeros((2, 0), np.float32), "audios", None),
    ],
)
def test_what_can_be_shown_of_an_output_without_its_model(array: np.ndarray, name: str, shown: Any) -> None:
    found = pictures.picture(Output(array.dtype.name, array.shape, array.tobytes()), name)
    if shown is None:
        assert found is None
    else:
        assert found is not None and found.shape == (3, 2, 3) and (found == shown).all()


def test_the_picture_that_was_decoded_with_an_item_is_shown_and_no_model_asked() -> None:
    latents = Output("float32", (1, 2, 2), bytes(16), {DECODED: pixels(9)})
    (found,) = report.shown_pictures([latents], "latent", lambda outputs: pytest.fail("asked"))
    assert found is not None and (found == 9).all()


def test_a_sound_is_drawn_as_its_waveform() -> None:
    loud_then_silent = np.concatenate([np.sin(np.arange(4096) / 3), np.zeros(4096)]).astype("<f4")
    found = pictures.picture(Output("float32", (1, 8192), loud_then_silent.tobytes()), "audios")
    assert found is not None
    inked = (found != 255).any(axis=2).sum(axis=0)
    assert inked[:60].min() > 80 and inked[68:].max() == 1


def test_the_difference_of_pictures_is_amplified_until_it_can_be_seen() -> None:
    a = np.full((2, 2, 3), 100, np.uint8)
    b = a.copy()
    b[0, 1] = 103
    found = pictures.difference(a, b, pixels(1), pixels(2), "pixels")
    assert found is not None and (found.of, found.gain) == ("pictures", 85)
    assert found.picture[0, 1].tolist() == [255] * 3 and found.picture.sum() == 765


def test_where_pictures_are_equal_the_stored_values_show_the_difference() -> None:
    values = np.zeros((2, 3, 3), "<f4")
    values[1, 2, 0] = 1e-6
    one, other = Output("float32", (2, 3, 3), bytes(72)), Output("float32", (2, 3, 3), values.tobytes())
    same = np.zeros((8, 8, 3), np.uint8)
    found = pictures.difference(same, same, one, other, "latent")
    assert found is not None and found.of == "stored values" and found.gain == pytest.approx(1e6)
    assert found.picture[:, :, 0].tolist() == [[0] * 3, [0] * 3, [255, 0, 0]]
    assert pictures.difference(same, same, one, Output("float32", (1,), bytes(4)), "latent") is None


def test_a_comparison_shows_the_furthest_items_side_by_side(tmp_path: Path, command: Command) -> None:
    written(tmp_path / "d")
    written(tmp_path / "e", of=lambda at: pixels(at + 20 if at == 7 else at + 1 if at == 9 else at))
    _, printed, _ = command("report", tmp_path / "d", tmp_path / "e", "--out", tmp_path / "r", "--json")
    assert json.loads(printed)["differing"] == 2
    beside = told(tmp_path / "r", "dataset.js")["compare"]
    assert [(each["index"], each["gain"]) for each in beside["shown"]] == [(7, 12), (9, 255)]
    assert beside["facts"]["different"] == 2 and beside["facts"]["identical"] == 38
    strip = opened(tmp_path / "r" / "apart" / "7.webp")
    assert strip.shape == (8, 18, 3) and strip[0, [0, 6, 12], 0].tolist() == [7, 27, 240]
    page = told(tmp_path / "r", "items-0000.js")
    assert page["linf"][6:10] == [0, 20, 0, 1] and page["verdict"][6:10] == "1313"


def test_a_damaged_dataset_is_compared_as_far_as_it_goes(tmp_path: Path, command: Command) -> None:
    written(tmp_path / "d")
    other = written(tmp_path / "e", of=lambda at: pixels(at + 1))
    (other / shard_name(1)).write_bytes(b"no parquet")
    code, _, _ = command("report", tmp_path / "d", other, "--out", tmp_path / "r")
    beside = told(tmp_path / "r", "dataset.js")["compare"]
    assert code == 0 and "shard-000001.parquet" in beside["why"] and beside["differing"] == 16


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path, command: Command) -> None:
    written(tmp_path / "d")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    assert "thesis.txt" in command.refuses("report", tmp_path / "d", "--out", tmp_path / "mine")
    before = contents(tmp_path / "d")
    assert "expected a new folder" in command.refuses("report", tmp_path / "d", "--out", tmp_path / "d")
    assert contents(tmp_path / "d") == before
    assert "found a file" in command.refuses("report", tmp_path / "d", "--out", tmp_path / "mine" / "thesis.txt")
    assert "does not exist" in command.refuses("report", tmp_path / "d", "--out", tmp_path / "no" / "r")
    assert contents(tmp_path / "mine") == {"thesis.txt": b"years"}


def test_an_earlier_report_is_replaced_unless_something_was_put_beside_it(tmp_path: Path, command: Command) -> None:
    written(tmp_path / "d")
    written(tmp_path / "e", 8)
    out = tmp_path / "r"
    assert command("report", tmp_path / "d", "--out", out, "--page", 10)[0] == 0
    assert command("report", tmp_path / "e", "--out", out)[0] == 0
    assert sorted(path.name for path in (out / "data").iterdir()) == ["dataset.js", "items-0000.js"]
    (out / "notes.txt").write_text("mine")
    assert "notes.txt" in command.refuses("report", tmp_path / "d", "--out", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "e", "r"]


def test_a_report_that_fails_leaves_nothing_behind_and_an_earlier_one_as_it_was(tmp_path: Path) -> None:
    dataset = Dataset(written(tmp_path / "d"))
    report.make(dataset, tmp_path / "r", report.Options("d"))
    before = contents(tmp_path / "r")

    def full(items: int) -> None:
        raise OSError(28, os.strerror(28))

    for out in ("r", "new"):
        with pytest.raises(OSError, match="No space"):
            report.make(dataset, tmp_path / out, report.Options("d"), on_items=full)
    assert contents(tmp_path / "r") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "r"]


EVENTS: list[Any] = [
    {"time": 100.0, "event": "run"},
    {"time": 102.0, "event": "ready", "worker": 1, "host": "secret-a"},
    {"time": 102.0, "event": "ready", "worker": 2, "host": "secret-b"},
    {"time": 102.0, "event": "start", "shard": 0, "worker": 1, "host": "secret-a", "attempt": 1},
    {"time": 102.0, "event": "start", "shard": 1, "worker": 2, "host": "secret-b", "attempt": 1},
    {"time": 104.0, "event": "again", "shard": 1, "worker": 2, "host": "secret-b", "reason": "it broke"},
    {"time": 110.0, "event": "done", "shard": 0, "worker": 1, "attempt": 1, "receipt": {"items": 16}},
    {"time": 112.0, "event": "start", "shard": 1, "worker": 1, "host": "secret-a", "attempt": 2},
    "no event",
    {"event": "without a time"},
    {"time": float("nan"), "event": "lost"},
    {"time": 113.0, "event": "done", "shard": [], "worker": {}, "receipt": {"items": "many"}},
    {"time": 120.0, "event": "done", "shard": 1, "worker": 1, "receipt": {"items": 8, "pipeline_seconds": 4.0}},
]


def test_the_log_is_told_in_seconds_from_its_start_without_dates_and_hosts() -> None:
    (found,) = run.runs([EVENTS, [{"time": 1.0, "event": "run"}], []])
    assert "secret" not in json.dumps(found)
    assert (found["seconds"], found["items"], found["ended"]) == (20.0, 24, False)
    assert [(s["shard"], s["from"], s["to"]) for s in found["spans"]] == [(0, 2.0, 10.0), (1, 16.0, 20.0)]
    assert [(t["at"], t["what"], t["why"]) for t in found["troubles"]] == [(4.0, "again", "it broke")]
    rows = [(w["worker"], w["host"], w["shards"], w["items"], w["busy"], w["failed"]) for w in found["workers"]]
    assert rows == [(1, 1, 2, 24, 12.0, 0), (2, 2, 0, 0, 0, 1)]
    assert run.attempts([EVENTS, EVENTS]) == {1: 2}


def test_the_rate_over_time_adds_up_to_the_items() -> None:
    (found,) = run.runs([EVENTS])
    assert sum(found["rate"]) * found["seconds"] / run.BINS == pytest.approx(24, abs=0.01)
    assert found["rate"][15] == 2.0 and found["rate"][0] == found["rate"][40] == 0.0


def test_numbers_that_a_browser_would_round_are_told_as_text() -> None:
    assert facts.plain([2**53 - 1, 2**53, -(2**60), 1.5, float("nan"), True, None, (1,)]) == [
        2**53 - 1,
        "9007199254740992",
        "-1152921504606846976",
        1.5,
        "nan",
        True,
        None,
        [1],
    ]


def test_values_that_are_equal_and_of_other_types_are_kept_apart() -> None:
    columns = facts._Values()
    for value in (1, True, 1.0, "1", None, 1):
        columns.add(value)
    assert columns.facts() == {"values": [1, True, 1.0, "1", None], "codes": [0, 1, 2, 3, 4, 0]}


def lines(job: ResolvedJob, contract: Contract | None = None) -> str:
    """A template with names in the place of what the page fills in."""
    found = snippet.template(job, contract)
    assert found.why is None
    return "".join(part if isinstance(part, str) else f"<{'|'.join(map(str, part.values()))}>" for part in found.parts)


def of(job: ResolvedJob, **pipeline: Any) -> ResolvedJob:
    spec = {"class_name": "StableDiffusionPipeline", **pipeline}
    return job.model_copy(update={"pipeline": job.pipeline.model_copy(update=spec)})


def test_lines_of_plain_diffusers_say_what_the_job_says() -> None:
    job = handmade.job(
        {"prompt": "string", "guidance_scale": "double"}, 4, call={"negative_prompt": "it's", "eta": 0.5}
    )
    job = job.model_copy(update={"items": job.items.model_copy(update={"batched": ["prompt"]})})
    scheduler = {"name": "DDIMScheduler", "config": {"timestep_spacing": "trailing"}, "seeded": None}
    parsed = ResolvedJob.from_json(
        json.dumps(
            {
                **of(job).as_dict(),
                "pipeline": {
                    **of(job).pipeline.model_dump(mode="json"),
                    "model": "owner/name",
                    "revision": "0" * 40,
                    "scheduler": scheduler,
                    "dtypes": {"vae": "float16"},
                },
            }
        )
    )
    text = lines(parsed)
    compile(re.sub(r"<prompt\|True>|<guidance_scale\|False>", "", text).replace("<True>", "0"), "lines", "exec")
    for expected in (
        "from diffusers import DDIMScheduler, StableDiffusionPipeline\n",
        "model = 'owner/name'\n",
        f"revision='{'0' * 40}', dtype={{'default': torch.float32, 'vae': torch.float16}}, use_safetensors=True",
        "DDIMScheduler.from_config(pipe.scheduler.config, **{'timestep_spacing': 'trailing'})\n",
        'negative_prompt=["it\'s"] * 4,\n',
        "eta=0.5,\n<prompt|True><guidance_scale|False>",
        'output_type="latent",\n',
        "made[0][<True>]",
    ):
        assert expected in text, expected


def test_a_portable_job_sets_its_variables_before_torch_is_imported() -> None:
    job = of(handmade.job({"prompt": "string"}, 4))
    portable = job.model_copy(update={"determinism": job.determinism.model_copy(update={"profile": "portable"})})
    text = lines(portable)
    assert text.index("'ATEN_CPU_CAPABILITY': 'avx2'") < text.index("import torch\n")
    assert "os.environ" not in lines(job)


def test_memory_left_unfilled_is_said_where_the_job_leaves_it_so() -> None:
    job, line = of(handmade.job({"prompt": "string"}, 4)), "fill_uninitialized_memory = False\n"
    assert line in lines(of(job, speed=Speed(unfilled_memory=True)))
    assert "fill_uninitialized_memory" not in lines(job)  # torch fills by itself


def test_every_strict_setting_has_its_line() -> None:
    assert strict_settings(1, "cuda").keys() <= snippet._SWITCHES.keys()


@pytest.mark.parametrize(("holds", "alone"), [(True, True), (False, False), (None, False)])
def test_copies_fill_the_batch_where_the_contract_says_so(holds: bool | None, alone: bool) -> None:
    sound = {name: Answer(True) for name in ("repeatable", "fresh_process", "stray_randomness")}
    job = of(handmade.job({"prompt": "string"}, 4))
    assert snippet.template(job, Contract({**sound, "alone": Answer(holds)})).alone is alone
    broken = Contract({**sound, "alone": Answer(True), "stray_randomness": Answer(False)})
    assert snippet.template(job, broken).alone is False


def test_what_a_few_lines_cannot_say_is_said() -> None:
    job = of(handmade.job({"image": "image"}, 4))
    assert snippet.template(job, None).why == "its items have pictures or tensors as inputs"
    assert snippet.template(handmade.job({}, 4), None).why == "diffusers here has no None"


def test_webp_of_an_exact_picture_gives_its_pixels_back() -> None:
    made = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(pictures.encoded(made, exact=True)))) == made).all()
