"""What the settings cost: one UNet call under torch's defaults, under the guide's settings and under *strict*.

cuBLAS reads its workspace once, when CUDA starts, so each arm is a process of its own. All stay loaded
and take turns, in another order each round: what slows the machine down for a while slows all of them.
"""

from __future__ import annotations

import multiprocessing
import os
from contextlib import suppress
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np
from report import Findings
from sizes import Sizes

BASE = "default"
ARMS = (BASE, "guide", "strict :16:8", "strict :4096:8")
COLUMNS = (
    "dtype",
    "batch",
    "settings",
    "ms a call",
    "ms, least to most",
    "times default",
    "times default, least to most",
    "peak MiB",
    "repeats its bits",
    "L_inf to default",
)


def run(sizes: Sizes, found: Findings) -> None:
    """Time every arm at every number format and batch size."""
    found.table(f"One UNet call, median of {sizes.rounds} interleaved rounds of {sizes.calls} calls", COLUMNS)
    arms = {name: _Arm(name, sizes) for name in ARMS}
    for dtype in sizes.dtypes:
        for batch in sizes.speed_batches:
            _measure(arms, sizes, dtype, batch, found)
    for arm in arms.values():
        arm.close()
    found.note(
        "*default*: torch as it comes (TF32 in convolutions). *guide*: the diffusers guide's three settings. *strict*: "
        "reprobatch's. Wall clock between synchronisations. Where small batches take as long as large ones, launching "
        "kernels takes longer than running them, and the ratio says little of the kernels."
    )


class _Arm:
    """The parent's side of a process that times UNet calls under one set of settings."""

    def __init__(self, name: str, sizes: Sizes) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, name, sizes), daemon=True)
        process.start()
        theirs.close()  # so that its death is an end of file here

    def send(self, *request: Any) -> None:
        self._pipe.send(request)

    def answer(self) -> Any:
        """What the last request gave; raises ``RuntimeError`` with the reason where it failed."""
        try:
            ok, value = self._pipe.recv()
        except EOFError:
            raise RuntimeError("its process ended") from None
        if not ok:
            raise RuntimeError(value)
        return value

    def close(self) -> None:
        self._pipe.close()


def _measure(arms: dict[str, _Arm], sizes: Sizes, dtype: str, batch: int, found: Findings) -> None:
    made = _ask(arms, found, f"{dtype}, batch {batch}", "load", dtype, batch)
    times: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(sizes.rounds):
        order = sorted(made, key=lambda name: (ARMS.index(name) + turn) % len(ARMS))
        for name in order:  # one after the other: never two at once
            answer = _ask({name: arms[name]}, found, f"{dtype}, batch {batch}", "time", sizes.calls)
            if answer:
                times[name] += answer.values()
            else:
                made.pop(name)  # said once, not once a round
    last = _ask({name: arms[name] for name in made}, found, f"{dtype}, batch {batch}", "last")
    for name in last:
        _row(name, dtype, batch, times, made, last, found)


def _ask(arms: dict[str, _Arm], found: Findings, where: str, *request: Any) -> dict[str, Any]:
    """Every arm's answer; one that fails is a problem, and is left out."""
    for arm in arms.values():
        with suppress(OSError):  # its process has ended: so says its answer
            arm.send(*request)
    answers = {}
    for name, arm in arms.items():
        try:
            answers[name] = arm.answer()
        except (RuntimeError, OSError) as error:
            found.problem(f"{name}, {where}: {request[0]}: {error}")
    return answers


def _row(
    name: str, dtype: str, batch: int, times: dict[str, list[float]], made: Any, last: Any, found: Findings
) -> None:
    mine, base = times[name], times[BASE] if BASE in last else []
    ratios = [a / b for a, b in zip(mine, base, strict=True)] if base else []
    output, peak = last[name]
    if not np.isfinite(output).all():
        found.problem(f"{name}, {dtype}, batch {batch}: the output is not finite")
    found.row(
        dtype,
        batch,
        name,
        1e3 * median(mine),
        f"{1e3 * min(mine):.4g} to {1e3 * max(mine):.4g}",
        median(ratios) if ratios else None,
        f"{min(ratios):.4g} to {max(ratios):.4g}" if ratios else None,
        peak,
        bool(np.array_equal(output, made[name])),
        float(np.abs(output - last[BASE][0]).max()) if BASE in last else None,
    )


def _serve(pipe: Connection, name: str, sizes: Sizes) -> None:
    """The process of an arm: settings first, then answers until the parent closes."""
    _settle(name, sizes.device)
    state: dict[str, Any] = {}
    while True:
        try:
            kind, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, _ANSWERS[kind](state, sizes, *arguments)))
        except Exception as error:  # the parent names it: one arm's failure must not hide the others' times
            pipe.send((False, f"{type(error).__name__}: {error}"))


def _settle(name: str, device: str) -> None:
    from reprobatch import determinism
    from reprobatch.settings import Determinism

    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    profile, _, workspace = name.partition(" ")
    if profile == "strict":
        settings = Determinism.model_validate({"cublas_workspace": workspace})
        determinism.fix(settings, 1, device)
    elif profile == "guide":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
        determinism.apply({"cudnn.benchmark": False, "deterministic_algorithms": True})


def _load(state: dict[str, Any], sizes: Sizes, dtype: str, batch: int) -> np.ndarray:
    """The model in a number format and inputs of a size, warmed up; what the first call gave."""
    import made
    import torch

    if state.get("dtype") != dtype:
        state.clear()  # the old model's memory first
        state.update(dtype=dtype, unet=made.unet(sizes, dtype))
    state["inputs"] = made.inputs(sizes, dtype, batch)
    if sizes.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    first = _call(state)
    for _ in range(2):
        _call(state)
    return _plain(first)


def _time(state: dict[str, Any], sizes: Sizes, calls: int) -> float:
    import clock

    return clock.seconds(lambda: _call(state), sizes.device, calls)


def _last(state: dict[str, Any], sizes: Sizes) -> tuple[np.ndarray, int | None]:
    """What the last call gave, and the most memory that calls of this kind took, in MiB."""
    import torch

    peak = torch.cuda.max_memory_allocated() // 2**20 if sizes.device == "cuda" else None
    return _plain(state["output"]), peak


def _call(state: dict[str, Any]) -> Any:
    import torch

    with torch.no_grad():
        state["output"] = state["unet"](**state["inputs"], return_dict=False)[0]
    return state["output"]


def _plain(output: Any) -> np.ndarray:
    array: np.ndarray = output.detach().float().cpu().numpy()
    return array


_ANSWERS = {"load": _load, "time": _time, "last": _last}
