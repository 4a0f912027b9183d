"""What a person sees: progress, ``status --watch``, completion, errors with suggestions, help with examples."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest

import synthetic
from conftest import ROOT
from reprobatch import classes, cli, progress
from reprobatch.commands import status as watching
from reprobatch.progress import Progress, duration, spoken_rate
from reprobatch.status import Status
from reprobatch.view import RunView
from synthetic import Command
from terminal import terminal

REPROBATCH = (sys.executable, "-m", "reprobatch.cli")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.made(tmp_path_factory.mktemp("complete") / "digits")


@pytest.fixture
def half(complete: Path, tmp_path: Path) -> Path:
    """A dataset of which some shards are not there yet."""
    folder = shutil.copytree(complete, tmp_path / "half")
    for number in (3, 5):
        (folder / "data" / f"shard-{number:06d}.parquet").unlink()
    return folder


# Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def ready(worker: int) -> dict[str, Any]:
    return {"event": "ready", "worker": worker, "host": "a"}


def done(items: int) -> dict[str, Any]:
    return {"event": "done", "shard": 0, "receipt": SimpleNamespace(items=items)}


def test_a_log_has_a_line_every_five_seconds_with_items_rate_time_left_workers_and_failures(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with RunView() as tell:
        tell({"event": "plan", "items": 1000, "made": 200, "shards": 10, "done": 2})
        clock(30)  # processes start: no part of the rate
        tell(ready(1))
        clock(10)
        tell(done(100))
        tell(ready(2))
        tell({"event": "failed", "shard": 4, "reason": "it rained"})
        clock(1)
        tell(done(10))
        clock(9)
        tell(done(90))
    assert capsys.readouterr().err.splitlines() == [
        "2 of 10 shards are there already",
        "300/1000 items, 10.0/s, 70 s left, 1 worker",
        "shard 4 failed: it rained",
        "400/1000 items, 10.0/s, 60 s left, 2 workers, 1 shard failed",
    ]


def test_the_rate_follows_workers_that_come(clock: Callable[[float], None]) -> None:
    stream = io.StringIO()
    with Progress(10_000, stream=stream) as shown:
        for seconds, shards in ((1.0, 100), (0.1, 100)):
            for _ in range(shards):
                clock(seconds)
                shown.add(10)
    assert stream.getvalue().splitlines()[-1] == "2000/10000 items, 100.0/s, 80 s left"


SHOWN = """
from reprobatch.progress import Progress
with Progress(10**9, 10**8) as shown:
    shown.note("12345 workers, 678 shards failed")
    shown.say(" ".join(f"word{number}" for number in range(40)))
    shown.add(5 * 10**8)
"""


def test_on_a_terminal_it_is_one_line_that_never_wraps_and_messages_are_folded_at_words() -> None:
    with terminal(sys.executable, "-c", SHOWN) as screen:
        code, _ = screen.rest()
    lines = [line for line in re.split(r"\x1b\[A|[\r\n]", screen.raw) if line.strip()]
    assert code == 0 and all(len(line) <= 80 for line in lines)
    assert lines[-1].startswith(" 60% ") and "600000000/1000000000 items, " in lines[-1]
    words = [line.strip() for line in lines if "word" in line]
    assert len(words) == 4 and " ".join(words) == " ".join(f"word{number}" for number in range(40))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_is_quick_is_not_spoken_of(is_terminal: bool) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal  # type: ignore[method-assign]
    with Progress(2, stream=stream, quiet=100.0) as shown:
        shown.note("1 worker")
        shown.add(2)
    assert stream.getvalue().strip("\r ") == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (599, "599 s"), (660, "11 min"), (7190, "120 min"), (7200, "2.0 h"), (172_800, "2.0 days")],
)
def test_times_are_told_in_a_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_less_than_an_item_in_ten_seconds_is_told_by_the_minute() -> None:
    assert [spoken_rate(rate) for rate in (16.68, 0.5, 0.07)] == ["16.7/s", "0.50/s", "4.2/min"]


# status --watch


def test_watching_ends_once_the_dataset_is_complete_with_a_line_a_change(
    command: Command, complete: Path, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [0]

    def wait(seconds: float) -> None:
        """The first look changes nothing, and each later one finds one shard more."""
        looks[0] += 1
        for number in (3, 5)[: looks[0] - 1]:
            name = f"data/shard-{number:06d}.parquet"
            shutil.copy(complete / name, half / name)
        assert seconds == 7.5 and looks[0] < 5

    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=wait))
    code, printed, said = command("status", half, "--watch", "--every", 7.5)
    assert (code, said, looks[0]) == (0, "", 3)
    assert printed.splitlines() == [
        "6/8 shards done, 0 running, 0 failed; nothing moving",
        "7/8 shards done, 0 running, 0 failed; nothing moving",
        "8/8 shards done, 0 running, 0 failed; complete",
    ]


def test_watching_as_json_gives_one_document_a_change_on_a_line_of_its_own(command: Command, complete: Path) -> None:
    code, printed, _ = command("status", complete, "--watch", "--json")
    once = json.loads(command("status", complete, "--json")[1])
    assert code == 0 and [json.loads(line) for line in printed.splitlines()] == [once]
    assert once["shards"] == {"done": 8, "running": 0, "failed": 0, "total": 8}
    assert once.keys() == {"shards", "rate", "eta_seconds", "workers", "silent_seconds"}


def test_status_says_rate_time_left_hosts_and_silence() -> None:
    assert watching._lines(Status(1, 2, 3, 9, 0.05, 9000.0, {"a": 1, "b": 2}, 90.0)) == [
        "1/9 shards done, 2 running, 3 failed; 3.0 items/min, 2.5 h left",
        "1 worker on a",
        "2 workers on b",
        "the run has said nothing for 90 s; where its driver has died, run it again",
    ]


def test_watching_on_a_terminal_is_one_picture_and_ctrl_c_ends_it_without_a_word(half: Path) -> None:
    with terminal(*REPROBATCH, "status", half, "--watch", "--every", "0.1") as screen:
        seen = screen.read_until("nothing moving")
        screen.type("\x03")
        code, after = screen.rest()
    assert code == 130
    assert "6/8 shards done, 0 running, 0 failed; nothing moving" in seen
    assert "reprobatch:" not in after and "Traceback" not in after
    assert screen.raw.rindex("\x1b[?25h") > screen.raw.rindex("\x1b[?25l")  # the cursor is there again


# Colours


def test_colours_are_for_terminals_and_not_under_no_color(complete: Path, tmp_path: Path) -> None:
    with terminal(*REPROBATCH, "verify", complete) as screen:
        code, _ = screen.rest()
    assert code == 0 and "\x1b[32mintact\x1b[0m" in screen.raw
    with terminal("env", "NO_COLOR=1", *REPROBATCH, "show", tmp_path / "nowhere", 0) as screen:
        code, said = screen.rest()
    assert code == 2 and said.startswith("reprobatch: expected a dataset") and "\x1b[3" not in screen.raw


# Completion


def test_bash_completes_commands_options_job_files_and_datasets(tmp_path: Path, complete: Path) -> None:
    (tmp_path / "jobs").mkdir()
    for name in ("jobs/digits.yaml", "jobs/other.yml", "jobs/notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "digits-made").symlink_to(complete)
    (tmp_path / "digits-not").mkdir()
    with terminal("bash", "--norc", "--noprofile", "-i", cwd=tmp_path) as shell:
        shell.type('PS1="> "; eval "$(reprobatch completion bash)"; echo se"t"\n')
        shell.read_until("set\n")
        for typed, completed in (
            ("reprobatch regen", "reprobatch regenerate "),
            ("reprobatch run jobs/d", "reprobatch run jobs/digits.yaml "),
            ("reprobatch plan built", "reprobatch plan builtin:digits "),
            ("reprobatch plan jo", "reprobatch plan jobs/"),
            ("reprobatch verify dig", "reprobatch verify digits-made "),
            ("reprobatch run jobs/digits.yaml --acc", "reprobatch run jobs/digits.yaml --accept-nondeterminism "),
        ):
            shell.type(f"{typed}\t")
            shell.read_until(completed, 20)
            shell.type("\x15")  # the line is rubbed out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(command: Command, shell: str) -> None:
    code, printed, _ = command("completion", shell)
    assert code == 0 and "_REPROBATCH_COMPLETE" in printed and f"{shell}_complete" in printed


def test_a_shell_that_is_not_known_is_refused(command: Command) -> None:
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in command.refuses("completion", "tcsh")


# Suggestions


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("vrify digits", "no command 'vrify' (did you mean 'verify'?); see 'reprobatch --help'"),
        ("verify digits --sampel 3", "no option '--sampel' (did you mean '--sample'?); see 'reprobatch verify --help'"),
        ("--degub verify digits", "no option '--degub' (did you mean '--debug'?); see 'reprobatch --help'"),
        ("plan jobs/digts.yaml", "no job file at 'jobs/digts.yaml' (did you mean 'jobs/digits.yaml'?)"),
        ("plan builtin:digts", "found 'digts' (did you mean 'digits'?)"),
        ("plan jobs/digits.yaml -s itmes.repeat=2", "unknown key 'itmes' (did you mean 'items'?)"),
        ("plan jobs/digits.yaml -s determinism=strickt", "found \"strickt\" (did you mean 'strict'?)"),
        ("plan jobs/digits.yaml -s pipeline.dtype=float61", "found \"float61\" (did you mean 'float16'?)"),
        ("plan jobs/digits.yaml -s pipeline.scheduler=ddim", "found \"ddim\" (did you mean 'DDIMScheduler'?)"),
        (
            "plan jobs/digits.yaml -s pipeline.scheduler=DDIMMScheduler",
            "(did you mean 'DDIMScheduler'?); correct the name",
        ),
        (
            "plan jobs/digits.yaml -s pipeline.class_name=StableDifusionPipeline",
            "(did you mean 'StableDiffusionPipeline'?)",
        ),
        ("plan jobs/digits.yaml -s items.prompts=jobs/prompts/digit.txt", "(did you mean 'jobs/prompts/digits.txt'?)"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: str, expected: str
) -> None:
    monkeypatch.chdir(ROOT)
    assert expected in command.refuses(*arguments.split())


def test_a_dataset_beside_the_one_that_is_not_there_is_suggested(command: Command, complete: Path) -> None:
    assert f"(did you mean '{complete}'?); check the path" in command.refuses("status", complete.with_name("digit"))


def test_a_place_that_the_job_has_no_use_for_is_refused(command: Command, complete: Path) -> None:
    said = command.refuses("verify", complete, "--place", "itmes=x")
    assert "--place: expected one of model, items, images, found 'itmes' (did you mean 'items'?)" in said


def test_names_of_classes_are_those_of_the_diffusers_that_is_installed() -> None:
    assert classes.schedulers() == {name for name in dir(diffusers) if name.endswith("Scheduler")}
    assert classes.pipelines() == {name for name in dir(diffusers) if name.endswith("Pipeline")}


# Help


@pytest.mark.parametrize("name", cli.cli.commands)
def test_help_teaches_by_two_or_more_examples_in_80_columns(command: Command, name: str) -> None:
    code, printed, _ = command(name, "--help")
    assert code == 0
    examples = [line for line in printed.splitlines() if "reprobatch " in line and "Usage" not in line]
    assert len(examples) >= 2 and any(f"reprobatch {name} " in line for line in examples)
