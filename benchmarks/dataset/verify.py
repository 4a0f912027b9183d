"""``reprobatch verify`` beside ``sha256sum`` over the same bytes, in turns.

    python benchmarks/dataset/verify.py            # 2 GB of latents of 64 KiB, 5 rounds

``sha256sum`` reads file after file; ``xargs -P`` runs one a core. verify hashes every byte twice (the
file, and each item's output) and parses the rest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from made_up import make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=32768)
    parser.add_argument("--shape", default="4,64,64")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "d"
        make(out, arguments.items, tuple(map(int, arguments.shape.split(","))), "float32", 1024)
        size = sum(path.stat().st_size for path in (out / "data").iterdir())
        cores = len(os.sched_getaffinity(0))
        commands = {
            "sha256sum": f"sha256sum {out}/data/*",
            f"sha256sum, {cores} at once": f"ls -d {out}/data/* | xargs -n 1 -P {cores} sha256sum",
            "reprobatch verify": f"{sys.executable} -m reprobatch.cli verify {out}",
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                begin = time.perf_counter()
                subprocess.run(command, shell=True, check=True, capture_output=True)
                times[name].append(time.perf_counter() - begin)
    base = median(times["sha256sum"])
    print(f"{size / 1e9:.2f} GB, {arguments.items} items of {arguments.shape} float32, {cores} cores")
    print("| command | median | GB/s | speed against sha256sum |\n|---|---:|---:|---:|")
    for name, each in times.items():
        print(f"| {name} | {median(each):.2f} s | {size / 1e9 / median(each):.2f} | {base / median(each):.2f} |")


if __name__ == "__main__":
    main()
