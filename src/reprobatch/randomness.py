"""The global random generators: torch's on CPU and GPUs, numpy's and Python's. Who draws from them?

An item's noise has to come from its own generator. Whatever a pipeline draws elsewhere is *stray*: it
depends on everything that ran before in the process.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

_MACHINERY = ("torch/", "numpy/", "random.py", "contextlib.py", "reprobatch/", "diffusers/utils/torch_utils.py")


def snapshot() -> dict[str, bytes]:
    """The state of every global generator, by name."""
    kind, keys, position, *_ = np.random.get_state()
    states = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": f"{kind}{position}".encode() + np.asarray(keys).tobytes(),
        "python": repr(random.getstate()).encode(),
    }
    if _on_gpu():
        states |= {f"cuda:{n}": s.numpy().tobytes() for n, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def changed(before: dict[str, bytes]) -> list[str]:
    """Names of the generators that moved since ``before``."""
    return [name for name, state in snapshot().items() if before.get(name, state) != state]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Every global generator seeded for the length of a block, and afterwards as it was."""
    gpus = list(range(torch.cuda.device_count())) if _on_gpu() else []
    legacy, python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(legacy)
            random.setstate(python)


def who_draws(call: Callable[[], Any]) -> str | None:
    """Run ``call`` and name the first place in it that draws from a global generator.

    Like ``randint (global torch generator), called in diffusers/schedulers/x.py line 65 (__init__)``;
    ``None`` where nothing does. Python does not show us numpy's functions: there it is ``something``, called
    ``by line`` 65 or shortly before. Slow: looks at every generator before and after every function.
    """
    found: list[str] = []
    before = snapshot()

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if found:
            return
        moved = changed(before)
        if moved:
            at = frame.f_back if event == "call" else frame  # moved before this call: the caller did it
            found.append(_place(at or frame, argument if event == "c_return" else None, moved[0]))
            sys.setprofile(None)

    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found[0] if found else None


def _on_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _place(frame: FrameType, function: Any, generator: str) -> str:
    """The innermost frame that is no random library's own, with its path from the package on."""
    at: FrameType | None = frame
    while at is not None and _file(at).startswith(_MACHINERY) and at.f_back is not None:
        at = at.f_back
    assert at is not None
    name, where = ("something", "by line") if function is None else (function.__name__, "line")
    return f"{name} (global {generator} generator), called in {_file(at)} {where} {at.f_lineno} ({at.f_code.co_name})"


def _file(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    # the innermost: an environment may lie inside a folder that is on the path itself
    folders = [folder for folder in sys.path if folder and path.is_relative_to(folder)]
    return path.relative_to(max(folders, key=len)).as_posix() if folders else path.name
