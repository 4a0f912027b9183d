"""Makes the same few digits under several settings and prints how far each lies from the strict run.

    python benchmarks/settings_apart.py        # 80 items a setting, six settings: some minutes on 2 cores

Every dataset is made by ``reprobatch run`` and compared by ``reprobatch compare``, so the table holds
nothing that these two commands do not say. An older diffusers is installed into a temporary folder and
laid over the installed one for its run alone. Exits 1 if any setting could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reprobatch.environment import cpu

JOB = "jobs/digits.yaml"
SETTINGS = {
    "strict, again": [],
    "`determinism: portable`": ["determinism=portable"],
    "`workers.threads: 2`": ["workers.threads=2", "workers.cpus=2"],
    "`pipeline.dtype: bfloat16`": ["pipeline.dtype=bfloat16"],
}
OLDER = ["0.41.0", "0.36.0"]
BESIDE = ["httpx==0.28.1", "httpcore==1.0.9"]  # which diffusers imported before 0.41


def reprobatch(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; ``path`` comes first on its ``PYTHONPATH``."""
    variables = os.environ if path is None else {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "reprobatch.cli", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True)


def make(out: Path, overrides: list[str], path: Path | None = None) -> Path:
    """A dataset of the job with some keys changed. Raises ``RuntimeError`` with the command's last line."""
    flags = [part for value in overrides for part in ("-s", value)]
    done = reprobatch("run", JOB, "--out", str(out), *flags, path=path)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    print(f"made {out.name}", file=sys.stderr, flush=True)
    return out


def apart(strict: Path, other: Path, atol: float) -> dict[str, Any]:
    """What ``compare`` says of two datasets. Raises ``RuntimeError`` where it could not."""
    found: dict[str, Any] = json.loads(
        reprobatch("compare", str(strict), str(other), "--atol", str(atol), "--json").stdout
    )
    if "error" in found:
        raise RuntimeError(found["error"])
    return found


def older(release: str, folder: Path) -> Path:
    """That release of diffusers in a folder; all else it needs is what is installed."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    subprocess.run(
        [*command, f"diffusers=={release}", *BESIDE], check=True, stdout=sys.stderr, stderr=subprocess.DEVNULL
    )
    return folder


def row(name: str, facts: dict[str, Any]) -> str:
    """A line of the table."""
    verdicts = " / ".join(str(facts[verdict]) for verdict in ("identical", "within", "different"))
    figures = [(facts["linf"], ".2e"), (facts["rms"], ".2e"), (facts["cosine"], ".15g")]
    shown = ("none" if value is None else format(value, spec) for value, spec in figures)
    return f"| {name} | {verdicts} | {' | '.join(shown)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=8, help="ten times as many items (default 8)")
    parser.add_argument("--atol", type=float, default=1e-4, help="what counts as within (default 1e-4)")
    parser.add_argument(
        "--diffusers", nargs="*", default=OLDER, metavar="RELEASE", help=f"older ones (default {OLDER})"
    )
    parser.add_argument("-s", dest="overrides", action="append", default=[], help="a key of the job, for every run")
    arguments = parser.parse_args()
    common = [f"items.repeat={arguments.repeat}", *arguments.overrides]
    print(f"{cpu()[0]}, torch {version('torch')}, diffusers {version('diffusers')}\n")
    print(f"| against strict, atol {arguments.atol:g} | identical / within / different | L_inf | RMS | cosine |")
    print("|---|---|---|---|---|", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        strict = make(folder / "strict", common)
        settings = [(name, overrides, None) for name, overrides in SETTINGS.items()]
        for release in arguments.diffusers:
            settings.append((f"diffusers {release} for {version('diffusers')}", [], release))
        for number, (name, overrides, release) in enumerate(settings):
            try:
                path = older(release, folder / f"diffusers-{release}") if release else None
                other = make(folder / f"setting-{number}", [*common, *overrides], path)
                print(row(name, apart(strict, other, arguments.atol)), flush=True)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"| {name} | could not be run: {error} | | | |", flush=True)
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
