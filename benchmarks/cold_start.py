"""From a cold start: one item regenerated, and the first item of a run, beside a plain script.

    python benchmarks/cold_start.py              # five repetitions each: about five minutes on 2 cores

The plain script loads the same pipeline and makes one batch; so does ``regenerate``, which also opens the
dataset, compares the canary and checks the item. A run starts Ray first and measures its contract.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "side_by_side"))
from run import CASES, DIGITS, PROMPTS, job_of, random_unet

from reprobatch import journal
from reprobatch.dataset import Dataset

HERE = Path(__file__).parent / "side_by_side"
CALLS = {"digits-20": "digits, 20 steps, batch 8", "unet": "UNet of 35.7 M, 20 steps, batch 4"}


def timed(command: list[str]) -> float:
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return time.monotonic() - began


def measure(name: str, repetitions: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of each way, in turn."""
    case, model = CASES[name], DIGITS if CASES[name].guidance is not None else random_unet(folder / "unet")
    prompts, job, out = folder / "prompts.txt", folder / "job.yaml", folder / "out"
    lines = PROMPTS.read_text().splitlines()[: case.batch]
    prompts.write_text("".join(f"{line}\n" for line in lines))
    wanted = job_of(case, case.batch, model, prompts)
    wanted["call"] = {**dict(wanted["call"]), "num_inference_steps": 20}  # type: ignore[call-overload]
    job.write_text(json.dumps(wanted))
    plain = [sys.executable, str(HERE / "plain.py"), "--model", str(model), "--items", str(case.batch), "--steps", "20"]
    plain += ["--batch", str(case.batch), "--threads", "1", "--out", str(folder / "plain")]
    if case.guidance is not None:
        plain += ["--prompts", str(prompts), "--guidance", str(case.guidance)]
    cli = [sys.executable, "-m", "reprobatch.cli"]
    timed([*cli, "run", str(job), "--out", str(out)])
    found: dict[str, list[float]] = {"plain script": [], "regenerate": [], "first item of a run": []}
    for repetition in range(repetitions):
        found["plain script"].append(timed(plain))
        found["regenerate"].append(timed([*cli, "regenerate", str(out), "1"]))
        fresh, began = folder / f"out-{repetition}", time.time()
        timed([*cli, "run", str(job), "--out", str(fresh), "--workers", "1"])
        (events,) = journal.read(Dataset(fresh).store)
        found["first item of a run"].append(next(e["time"] for e in events if e["event"] == "done") - began)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cases", nargs="*", choices=list(CALLS), default=list(CALLS))
    given = parser.parse_args()
    print("| one batch | plain script | regenerate | first item of a run |\n|---|---:|---:|---:|")
    for name in given.cases:
        with tempfile.TemporaryDirectory() as folder:
            found = {
                way: statistics.median(taken) for way, taken in measure(name, given.repetitions, Path(folder)).items()
            }
        cells = [f"{taken:.1f} s ({taken / found['plain script']:.2f})" for taken in found.values()]
        print(f"| {CALLS[name]} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
