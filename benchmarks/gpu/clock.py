"""Wall-clock times of work on a device: a GPU's queue is empty before the clock starts and before it stops."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def synchronize(device: str) -> None:
    """Wait for all that was queued on the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(call: Callable[[], object], device: str, calls: int = 1) -> float:
    """Seconds a call, of ``calls`` in a row between two synchronisations."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / calls
