"""The core loads neither torch nor diffusers, ray or transformers: planning and verifying are cheap."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "diffusers", "ray", "transformers"}
CORE = [
    "reprobatch",
    "reprobatch.admission",
    "reprobatch.canonical",
    "reprobatch.card",
    "reprobatch.claim",
    "reprobatch.classes",
    "reprobatch.cli",
    "reprobatch.compare",
    "reprobatch.contract",
    "reprobatch.croissant",
    "reprobatch.dataset",
    "reprobatch.distances",
    "reprobatch.environment",
    "reprobatch.epoch",
    "reprobatch.errors",
    "reprobatch.estimate",
    "reprobatch.export",
    "reprobatch.film",
    "reprobatch.findings",
    "reprobatch.folder",
    "reprobatch.hub",
    "reprobatch.inputs",
    "reprobatch.interrupt",
    "reprobatch.itemchecks",
    "reprobatch.itemfile",
    "reprobatch.items",
    "reprobatch.job",
    "reprobatch.jobfile",
    "reprobatch.jobitems",
    "reprobatch.jobpipeline",
    "reprobatch.journal",
    "reprobatch.manifest",
    "reprobatch.merge",
    "reprobatch.merkle",
    "reprobatch.models",
    "reprobatch.attachments",
    "reprobatch.page.apart",
    "reprobatch.page.entries",
    "reprobatch.page.facts",
    "reprobatch.page.folder",
    "reprobatch.page.pictures",
    "reprobatch.page.run",
    "reprobatch.page.snippet",
    "reprobatch.pictures",
    "reprobatch.plan",
    "reprobatch.pngfile",
    "reprobatch.progress",
    "reprobatch.proof",
    "reprobatch.prooffile",
    "reprobatch.proposal",
    "reprobatch.proving",
    "reprobatch.ranges",
    "reprobatch.recipe",
    "reprobatch.recipes",
    "reprobatch.record",
    "reprobatch.report",
    "reprobatch.resolve",
    "reprobatch.sampling",
    "reprobatch.schedule",
    "reprobatch.seeds",
    "reprobatch.segments",
    "reprobatch.settings",
    "reprobatch.shardcheck",
    "reprobatch.shardfile",
    "reprobatch.sheets",
    "reprobatch.signature",
    "reprobatch.sizes",
    "reprobatch.status",
    "reprobatch.store",
    "reprobatch.tables",
    "reprobatch.verdict",
    "reprobatch.verification",
    "reprobatch.view",
]


def loaded(statement: str) -> set[str]:
    """Names in ``sys.modules`` of a fresh interpreter after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


# each module is imported in a fork of one interpreter that has loaded what the core may load: as good as a new one,
# and half a minute sooner
ONE_BY_ONE = """
import importlib, json, os, sys
import click, importlib.metadata, numpy, PIL.Image, pyarrow.compute, pyarrow.parquet, pydantic
for module in sys.argv[1:]:
    if not os.fork():
        importlib.import_module(module)
        print(json.dumps([module, sorted(sys.modules)]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, module
"""


@pytest.fixture(scope="module")
def found() -> dict[str, set[str]]:
    """What is in ``sys.modules`` once a core module was imported, and nothing else, by module."""
    done = subprocess.run([sys.executable, "-c", ONE_BY_ONE, *CORE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {module: set(modules) for module, modules in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("module", CORE)
def test_module_loads_nothing_heavy(found: dict[str, set[str]], module: str) -> None:
    assert module in found[module]
    assert not HEAVY & found[module]


@pytest.mark.parametrize("module", ["reprobatch.merkle", "reprobatch.schedule", "reprobatch.errors"])
def test_modules_that_only_compute_load_no_arrow_either(module: str) -> None:
    assert not {"numpy", "pyarrow", "pydantic"} & loaded(f"import {module}")


def test_public_names_load_what_they_need_when_they_are_first_used() -> None:
    found = loaded("import reprobatch; reprobatch.derive; reprobatch.open; reprobatch.load; reprobatch.verify")
    assert not HEAVY & found
    assert "ray" in loaded("import reprobatch; reprobatch.run")
