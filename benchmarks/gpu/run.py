"""Everything that is measured on a GPU, by one command that ends within ten minutes, without Ray.

    python benchmarks/gpu/run.py --out gpu.json              # on a machine with a GPU
    python benchmarks/gpu/run.py --dry-run                   # every path, tiny sizes, on a CPU: a few minutes
    python benchmarks/gpu/run.py --only speed --only noise   # some sections

Prints Markdown tables, section by section as they end, and writes the same as JSON. A section that
fails, is cut off or was not reached is printed with its reason, and then the exit code is 1; 2 says that
there is no GPU. ``docs/gpu.md`` says how this travels to a machine without a network.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import report
from sections import SECTIONS
from sizes import ROOT

HERE = Path(__file__).resolve().parent
DRY = "**A dry run on a CPU with tiny models: no number below is a measurement of a GPU.**"


def main() -> int:
    arguments = _arguments()
    names = [name for name in SECTIONS if name == "facts" or not arguments.only or name in arguments.only]
    with tempfile.TemporaryDirectory(prefix="reprobatch-gpu-") as work:
        environ = _environment(Path(work))
        if not arguments.dry_run and not _has_gpu(environ):
            print("expected a GPU, found none that torch can use; --dry-run takes every path on a CPU", file=sys.stderr)
            return 2
        print(f"# reprobatch on a GPU\n\n{DRY if arguments.dry_run else ''}\n", flush=True)
        sections = _run(names, Path(work), environ, arguments)
    print(report.summary(sections))
    return 0 if all(found["status"] == "ok" for found in sections) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the JSON goes; rewritten after each section")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section to run; may be repeated")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all sections together (9)")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument(
        "--workspace",
        choices=[":16:8", ":4096:8"],
        default=":16:8",
        help="cuBLAS's, for 'canary', 'noise' and 'sweep': the other one where the guide's cannot start",
    )
    return parser.parse_args()


def _run(names: list[str], work: Path, environ: dict[str, str], arguments: argparse.Namespace) -> list[report.Found]:
    deadline = time.monotonic() + 60 * arguments.minutes
    options = [f"--workspace={arguments.workspace}", *(["--dry-run"] if arguments.dry_run else [])]
    sections: list[report.Found] = []
    for name in names:
        found = _section(name, work, environ, deadline, options)
        sections.append(found)
        print(report.section(found), flush=True)
        if arguments.out:
            document = {"dry_run": arguments.dry_run, "workspace": arguments.workspace, "sections": sections}
            arguments.out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return sections


def _section(name: str, work: Path, environ: dict[str, str], deadline: float, options: list[str]) -> report.Found:
    """Run a section for as long as it may take; what it found, whatever became of it."""
    start, path = time.monotonic(), work / f"{name}.jsonl"
    path.touch()
    seconds = min(SECTIONS[name][1], deadline - start)
    reason = _process(name, path, work, environ, seconds, options) if seconds > 1 else "not run: no time was left"
    tables, notes, problems = report.read(path)
    reasons = [*problems, *([reason] if reason else [])]
    if not reasons and not any(table["rows"] for table in tables):
        reasons = ["it ended well and found nothing"]
    return {
        "name": name,
        "title": SECTIONS[name][0],
        "status": "failed" if reasons else "ok",
        "reasons": reasons,
        "seconds": round(time.monotonic() - start, 1),
        "tables": tables,
        "notes": notes,
    }


def _process(
    name: str, path: Path, work: Path, environ: dict[str, str], seconds: float, options: list[str]
) -> str | None:
    """Why a section's process did not end well, or ``None``."""
    command = [sys.executable, str(HERE / "sections.py"), name, str(path), str(work), *options]
    log = work / f"{name}.log"
    with log.open("w") as file:  # a group of its own, so that its own children go with it
        process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=file, stderr=file, process_group=0)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s; what it had found is kept"
        finally:
            _end(process)
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    return None if code == 0 else f"its process ended with {code}: {' / '.join(lines[-3:])}"


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment(work: Path) -> dict[str, str]:
    """Paths for all that is started, no network, and no settings that this shell happens to have."""
    environ = {k: v for k, v in os.environ.items() if k not in ("CUBLAS_WORKSPACE_CONFIG", "PYTHONPATH")}
    paths = [str(ROOT / "src"), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    if importlib.util.find_spec("ray"):  # it is here, so it is put out of reach: nothing may need it
        (work / "no-ray").mkdir()
        (work / "no-ray" / "ray.py").write_text('raise ImportError("Ray is out of reach here")\n')
        paths.insert(0, str(work / "no-ray"))
    if not any(metadata.distributions(name="reprobatch")):
        paths.insert(0, str(_as_if_installed(work / "installed")))
    return {**environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}


def _as_if_installed(folder: Path) -> Path:
    """The package's name and version where Python looks for them: a bare checkout has none, and it asks for its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(text)
    return folder


def _has_gpu(environ: dict[str, str]) -> bool:
    command = [sys.executable, "-c", "import torch, sys; sys.exit(not torch.cuda.is_available())"]
    return subprocess.run(command, env=environ, check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
