"""Applies the settings that make a process compute the same bits every time.

``variables`` go into a process's environment before it starts (cuBLAS reads its own when CUDA comes
up, ATen picks its kernels when torch is imported); ``apply`` sets the rest inside it. The diffusers
guide sets ``CUBLAS_WORKSPACE_CONFIG``, ``cudnn.benchmark`` and ``use_deterministic_algorithms``;
*strict* also closes what these leave open: cuDNN's own choice of algorithms, TF32, reductions in
reduced precision, and on GPUs the choice among attention kernels.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from reprobatch.errors import EnvironmentDiffers
from reprobatch.settings import Determinism

_ALWAYS = {
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# read once, when torch is imported: too late afterwards
_PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}


def variables(determinism: Determinism, threads: int) -> dict[str, str]:
    """Environment variables that a process needs before it starts."""
    portable = _PORTABLE if determinism.profile == "portable" else {}
    return {
        **_ALWAYS,
        "CUBLAS_WORKSPACE_CONFIG": determinism.cublas_workspace,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        **portable,
    }


def prepare(determinism: Determinism, threads: int, environ: Any = os.environ) -> None:
    """Set the variables in this process, while that still has an effect.

    Raises :class:`EnvironmentDiffers` where torch was imported before under other values of those it
    reads at import; start a fresh process then (the command line does).
    """
    wanted = variables(determinism, threads)
    if "torch" in sys.modules:
        late = {k: v for k, v in wanted.items() if k in _PORTABLE and environ.get(k) != v}
        if late:
            names = " ".join(f"{k}={v}" for k, v in late.items())
            raise EnvironmentDiffers(
                f"profile '{determinism.profile}' needs {names} before torch is imported, found torch imported "
                "already; set them before the process starts, or use the command line"
            )
    environ.update(wanted)


def strict_settings(threads: int, device: str) -> dict[str, Any]:
    """The values :func:`apply` gives to each of torch's switches."""
    wanted: dict[str, Any] = {
        "deterministic_algorithms": True,
        "threads": threads,
        "cudnn.benchmark": False,
        "cudnn.deterministic": True,
        "cudnn.allow_tf32": False,
        "matmul.allow_tf32": False,
        "matmul.fp16_reduced_precision": False,
        "matmul.bf16_reduced_precision": False,
        "mkldnn.deterministic": True,
    }
    if device == "cuda":
        # flash and cuDNN attention depend on shapes and versions most; these two are left
        wanted |= {"sdp.flash": False, "sdp.cudnn": False, "sdp.efficient": True, "sdp.math": True}
    return wanted


def in_force() -> dict[str, Any]:
    """What torch's switches are set to now."""
    return {name: read() for name, (read, _) in _switches().items()}


def apply(settings: Mapping[str, Any]) -> None:
    """Set torch's switches, as named in :func:`strict_settings`."""
    switches = _switches()
    for name, value in settings.items():
        switches[name][1](value)


def fix(determinism: Determinism, threads: int, device: str) -> None:
    """Settings in force for the rest of this process: what a worker does first."""
    prepare(determinism, threads)
    import torch

    with suppress(RuntimeError):  # only before the first parallel work; it changes no bits
        torch.set_num_interop_threads(1)
    apply(strict_settings(threads, device))


def _switches() -> dict[str, tuple[Callable[[], Any], Callable[[Any], None]]]:
    import torch

    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn

    def attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
        return (lambda: getattr(owner, name)), (lambda value: setattr(owner, name, value))

    return {
        "deterministic_algorithms": (
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
        ),
        "threads": (torch.get_num_threads, torch.set_num_threads),
        "cudnn.benchmark": attribute(cudnn, "benchmark"),
        "cudnn.deterministic": attribute(cudnn, "deterministic"),
        "cudnn.allow_tf32": attribute(cudnn, "allow_tf32"),
        "matmul.allow_tf32": attribute(cuda.matmul, "allow_tf32"),
        "matmul.fp16_reduced_precision": attribute(cuda.matmul, "allow_fp16_reduced_precision_reduction"),
        "matmul.bf16_reduced_precision": attribute(cuda.matmul, "allow_bf16_reduced_precision_reduction"),
        "mkldnn.deterministic": attribute(mkldnn, "deterministic"),
        "sdp.flash": (cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
        "sdp.cudnn": (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp),
        "sdp.efficient": (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
        "sdp.math": (cuda.math_sdp_enabled, cuda.enable_math_sdp),
    }
