"""The facts of a machine and its libraries that may change bits, and how two sets of them differ.

No host names and no times: two machines that should agree must give equal facts. Loads no torch; a
worker adds what only torch knows.
"""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "tokenizers",
    "numpy",
    "pyarrow",
    "safetensors",
    "reprobatch",
)
OPTIONAL = ("accelerate", "bitsandbytes", "flash-attn", "peft", "pillow", "torchao", "torchsde", "triton", "xformers")
STEERING = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_VML_DEBUG_CPU_TYPE",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "GLIBC_TUNABLES",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
_INSTRUCTIONS = re.compile(r"avx.*|fma|f16c|sse4_[12]|amx.*|bmi[12]|asimd.*|sve.*|bf16|i8mm")


def collect(variables: dict[str, str], torch_facts: dict[str, Any] | None = None) -> dict[str, Any]:
    """The facts, as plain JSON values.

    ``variables`` is the process's environment, of which only those that steer numerics are kept;
    ``torch_facts`` is what :func:`reprobatch.worker.torch_facts` reads.
    """
    model, instructions = cpu()
    return {
        "os": platform.system(),
        "libc": "-".join(platform.libc_ver()),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpu": model,
        "instructions": instructions,
        "numpy_simd": _numpy_simd(),
        "libraries": _libraries(),
        "variables": {name: variables[name] for name in STEERING if name in variables},
        "torch": torch_facts or {},
    }


def cpu(path: Path = Path("/proc/cpuinfo")) -> tuple[str, list[str]]:
    """The CPU's model name, and those of its instruction sets that numerical kernels choose by."""
    try:
        text = path.read_text()
    except OSError:
        return platform.processor() or "unknown", []
    fields = dict(re.findall(r"^(model name|flags|Features|CPU implementer)\s*:\s*(.*)$", text, re.MULTILINE))
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return fields.get("model name", "unknown"), sorted({f for f in flags if _INSTRUCTIONS.fullmatch(f)})


def explain(here: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """What differs between two environments, a line a fact: ``cpu: EPYC, recorded: Xeon``."""
    found: list[str] = []
    for key in sorted(here.keys() | recorded.keys()):
        mine, theirs = here.get(key), recorded.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            found += [f"{key}.{line}" for line in explain(mine, theirs)]
        elif mine == theirs:
            continue
        elif _are_words(mine) and _are_words(theirs) and set(mine) != set(theirs):
            extra, lacking = sorted(set(mine) - set(theirs)), sorted(set(theirs) - set(mine))
            found.append(f"{key}: also {' '.join(extra) or 'none'}, lacking {' '.join(lacking) or 'none'}")
        else:
            found.append(f"{key}: {_shown(mine)}, recorded: {_shown(theirs)}")
    return found


def _are_words(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _libraries() -> dict[str, str | None]:
    """Versions of what computes; of the optional ones (CUDA's own among them) those that are installed."""
    installed = {(found.metadata["Name"] or "").lower() for found in distributions()}
    optional = sorted(name for name in installed if name in OPTIONAL or name.startswith("nvidia-"))
    return {name: _version(name) for name in (*LIBRARIES, *optional)}


def _numpy_simd() -> list[str]:
    """Instruction sets that numpy's own kernels use here, as far as it dispatches at run time."""
    found = np.show_config(mode="dicts")
    simd = found.get("SIMD Extensions", {}) if isinstance(found, dict) else {}
    return sorted(simd.get("found", []))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
