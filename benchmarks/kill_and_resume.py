"""Kills a run with SIGKILL at random moments, resumes it each time, and compares with an undisturbed one.

    python benchmarks/kill_and_resume.py --reference digits --times 10

The reference is a finished dataset of the same job. Whom each kill hits, the driver or a worker, and
when, comes from ``--seed``. Exits 1 unless ``data/`` is byte-identical in the end.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOB = "jobs/digits.yaml"


def workers(out: Path) -> list[int]:
    """Process ids of the newest run's workers, from its journal."""
    newest = max(out.glob("log/attempts-*.jsonl"), key=lambda path: path.stat().st_mtime, default=None)
    events = [json.loads(line) for line in newest.read_text().splitlines()] if newest else []
    return [event["pid"] for event in events if event["event"] == "ready"]


def disturb(out: Path, overrides: list[str], dice: random.Random) -> str:
    """Start the run, kill someone once it has made a few more shards; returns whom."""
    there = len(list((out / "data").glob("*")))
    process = subprocess.Popen(
        [sys.executable, "-m", "reprobatch.cli", "run", JOB, "--out", str(out), *overrides],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wanted = there + dice.randint(0, 1)
    while process.poll() is None and (not workers(out) or len(list((out / "data").glob("*"))) < wanted):
        time.sleep(0.01)
    time.sleep(dice.uniform(0, 3))
    whom = dice.choice(["driver", "worker", "driver"])
    if process.poll() is not None:
        return "nobody: it was done"
    if whom == "worker":
        for pid in workers(out)[-1:]:
            os.kill(pid, signal.SIGKILL)
        time.sleep(dice.uniform(0, 2))
    process.kill()
    process.wait()
    return whom


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-s", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    overrides = [part for value in arguments.overrides for part in ("-s", value)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "dataset"
        for number in range(arguments.times):
            whom = disturb(out, overrides, dice)
            print(f"{number + 1}: killed {whom}, {len(list((out / 'data').glob('*')))} shards there", flush=True)
        command = [sys.executable, "-m", "reprobatch.cli", "run", JOB, "--out", str(out), *overrides]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        names = sorted(path.name for path in (arguments.reference / "data").iterdir())
        same = names == sorted(path.name for path in (out / "data").iterdir())
        _, differ, missing = filecmp.cmpfiles(arguments.reference / "data", out / "data", names, shallow=False)
        print(f"{len(names)} shards, {len(differ)} differ, {len(missing)} missing")
        return 0 if same and not differ and not missing else 1


if __name__ == "__main__":
    raise SystemExit(main())
