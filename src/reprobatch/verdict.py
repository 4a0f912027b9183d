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
    """Compare bit for bit, and where that fails, by value; further outputs too, the farthest counts.

    *Within* means ``|computed - stored| <= atol + rtol * |stored|`` everywhere; with both at zero
    nothing but identity passes, so that -0.0 for 0.0 is a difference of 0.0.
    """
    one, other = stored.checksum, computed.checksum
    if one == other:
        return Comparison(one, other, "identical", 0.0)
    if stored.also.keys() != computed.also.keys():
        return Comparison(one, other, "different", None)
    pairs = [(stored, computed), *((stored.also[name], computed.also[name]) for name in stored.also)]
    found = [_apart(a, b, atol, rtol) for a, b in pairs]
    distances = [linf for _, linf in found]
    linf = None if None in distances else max(d for d in distances if d is not None)
    return Comparison(one, other, "within" if all(within for within, _ in found) else "different", linf)


def _apart(stored: Output, computed: Output, atol: float, rtol: float) -> tuple[bool, float | None]:
    """Whether one output is within tolerance of another, and their L_inf, where there is one."""
    if stored.shape != computed.shape or stored.dtype != computed.dtype:
        return False, None
    if stored.data == computed.data:
        return True, 0.0
    a, b = stored.numpy().astype(np.float64), computed.numpy().astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False, None
    with np.errstate(over="ignore"):
        distance = np.abs(a - b)
        within = passes(a, distance, atol, rtol)
    linf = float(distance.max(initial=0.0))
    return within, linf if np.isfinite(linf) else None


def passes(stored: np.ndarray, distance: np.ndarray, atol: float, rtol: float) -> bool:
    """Whether ``distance <= atol + rtol * |stored|`` everywhere; never with both at zero."""
    return bool(atol or rtol) and bool((distance <= atol + rtol * np.abs(stored)).all())
