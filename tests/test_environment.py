"""The environment: facts that may change bits, and why two machines differ."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from reprobatch import environment

RECORDED: dict[str, Any] = {
    "os": "Linux",
    "machine": "x86_64",
    "cpu": "AMD EPYC 9654",
    "instructions": ["avx2", "avx512f", "fma"],
    "libraries": {"torch": "2.13.0", "diffusers": "0.42.1", "tokenizers": None},
    "variables": {"OMP_NUM_THREADS": "1"},
    "torch": {"cpu_capability": "AVX512", "gpu": {"name": "H200", "capability": "9.0"}, "threads": [1, 2]},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    facts = copy.deepcopy(RECORDED)
    *above, last = path.split(".")
    node = facts
    for part in above:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return facts


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("cpu", "Intel Xeon 8481C", "cpu: Intel Xeon 8481C, recorded: AMD EPYC 9654"),
        ("cpu", ..., "cpu: none, recorded: AMD EPYC 9654"),
        ("libc", "glibc-2.36", "libc: glibc-2.36, recorded: none"),
        ("libraries.torch", "2.12.0", "libraries.torch: 2.12.0, recorded: 2.13.0"),
        ("libraries.torch", None, "libraries.torch: none, recorded: 2.13.0"),
        ("libraries.tokenizers", "0.22", "libraries.tokenizers: 0.22, recorded: none"),
        ("variables.OMP_NUM_THREADS", ..., "variables.OMP_NUM_THREADS: none, recorded: 1"),
        ("variables.MKL_CBWR", "COMPATIBLE", "variables.MKL_CBWR: COMPATIBLE, recorded: none"),
        ("torch.gpu.name", "H100", "torch.gpu.name: H100, recorded: H200"),
        ("torch.gpu", ..., "torch.gpu: none, recorded: {'name': 'H200', 'capability': '9.0'}"),
        ("instructions", ["avx2", "fma"], "instructions: also none, lacking avx512f"),
        ("instructions", ["amx_tile", "avx2", "avx512f", "fma"], "instructions: also amx_tile, lacking none"),
        ("instructions", ["sve", "asimd"], "instructions: also asimd sve, lacking avx2 avx512f fma"),
        ("instructions", [], "instructions: also none, lacking avx2 avx512f fma"),
        ("instructions", ["fma", "avx2", "avx512f"],
         "instructions: ['fma', 'avx2', 'avx512f'], recorded: ['avx2', 'avx512f', 'fma']"),
        ("torch.threads", [2, 1], "torch.threads: [2, 1], recorded: [1, 2]"),
        ("torch.threads", [{"a": 1}], "torch.threads: [{'a': 1}], recorded: [1, 2]"),
    ],
)  # fmt: skip
def test_a_difference_is_a_line_with_both_values(path: str, value: Any, line: str) -> None:
    assert environment.explain(changed(path, value), RECORDED) == [line]


def test_equal_environments_need_no_words() -> None:
    assert environment.explain(copy.deepcopy(RECORDED), RECORDED) == []


def test_differences_come_in_the_order_of_their_names() -> None:
    here = changed("os", "Darwin") | {"cpu": "M4", "libraries": {"torch": "2.12.0", "diffusers": "0.42.0"}}
    assert environment.explain(here, RECORDED) == [
        "cpu: M4, recorded: AMD EPYC 9654",
        "libraries.diffusers: 0.42.0, recorded: 0.42.1",
        "libraries.torch: 2.12.0, recorded: 2.13.0",
        "os: Darwin, recorded: Linux",
    ]


# The facts of this machine


def test_facts_are_plain_json_and_the_same_when_asked_again() -> None:
    variables = {"OMP_NUM_THREADS": "1"}
    facts = environment.collect(variables, {"cpu_capability": "AVX2"})
    assert json.loads(json.dumps(facts)) == facts == environment.collect(variables, {"cpu_capability": "AVX2"})
    assert facts["torch"] == {"cpu_capability": "AVX2"}
    assert environment.collect({})["torch"] == {}


def test_facts_name_the_version_of_every_library_that_touches_the_bits() -> None:
    libraries = environment.collect({})["libraries"]
    assert {"torch", "diffusers", "transformers", "numpy", "safetensors", "reprobatch"} <= libraries.keys()
    assert all(libraries.values())


def test_a_library_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "LIBRARIES", ("torch", "no-such-library"))
    assert environment.collect({})["libraries"]["no-such-library"] is None


def test_only_variables_that_steer_numerics_are_kept() -> None:
    variables = {
        "ATEN_CPU_CAPABILITY": "avx2",
        "CUBLAS_WORKSPACE_CONFIG": ":16:8",
        "HOSTNAME": "node-7",
        "HOME": "/root",
        "PATH": "/usr/bin",
        "HF_TOKEN": "secret",
    }
    kept = environment.collect(variables)["variables"]
    assert kept == {"ATEN_CPU_CAPABILITY": "avx2", "CUBLAS_WORKSPACE_CONFIG": ":16:8"}


X86 = """processor\t: 0
model name\t: AMD EPYC 9654
cpu MHz\t\t: 2400.1
flags\t\t: fpu sse4_2 sse4_1 ssse3 avx avx2 fma f16c avx512f bmi1 bmi2 amx_tile rdrand

processor\t: 1
model name\t: AMD EPYC 9654
cpu MHz\t\t: 3700.9
flags\t\t: fpu sse4_2 sse4_1 ssse3 avx avx2 fma f16c avx512f bmi1 bmi2 amx_tile rdrand
"""
ARM = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes asimddp sve bf16 i8mm
CPU implementer\t: 0x41
"""


@pytest.mark.parametrize(
    ("text", "model", "instructions"),
    [
        (X86, "AMD EPYC 9654", "amx_tile avx avx2 avx512f bmi1 bmi2 f16c fma sse4_1 sse4_2"),
        (ARM, "unknown", "asimd asimddp bf16 i8mm sve"),
        ("", "unknown", ""),
    ],
    ids=["x86", "arm", "nothing"],
)
def test_cpu_is_its_model_and_the_instructions_that_kernels_choose_by(
    tmp_path: Path, text: str, model: str, instructions: str
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert environment.cpu(tmp_path / "cpuinfo") == (model, instructions.split())


def test_cpu_is_known_by_its_name_where_there_is_no_cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.platform, "processor", lambda: "arm")
    assert environment.cpu(tmp_path / "none") == ("arm", [])
    monkeypatch.setattr(environment.platform, "processor", lambda: "")
    assert environment.cpu(tmp_path / "none") == ("unknown", [])
