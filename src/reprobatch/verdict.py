"""Stored against computed: identical, within tolerance or different, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reprobatch.record import Output

Verdict = Literal["identical", "within", "different"]


@dataclass(frozen=True)
class Comparison:
    """Two outputs of one item.

    ``linf`` is the largest absolute difference (the figure the diffusers guide prints), ``None``
    where there is none: other shapes, or values (or differences) that are not finite.
    """

    stored: str
    computed: str
    verdict: Verdict
    linf: float | None


def compare(stored: Output, computed: Output, atol: float = 0.0, rtol: float = 0.0) -> Comparison:
    """Compare bit for bit, and where that fails, by value.

    *Within* means ``|computed - stored| <= atol + rtol * |stored|`` everywhere; with both at zero
    nothing but identity passes, so that -0.0 for 0.0 is a difference of 0.0.
    """
    one, other = stored.checksum, computed.checksum
    if one == other:
        return Comparison(one, other, "identical", 0.0)
    if stored.shape != computed.shape or stored.dtype != computed.dtype:
        return Comparison(one, other, "different", None)
    a, b = stored.numpy().astype(np.float64), computed.numpy().astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Comparison(one, other, "different", None)
    with np.errstate(over="ignore"):
        distance = np.abs(a - b)
        within = passes(a, distance, atol, rtol)
    linf = float(distance.max(initial=0.0))
    return Comparison(one, other, "within" if within else "different", linf if np.isfinite(linf) else None)


def passes(stored: np.ndarray, distance: np.ndarray, atol: float, rtol: float) -> bool:
    """Whether ``distance <= atol + rtol * |stored|`` everywhere; never with both at zero."""
    return bool(atol or rtol) and bool((distance <= atol + rtol * np.abs(stored)).all())
