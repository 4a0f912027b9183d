"""What a command and all its descendants cost: seconds, CPU seconds, peak memory."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

# seconds between two looks at CPU time: with 0.1 the looks themselves took 7 % of a CPU from a contender of 20
# processes and 5 % from one of three, and held up the pages of what they looked at
EVERY = 0.5
MEMORY = 4  # looks at CPU time to one at memory, which takes longer
LINGER = 20.0  # seconds that daemons may outlive their command
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


@dataclass(frozen=True)
class Cost:
    """What a command took.

    ``seconds`` until it ended, ``cpu`` seconds of it and its descendants, ``peak`` bytes of them all (PSS), and
    ``others``: CPU seconds that the machine spent on anything else meanwhile.
    """

    seconds: float
    cpu: float
    peak: int
    others: float


def cost(command: Sequence[str], environment: Mapping[str, str], output: Path) -> Cost:
    """Run a command; its output goes to a file. Raises :class:`RuntimeError` where it fails.

    CPU time is what each descendant was last seen with, so that up to half a second of each is missing (and among
    ``others``): Ray's raylet does not wait for its workers, so that the system does not add their time to
    anybody's. This process adopts what the command leaves behind.
    """
    if ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0):
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed; Linux 3.4 or newer is needed")
    busy, own, began = _busy(), _own(), time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=file, stderr=file)
        watch = _Watch()
        code = process.wait()
        seconds = time.monotonic() - began
        _reap()
        cpu, peak = watch.stop()
    if code:
        raise RuntimeError(f"{' '.join(command)}: exit {code}\n{output.read_text(errors='replace')[-2000:]}")
    return Cost(seconds, cpu, peak, _busy() - busy - cpu - (_own() - own))


class _Watch:
    """Looks at this process's descendants in a thread; shared memory is counted once."""

    def __init__(self) -> None:
        self._peak, self._cpu, self._ended = 0, dict[psutil.Process, float](), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> tuple[float, int]:
        self._ended.set()
        self._thread.join()
        return sum(self._cpu.values()), self._peak

    def _watch(self) -> None:
        looks = 0
        while not self._ended.wait(EVERY):
            processes = psutil.Process().children(recursive=True)
            for process in processes:
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    self._cpu[process] = times.user + times.system
            if looks % MEMORY == 0:
                self._peak = max(self._peak, sum(map(_pss, processes)))
            looks += 1


def _pss(process: psutil.Process) -> int:
    with suppress(OSError, psutil.Error):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def _busy() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _own() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _reap() -> None:
    """Wait for what the command left running; end it where it stays."""
    until = time.monotonic() + LINGER
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            if time.monotonic() > until:
                for left in psutil.Process().children(recursive=True):
                    with suppress(psutil.Error):
                        left.send_signal(signal.SIGKILL)
            time.sleep(0.05)
