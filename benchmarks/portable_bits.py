"""What this process computes, as JSON: which kernels were chosen, and digests of what they produce.

Starts no other process, so an emulator can run it as it is; the job's variables have to be in its environment
already. ``benchmarks/portable.py`` sees to that, and compares what this prints on several CPUs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

DIGITS = Path(__file__).parent.parent / "jobs" / "digits.yaml"
UNARY = "acos asin atan cos erf erfc erfinv exp log log2 log10 sin sqrt tan tanh rsqrt sigmoid expm1 log1p lgamma"
NUMPY_UNARY = "exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh cosh tanh sqrt cbrt"


def dispatch() -> dict[str, Any]:
    """The kernels that torch and numpy chose, and whether this CPU offers more than they should take."""
    import torch
    from numpy._core._multiarray_umath import __cpu_dispatch__ as dispatched  # type: ignore[import-not-found]
    from numpy._core._multiarray_umath import __cpu_features__ as features

    return {
        "torch": torch.backends.cpu.get_cpu_capability(),
        "numpy": [name for name in dispatched if features[name]],
        "threads": torch.get_num_threads(),
        "AVX-512 offered": features["AVX512VL"],  # no kernel of numpy's goes by this name, so it is never disabled
    }


def operations() -> dict[str, str]:
    """A digest for each of the operations that diffusers' pipelines and schedulers are made of."""
    import torch

    found = {}
    for dtype in (torch.float32, torch.float64):
        # uniform draws are exact, so that every operation gets the same bits to work on
        drawn = torch.rand(40_000, generator=torch.Generator().manual_seed(0), dtype=dtype) * 0.98 + 0.01
        for name, call in {**_torch_calls(drawn), **_numpy_calls(drawn.numpy())}.items():
            found[f"{name} {str(dtype).removeprefix('torch.')}"] = _digest(call())
    return found


def _torch_calls(u: Any) -> dict[str, Callable[[], Any]]:
    import torch
    from torch.nn import functional

    x, dtype = (u - 0.5) * 6, u.dtype
    rows, square = x.view(40, 1000), x[:4096].view(64, 64)
    image, kernel, heads = x[:9248].view(2, 16, 17, 17), x[:4608].view(32, 16, 3, 3), x[:24640].view(2, 4, 77, 40)
    positive = square @ square.T / 64 + 4 * torch.eye(64, dtype=dtype)
    names = {f"torch.{name}": getattr(torch, name) for name in UNARY.split()}
    activations = {name: getattr(functional, name) for name in ("silu", "gelu", "mish", "softplus")}
    return {
        **{name: partial(call, u) for name, call in names.items()},
        **{name: partial(call, x) for name, call in activations.items()},
        "pow": lambda: u**x,
        "exp, wide": lambda: torch.exp(x * 10),
        "sin, wide": lambda: torch.sin(x * 100),
        "randn": lambda: torch.randn(5001, generator=torch.Generator().manual_seed(1), dtype=dtype),
        "linspace": lambda: torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=dtype) ** 2,
        "cumprod": lambda: torch.cumprod(1 - u[:1000] * 0.02, 0),
        "sum": lambda: torch.stack([x.sum(), x.mean(), x.std(), x.norm()]),
        "quantile": lambda: torch.quantile(rows, 0.995, dim=1),
        "matmul": lambda: rows @ rows.T,
        "linear": lambda: functional.linear(rows, rows[:16], x[:16]),
        "conv": lambda: functional.conv2d(image, kernel, padding=1),
        "conv transposed": lambda: functional.conv_transpose2d(image, kernel.transpose(0, 1), stride=2),
        "attention": lambda: functional.scaled_dot_product_attention(heads, heads * 1.1, heads * 0.9),
        "softmax": lambda: torch.softmax(rows, -1),
        "layer norm": lambda: functional.layer_norm(rows, (1000,)),
        "group norm": lambda: functional.group_norm(x.view(2, 40, 500), 8),
        "bicubic": lambda: functional.interpolate(image, size=(23, 31), mode="bicubic"),
        "cdist": lambda: torch.cdist(rows, rows[:30]),
        "solve": lambda: torch.linalg.solve(positive, square),
        "cholesky": lambda: torch.linalg.cholesky(positive),
        "singular values": lambda: torch.linalg.svdvals(square),
        "fft": lambda: torch.view_as_real(torch.fft.fft2(square)),
        "matmul bfloat16": lambda: square.bfloat16() @ square.bfloat16(),
        "matmul float16": lambda: square.half() @ square.half(),
    }


def _numpy_calls(u: Any) -> dict[str, Callable[[], Any]]:
    import numpy as np

    square = u[:4096].reshape(64, 64)
    names = {f"numpy.{name}": getattr(np, name) for name in NUMPY_UNARY.split()}
    return {
        **{name: partial(call, u) for name, call in names.items()},
        "numpy.power": lambda: u**7.0,
        "numpy.arctan2": lambda: np.arctan2(u - 0.5, u),
        "numpy.interp": lambda: np.interp(u * 10, np.arange(12), np.log(np.linspace(0.1, 5, 12))),
        "numpy.linspace": lambda: np.linspace(14.6, 0.03, 1000, dtype=u.dtype),
        "numpy.geomspace": lambda: np.geomspace(0.03, 14.6, 77, dtype=u.dtype),
        "numpy.cumprod": lambda: np.cumprod(1 - u[:1000] * 0.02),
        "numpy.sum": lambda: np.stack([u.sum(), u.mean(), u.std(), np.quantile(u, 0.9)]),
        "numpy.matmul": lambda: square @ square,
        "numpy.solve": lambda: np.linalg.solve(square, square.T),
        "numpy.svd": lambda: np.linalg.svd(square, compute_uv=False),
    }


def _digest(value: Any) -> str:
    import torch

    held = torch.as_tensor(value).contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(held.numpy().tobytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, default=DIGITS)
    parser.add_argument("-s", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--batches", type=int, default=1, help="how many of the job's first batches to make")
    arguments = parser.parse_args()

    from reprobatch.resolve import load
    from reprobatch.worker import Worker

    resolved = load(arguments.job, arguments.overrides)
    job, plan = resolved.job, resolved.plan
    worker = Worker(job, resolved.model_hint)
    batches = [batch for shard in range(plan.shards) for batch in plan.batches(shard)][: arguments.batches]
    checksums, seconds = [], []
    for batch in batches:
        items = resolved.reader.read(batch.start, batch.stop)
        start = time.monotonic()
        outputs = worker.batch(items, [worker.seed(batch.start + slot, item) for slot, item in enumerate(items)])
        seconds.append(time.monotonic() - start)
        checksums += [output.checksum for output in outputs]
    facts = {
        "environment": worker.environment(),
        "dispatch": dispatch(),
        "checksums": checksums,
        "operations": operations(),
        "seconds": [round(s, 3) for s in seconds],
    }
    json.dump(facts, sys.stdout)


if __name__ == "__main__":
    main()
