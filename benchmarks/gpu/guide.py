"""The tests marked ``cuda``, by pytest, and what became of each."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from report import Findings
from sizes import ROOT, Sizes


def run(sizes: Sizes, work: Path, found: Findings) -> None:
    """Run them. On a GPU a skipped test is a failure: it says nothing."""
    xml = work / "tests.xml"
    # only files that hold such tests are collected: others import what is not on such a machine, Ray first
    files = [str(p) for p in sorted((ROOT / "tests").glob("test_*.py")) if "mark.cuda" in p.read_text()]
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", f"--junitxml={xml}", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not xml.exists():  # no pytest, or it could not collect
        lines = (done.stderr + done.stdout).strip().splitlines() or ["it said nothing"]
        found.problem(f"pytest ended with {done.returncode} and no report: {' / '.join(lines[-5:])}")
        return
    found.table("Tests marked `cuda`", ("test", "outcome", "seconds"))
    cases = list(ET.parse(xml).iter("testcase"))
    for case in cases:
        _row(case, sizes, found)
    if not cases:
        found.problem(f"no test marked cuda was found in {len(files)} files (pytest ended with {done.returncode})")


def _row(case: ET.Element, sizes: Sizes, found: Findings) -> None:
    bad = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
    outcome = "passed" if bad is None else bad.tag
    found.row(case.get("name"), outcome, round(float(case.get("time", 0)), 1))
    if bad is not None and not (outcome == "skipped" and sizes.device == "cpu"):
        said = [bad.get("message") or "", *(bad.text or "").strip().splitlines()[-1:]]
        found.problem(f"{case.get('name')}: {outcome}: {'; '.join(said)[:400]}")
