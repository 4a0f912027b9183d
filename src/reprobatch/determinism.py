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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from reprobatch.errors import EnvironmentDiffers
from reprobatch.settings import Determinism, Speed

FILLING = "fill_uninitialized_memory"  # as torch.utils.deterministic calls it
_ALWAYS = {
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# "portable": kernels that every x86-64 CPU with AVX2 and FMA has, chosen by name and never by CPUID.
# docs/portable.md says what each one is for, and how that was seen.
_READ_BY_TORCH = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    # MKL's vector maths ignores MKL_CBWR; of its kernels only number 1 does without the instructions
    # rcpps and rsqrtps, whose last bits are each CPU maker's own
    "MKL_VML_DEBUG_CPU_TYPE": "1",
}
_READ_BY_NUMPY = {
    # AVX-512 by numpy's names since 2.4 and before; of names it does not know it says nothing by default
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_SPR AVX512_ICL AVX512_CNL AVX512_CLX AVX512_SKX AVX512CD AVX512F",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
}


def variables(determinism: Determinism, threads: int) -> dict[str, str]:
    """Environment variables that a process needs before it starts."""
    portable = _READ_BY_TORCH | _READ_BY_NUMPY if determinism.profile == "portable" else {}
    return {
        **_ALWAYS,
        "CUBLAS_WORKSPACE_CONFIG": determinism.cublas_workspace,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        **portable,
    }


def prepare(determinism: Determinism, threads: int, environ: Any = os.environ) -> None:
    """Set the variables in this process, while that still has an effect.

    Raises :class:`EnvironmentDiffers` where torch or numpy was imported before under other values of those
    that they read at import; start a fresh process then, with :func:`variables` in its environment
    (:func:`start_over` does).
    """
    wanted = variables(determinism, threads)
    for module, late in _late(wanted, environ).items():
        names = " ".join(f"{k}={v!r}" if " " in v else f"{k}={v}" for k, v in late.items())
        raise EnvironmentDiffers(
            f"profile '{determinism.profile}' needs {names} before {module} is imported, found {module} imported "
            "already; set them before the process starts"
        )
    environ.update(wanted)


def start_over(determinism: Determinism, threads: int) -> None:
    """As :func:`prepare`, but where that comes too late, begin this process again with the variables set.

    For commands, before they print anything: they learn which profile is wanted from a job or a dataset,
    and by then pyarrow has imported numpy.
    """
    wanted = variables(determinism, threads)
    if _late(wanted, os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})
    prepare(determinism, threads)


def _late(wanted: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Variables that have another value and were read already, by the module that read them."""
    readers = {"torch": _READ_BY_TORCH, "numpy": _READ_BY_NUMPY}
    differing = {k: v for k, v in wanted.items() if environ.get(k) != v}
    late = {m: {k: v for k, v in differing.items() if k in read} for m, read in readers.items() if m in sys.modules}
    return {module: names for module, names in late.items() if names}


def strict_settings(threads: int, device: str, speed: Speed | None = None) -> dict[str, Any]:
    """The values :func:`apply` gives to each of torch's switches; ``speed`` is a job's ``pipeline.speed``."""
    speed = speed or Speed()
    wanted: dict[str, Any] = {
        "deterministic_algorithms": True,
        FILLING: not speed.unfilled_memory,
        "threads": threads,
        "cudnn.benchmark": False,
        "cudnn.deterministic": True,
        "cudnn.allow_tf32": speed.tf32,
        "matmul.allow_tf32": speed.tf32,
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


def fix(determinism: Determinism, threads: int, device: str, speed: Speed | None = None) -> None:
    """Settings in force for the rest of this process: what a worker does first."""
    prepare(determinism, threads)
    import torch

    with suppress(RuntimeError):  # only before the first parallel work; it changes no bits
        torch.set_num_interop_threads(1)
    apply(strict_settings(threads, device, speed))


@contextmanager
def filled_memory() -> Iterator[None]:
    """Memory that nothing has written yet is filled, with NaN or the largest whole number, for a block."""
    before = in_force()[FILLING]
    apply({FILLING: True})
    try:
        yield
    finally:
        apply({FILLING: before})


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
        FILLING: attribute(torch.utils.deterministic, "fill_uninitialized_memory"),
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
