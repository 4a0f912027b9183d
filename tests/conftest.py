"""Datasets made once for all tests, by the real command on real Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "jobs" / "digits.yaml"
SMALL = ["-s", "items.repeat=7", "-s", "shard_size=16", "-s", "call.num_inference_steps=12"]  # 70 items, 5 shards


def reprobatch(*arguments: object, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, from the top of the repository."""
    done = subprocess.run(
        [sys.executable, "-m", "reprobatch.cli", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def data(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset's ``data``, by name."""
    return {path.name: path.read_bytes() for path in sorted((folder / "data").iterdir())}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """70 digits, made by one worker, once for all of pytest's processes, and never changed by a test."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    out = shared / "digits" / "one"
    with FileLock(shared / "digits.lock"):
        if not (out / "SHA256SUMS").exists():
            made = reprobatch("run", DIGITS, "--out", out, "--workers", 1, "--json", *SMALL)
            assert json.loads(made.stdout)["items"] == 70
    return out
