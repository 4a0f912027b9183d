"""Collects what must travel to a GPU machine that has torch but no network: wheels, into ``.gpu/``.

    python benchmarks/gpu/pack.py

The wheels are those of ``constraints.txt``, for Python 3.12 on x86-64 Linux: what ``run.py`` and the tests
marked ``cuda`` import, but for what is large and there already (torch, NumPy, Arrow). Whether they do without
the project's other dependencies, Ray first, is tried before. Prints the size of all that travels, and the
command for the machine. ``.gpu/`` is written into ``.git/info/exclude``, so it is never committed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ".gpu"
LIMIT = 64 * 2**20  # bytes: the whole tree that may travel
THERE = {"torch", "numpy", "pyarrow"}
NEEDED = {"diffusers", "pillow", "pydantic", "pytest", "ruamel-yaml", "safetensors", "tqdm", "transformers"}
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
TARGET = {
    "python_version": "3.12",
    "python_full_version": "3.12.3",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
    "os_name": "posix",
    "extra": "",
}
COMMAND = (
    "python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site "
    f"{FOLDER}/*.whl && export PYTHONPATH=/tmp/site PYTHONUNBUFFERED=1 || exit; set -o pipefail; "
    "python3 benchmarks/gpu/run.py --out $OUT/gpu.json | tee $OUT/gpu.md"
)
IMPORTS = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None  # an import of it raises ImportError
sys.path[:0] = ["src", "tests", "benchmarks/gpu"]
import tiny, test_guide
import reprobatch.contract, reprobatch.determinism, reprobatch.fresh, reprobatch.pipeline, reprobatch.probes
import reprobatch.resolve, reprobatch.worker
import bits, clock, facts, guide, made, noise, report, run, sections, sizes, speed
"""


def main() -> int:
    left = sorted(_dependencies() - NEEDED - THERE)
    print(f"left behind, and not needed: {', '.join(left)}")
    subprocess.run([sys.executable, "-c", IMPORTS, *left], cwd=ROOT, check=True)
    pins, folder = _pins(), ROOT / FOLDER
    names = sorted(_closure())
    unpinned = [name for name in names if name not in pins]
    if unpinned:
        print(f"expected a version in constraints.txt for all that travels, found none for: {', '.join(unpinned)}")
        return 1
    _exclude()
    shutil.rmtree(folder, ignore_errors=True)
    _download([f"{name}=={pins[name]}" for name in names], folder)
    return _say(folder)


def _dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}


def _closure() -> set[str]:
    """Names of all that the needed ones need on the machine, but for what is there."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in NEEDED]
    while waiting:
        need = waiting.pop()
        name = canonicalize_name(need.name)
        if name in found | THERE or (need.marker and not need.marker.evaluate(TARGET)):
            continue
        found.add(name)
        waiting += [Requirement(line) for line in requires(need.name) or []]
    return found


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = (line.split("==") for line in lines if re.match(r"[\w.-]+==", line))
    return {canonicalize_name(name): version.strip() for name, version in pinned}


def _exclude() -> None:
    """Keep the folder out of git without a line in the project's own ``.gitignore``."""
    path = ROOT / _git("rev-parse", "--git-path", "info/exclude").strip()
    text = path.read_text() if path.exists() else ""
    if f"/{FOLDER}/" not in text.splitlines():
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{text.rstrip()}\n/{FOLDER}/\n".lstrip())


def _download(wanted: list[str], folder: Path) -> None:
    platforms = [part for name in PLATFORMS for part in ("--platform", f"{name}_x86_64")]
    target = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp", *platforms]
    subprocess.run([sys.executable, "-m", "pip", "download", "-qq", *target, "-d", folder, *wanted], check=True)


def _say(folder: Path) -> int:
    wheels = sorted(folder.glob("*.whl"))
    travelling = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    tree = sum((ROOT / name).stat().st_size for name in travelling if name and (ROOT / name).is_file())
    carried = sum(wheel.stat().st_size for wheel in wheels)
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 2**20:7.2f} MiB  {wheel.name}")
    print(f"{carried / 2**20:7.2f} MiB  in {FOLDER}/, {tree / 2**20:.2f} MiB in the working tree beside it")
    if carried + tree >= LIMIT:
        print(f"expected less than {LIMIT // 2**20} MiB to travel; leave something out")
        return 1
    print(f"\nOn the device machine, with carry [{FOLDER!r}] and a limit of 600 s:\n\n{COMMAND}")
    return 0


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    raise SystemExit(main())
