"""The wheel holds what a run needs and nothing else, and runs outside of a clone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import reprobatch
from conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_it_holds_the_package_whole_with_its_types_model_and_job(wheel: Path) -> None:
    package = ROOT / "src"
    wanted = {name for name in names(package) if "__pycache__" not in name}
    assert {"reprobatch/py.typed", "reprobatch/builtin/digits/job.yaml"} <= wanted
    about = f"reprobatch-{reprobatch.__version__}.dist-info"
    assert names(wheel) - wanted == {
        f"{about}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    assert wanted <= names(wheel)
    assert all((wheel / name).read_bytes() == (package / name).read_bytes() for name in wanted)


def test_it_names_its_command_its_licence_and_its_readme(wheel: Path) -> None:
    (about,) = wheel.glob("*.dist-info")
    assert "reprobatch = reprobatch.cli:main" in (about / "entry_points.txt").read_text()
    told = (about / "METADATA").read_text()
    assert "License-Expression: Apache-2.0\n" in told and "Requires-Python: >=3.11\n" in told
    assert told.endswith((ROOT / "README.md").read_text())


def test_it_runs_outside_of_a_clone(wheel: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reprobatch.cli", "plan", "builtin:digits", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    where = subprocess.run(
        [sys.executable, "-c", "import reprobatch; print(reprobatch.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert Path(where.stdout.strip()).is_relative_to(wheel)
    assert found["items"] == 1000
    assert found["job_digest"] == reprobatch.load(ROOT / "jobs" / "digits.yaml").job.digest


def test_the_sdist_holds_what_the_tests_need_and_no_environment(tmp_path: Path) -> None:
    (built,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(built) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "constraints.txt", "tests/conftest.py"} <= found
    assert {"src/reprobatch/py.typed", "jobs/digits.yaml", ".ci/run", "docs/make_reference.py"} <= found
    assert not [name for name in found if name.startswith((".venv", ".git/", "dist/")) or "__pycache__" in name]


def test_the_job_of_the_built_in_model_is_the_repositorys() -> None:
    shipped, own = reprobatch.load("builtin:digits"), reprobatch.load(ROOT / "jobs" / "digits.yaml")
    assert shipped.job == own.job and shipped.plan.count == 1000
    changed = reprobatch.load("builtin:digits", ["items.repeat=2"])
    assert changed.plan.count == 20
