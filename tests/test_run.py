"""A run: the same bytes whoever makes them, and never more or less than one of each."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

import making
import reprobatch as package
from conftest import DIGITS, ROOT, SMALL, data, reprobatch


def test_two_workers_give_the_bytes_of_one(digits: Path, tmp_path: Path) -> None:
    made = reprobatch("run", DIGITS, "--out", tmp_path / "two", "--workers", 2, *SMALL)
    assert data(tmp_path / "two") == data(digits)
    for name in ("job.json", "manifest.json", "README.md", "croissant.json", "SHA256SUMS"):
        assert (tmp_path / "two" / name).read_bytes() == (digits / name).read_bytes(), name
    # without a terminal its progress is plain lines
    assert "70/70 items" in made.stderr and "\r" not in made.stderr and "\x1b" not in made.stderr
    assert made.stdout.startswith("70 items (70 made now) in ")
    assert json.loads((digits / "manifest.json").read_text())["root"] in made.stdout


def test_root_is_the_same_for_any_shard_size(digits: Path, tmp_path: Path) -> None:
    made = making.make(making.resolved(*SMALL[1::2], "shard_size=40"), tmp_path / "d")
    assert sorted(data(tmp_path / "d")) == ["shard-000000.parquet", "shard-000001.parquet"]
    assert made.manifest["root"] == json.loads((digits / "manifest.json").read_text())["root"]


def test_a_complete_dataset_is_left_as_it_is(digits: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (digits / "data").iterdir()}
    made = json.loads(reprobatch("run", DIGITS, "--out", digits, "--json", *SMALL).stdout)
    assert (made["items"], made["made"]) == (70, 0)
    assert {path: path.stat().st_mtime_ns for path in (digits / "data").iterdir()} == before


def test_another_job_in_the_same_folder_is_refused_with_what_differs(digits: Path) -> None:
    before = data(digits)
    done = reprobatch("run", DIGITS, "--out", digits, *SMALL, "-s", "master_seed=1", check=False)
    assert done.returncode == 2
    assert "master_seed: 1 here, 20261123 there" in done.stderr and done.stderr.count("\n") == 1
    assert data(digits) == before


def test_driver_and_workers_killed_at_random_moments_then_resumed(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    dice = random.Random(20261123)
    command = [sys.executable, "-m", "reprobatch.cli", "run", str(DIGITS), "--out", str(out), *SMALL]
    killed = 0
    for wanted in (1, 2):  # SIGKILL as soon as so many shards are there, and a moment later
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list((out / "data").glob("*"))) < wanted:
            time.sleep(0.02)
        time.sleep(dice.uniform(0, 0.1))
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert killed == 2
    assert 1 <= len(list((out / "data").glob("*"))) < 5
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    worker = _worker_of(out)
    os.kill(worker, signal.SIGKILL)
    printed, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert data(out) == data(digits)
    assert json.loads((digits / "manifest.json").read_text())["root"] in printed
    assert {path.name for path in out.iterdir()} == {path.name for path in digits.iterdir()}


def test_interrupt_leaves_a_dataset_that_resumes(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    command = [sys.executable, "-m", "reprobatch.cli", "run", str(DIGITS), "--out", str(out), *SMALL]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((out / "data").glob("*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said and "the same command goes on" in said
    there = data(out)
    assert there.items() <= data(digits).items()
    status = json.loads(reprobatch("status", out, "--json").stdout)["shards"]
    assert (status["done"], status["running"], status["failed"], status["total"]) == (len(there), 0, 0, 5)


def test_a_failing_shard_is_tried_again_then_reported_and_the_rest_completes(tmp_path: Path) -> None:
    prompts = tmp_path / "items.jsonl"
    # no noise has a negative size: the second shard's batch fails, and it alone
    heights = [32] * 8 + [-32] * 8 + [32] * 8
    prompts.write_text("".join(json.dumps({"prompt": "a one", "height": h, "width": h}) + "\n" for h in heights))
    few = ["-s", f"items.prompts={prompts}", "-s", "items.repeat=1", "-s", "shard_size=8", *SMALL[4:]]
    done = reprobatch("run", DIGITS, "--out", tmp_path / "d", *few, check=False)
    assert done.returncode == 1
    assert "1 of 3 shards failed" in done.stderr and "items 8 … 15" in done.stderr and "tried 3 times" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(data(tmp_path / "d")) == ["shard-000000.parquet", "shard-000002.parquet"]
    shards = json.loads(reprobatch("status", tmp_path / "d", "--json").stdout)["shards"]
    assert shards == {"done": 2, "running": 0, "failed": 1, "total": 3}


def test_a_job_the_pipeline_cannot_take_ends_in_one_line(tmp_path: Path) -> None:
    done = reprobatch("run", DIGITS, "--out", tmp_path / "d", "-s", "call.guidence_scale=3", check=False)
    assert done.returncode == 2
    assert "did you mean 'guidance_scale'?" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and data(tmp_path / "d") == {}


def test_a_second_attempt_with_other_bytes_is_reported_and_overwrites_nothing(digits: Path, tmp_path: Path) -> None:
    from reprobatch.errors import DataError
    from reprobatch.folder import FolderStore
    from reprobatch.store import shard_name

    store = FolderStore(tmp_path)
    store.create()
    first = (digits / shard_name(0)).read_bytes()
    assert store.put_new(shard_name(0), first)
    assert not store.put_new(shard_name(0), first)
    try:
        store.put_new(shard_name(0), first[:-5] + b"x" + first[-4:])
    except DataError as error:
        assert "not deterministic" in str(error)
    else:
        raise AssertionError("another content was taken")
    assert (tmp_path / shard_name(0)).read_bytes() == first


def test_rows_hold_no_path_host_or_time(digits: Path) -> None:
    told = [(digits / name).read_bytes() for name in ("job.json", "manifest.json")]
    content = b"".join([*data(digits).values(), *told])
    for secret in (str(ROOT), os.uname().nodename + ".", str(digits)):
        assert secret.encode() not in content
    names = pq.read_schema(digits / "data" / "shard-000000.parquet").names
    assert names == ["index", "seed", "batch", "slot", "prompt", "dtype", "shape", "latents", "checksum"]


def test_python_api_opens_indexes_and_regenerates(digits: Path) -> None:
    dataset = package.open(digits)
    assert len(dataset) == 70 and dataset[-1].index == 69
    item = dataset[42]
    assert item.latents.shape == (4, 8, 8) and item.latents.dtype == "float32"
    assert item.prompt == "a handwritten six" and tuple(item.tensor.shape) == (4, 8, 8)
    made = dataset.regenerate(42)
    assert made.comparison.verdict == "identical" and made.comparison.computed == item.checksum


def _worker_of(out: Path) -> int:
    """The process id of the first worker that the newest run says is ready."""
    before = set(out.glob("log/attempts-*.jsonl"))
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        for path in set(out.glob("log/attempts-*.jsonl")) - before:
            for line in path.read_text().splitlines():
                event = json.loads(line)
                if event["event"] == "ready":
                    return int(event["pid"])
        time.sleep(0.05)
    raise AssertionError("no worker came up")
