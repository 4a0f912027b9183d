"""One section in a process of its own: ``run.py`` starts it, and reads what it found from a file.

Settings hold for a whole process and a CUDA error spoils one, so no two sections share theirs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import sizes
from report import Findings

# name: title, seconds it may take, module, function, whether it takes the working folder
SECTIONS: dict[str, tuple[str, int, str, str, bool]] = {
    "facts": ("The machine", 90, "facts", "run", False),
    "tests": ("Tests on the GPU", 180, "guide", "run", True),
    "canary": ("Two processes", 120, "bits", "canaries", True),
    "workspace": ("cuBLAS workspaces", 120, "bits", "workspaces", True),
    "speed": ("Cost of the settings", 150, "speed", "run", False),
    "noise": ("Cost of noise from the CPU", 60, "noise", "run", False),
    "sweep": ("Contracts by batch size", 300, "bits", "sweep", True),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SECTIONS)
    parser.add_argument("findings", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--workspace", default=":16:8")
    arguments = parser.parse_args()
    _, _, module, function, wants_work = SECTIONS[arguments.name]
    size = replace(sizes.TINY if arguments.dry_run else sizes.FULL, workspace=arguments.workspace)
    with arguments.findings.open("w") as file:
        found = Findings(file)
        section: Callable[..., Any] = getattr(importlib.import_module(module), function)
        section(size, *([arguments.work] if wants_work else []), found)
        if "ray" in sys.modules:
            found.problem("Ray was imported: nothing here may need it")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
