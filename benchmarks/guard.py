"""Two minutes of ratios for CI to print, not to judge: a change that costs speed is seen where it was made.

    python benchmarks/guard.py

Beside a process a core by torch.multiprocessing, on the same machine in the same minute; then what an item
costs besides its pipeline. ``docs/performance.md`` has the figures of a quiet machine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = str(Path(folder) / "results.jsonl")
        beside = str(HERE / "side_by_side" / "run.py")
        chosen = ["--sizes", "256", "2048", "--repetitions", "1", "--only", "reprobatch", "processes", "--noisy"]
        _run(beside, "digits", *chosen, "--results", results)
        _run(str(HERE / "side_by_side" / "table.py"), results)
    _run(str(HERE / "growth.py"), "--most", "10000", "--repetitions", "1")


def _run(*command: str) -> None:
    subprocess.run([sys.executable, *command], check=True)


if __name__ == "__main__":
    main()
