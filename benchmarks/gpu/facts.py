"""What the figures belong to: the GPU, its driver, and the libraries."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from report import Findings
from sizes import Sizes

from reprobatch import environment

LIBRARIES = ("diffusers", "transformers", "tokenizers", "huggingface-hub", "safetensors", "numpy", "pyarrow")


def run(sizes: Sizes, found: Findings) -> None:
    """A fact a row."""
    found.table("What all figures belong to", ("fact", "value"))
    facts = {
        **(_gpu() if sizes.device == "cuda" else {"GPU": "none used: a dry run"}),
        "torch": torch.__version__,
        **{name: _version(name) for name in LIBRARIES},
        "Python": platform.python_version(),
        "CPU": f"{environment.cpu()[0]}, {os.cpu_count()} cores",
        "kernel": platform.release(),
    }
    for name, value in facts.items():
        found.row(name, value)


def _gpu() -> dict[str, Any]:
    gpu = torch.cuda.get_device_properties(0)
    return {
        "GPU": gpu.name,
        "compute capability": f"{gpu.major}.{gpu.minor}",
        "multiprocessors": gpu.multi_processor_count,
        "memory, MiB": gpu.total_memory // 2**20,
        "driver": _driver(),
        "CUDA of torch": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
    }


def _driver() -> str:
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.split()[0]
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return "unknown"
    named = re.search(r"\d+\.\d+(\.\d+)?", text)
    return named.group() if named else "unknown"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
