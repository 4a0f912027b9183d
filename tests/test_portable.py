"""The portable profile: kernels chosen by name, and bits that emulated CPUs of three kinds gave as well.

``benchmarks/portable.py`` is how the golden digests here were seen; docs/portable.md has its table.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from reprobatch import determinism, environment
from reprobatch.errors import EnvironmentDiffers
from reprobatch.settings import Determinism

ROOT = Path(__file__).parent.parent
PORTABLE = Determinism(profile="portable")

# equal on an AVX-512 AMD EPYC and on emulated Haswell, Skylake-Server and EPYC, with these versions
SEEN_WITH = {"torch": "2.13.0+cpu", "diffusers": "0.42.1", "numpy": "2.4.6"}
FIRST_BATCH = "7031c574b684a1205253793d6517660399d8b1b60f5223a5fe3727c18037e4b5"
OPERATIONS = "47793a5e007b7f6acd5c754cac2ed500f01064afe08bb9cad0ac689a99f05743"

needs_avx2 = pytest.mark.skipif(
    platform.machine() != "x86_64" or not {"avx2", "fma"} <= set(environment.cpu()[1]),
    reason="the profile is for x86-64 CPUs with AVX2 and FMA",
)
as_seen = pytest.mark.skipif(
    any(version(name) != wanted for name, wanted in SEEN_WITH.items()),
    reason=f"the golden digests are those of {SEEN_WITH}",
)


def fresh(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that inherits no variable that steers numerics but those given."""
    inherited = {name: value for name, value in os.environ.items() if name not in environment.STEERING}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**inherited, **variables}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def bits() -> dict[str, Any]:
    """What a fresh portable process makes of the first digits batch at two steps, and of single operations."""
    overrides = ["-s", "determinism=portable", "-s", "call.num_inference_steps=2"]
    argv = ["portable_bits.py", "--batches", "1", *overrides]
    code = f"import runpy, sys; sys.argv = {argv}; runpy.run_path('benchmarks/portable_bits.py', run_name='__main__')"
    done = fresh(code, **determinism.variables(PORTABLE, 1))
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@needs_avx2
def test_a_portable_process_uses_avx2_kernels_and_one_thread_whatever_the_cpu_offers(bits: dict[str, Any]) -> None:
    assert bits["dispatch"]["torch"] == "AVX2"
    assert not [name for name in bits["dispatch"]["numpy"] if "AVX512" in name or name == "X86_V4"]
    assert bits["dispatch"]["threads"] == 1


@needs_avx2
@as_seen
def test_the_first_digits_batch_is_the_one_that_emulated_cpus_made(bits: dict[str, Any]) -> None:
    assert len(bits["checksums"]) == 8
    assert hashlib.sha256("".join(bits["checksums"]).encode()).hexdigest() == FIRST_BATCH


@needs_avx2
@as_seen
def test_each_operation_gives_the_bits_that_it_gave_on_emulated_cpus(bits: dict[str, Any]) -> None:
    named = json.dumps(bits["operations"], sort_keys=True)
    assert hashlib.sha256(named.encode()).hexdigest() == OPERATIONS


def test_what_the_profile_sets_is_recorded(bits: dict[str, Any]) -> None:
    added = determinism.variables(PORTABLE, 1).keys() - determinism.variables(Determinism(), 1).keys()
    assert len(added) == 7
    assert added <= set(environment.STEERING)
    assert added <= bits["environment"]["variables"].keys()


def test_strict_leaves_the_choice_of_kernels_to_the_libraries() -> None:
    assert not determinism.variables(Determinism(), 1).keys() & {
        "ATEN_CPU_CAPABILITY", "MKL_VML_DEBUG_CPU_TYPE", "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE",
    }  # fmt: skip


# Too late


@pytest.mark.parametrize(("module", "variable"), [("torch", "ATEN_CPU_CAPABILITY"), ("numpy", "OPENBLAS_CORETYPE")])
def test_a_module_that_was_imported_before_its_variables_were_set_is_an_error(
    module: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "numpy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, object())
    environ: dict[str, str] = {}
    with pytest.raises(EnvironmentDiffers, match=f"{variable}=.* before {module} is imported, found {module} imported"):
        determinism.prepare(PORTABLE, 1, environ)
    assert environ == {}
    environ = determinism.variables(PORTABLE, 1)
    determinism.prepare(PORTABLE, 2, environ)
    assert environ["OMP_NUM_THREADS"] == "2"


def test_a_strict_job_is_never_too_late() -> None:
    environ: dict[str, str] = {}
    determinism.prepare(Determinism(), 1, environ)
    assert environ == determinism.variables(Determinism(), 1)


def test_a_command_that_is_too_late_starts_over_once() -> None:
    code = """
import os, sys
print("begins", flush=True)
import numpy
from reprobatch import determinism
from reprobatch.settings import Determinism
portable = Determinism(profile="portable")
determinism.start_over(portable, 1)
print(os.environ["OPENBLAS_CORETYPE"], *sys.argv[1:])
"""
    done = fresh(code)
    assert done.stdout.split() == ["begins", "begins", "Haswell"], done.stderr
    assert fresh(code, **determinism.variables(PORTABLE, 1)).stdout.split() == ["begins", "Haswell"]
