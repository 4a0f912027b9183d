"""Makes a job's first batches here and under emulated CPUs, and compares every bit.

    python benchmarks/portable.py --qemu qemu-x86_64 --cpu Haswell --cpu Skylake-Server --cpu EPYC
    python benchmarks/portable.py --qemu qemu-x86_64 --cpu Haswell --without MKL_CBWR    # what that one is for
    python benchmarks/portable.py --cost                                                 # against strict

The emulator has to be QEMU's ``qemu-x86_64`` (user mode). Exits 1 if an item or an operation differs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from reprobatch import determinism
from reprobatch.environment import STEERING
from reprobatch.resolve import load

BITS = Path(__file__).with_name("portable_bits.py")


def made(arguments: argparse.Namespace, profile: str, emulator: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a fresh process computes, under an emulator if one is given."""
    job = load(arguments.job, [f"determinism={profile}", *arguments.overrides]).job
    inherited = {name: value for name, value in os.environ.items() if name not in STEERING}
    wanted = determinism.variables(job.determinism, job.workers.threads)
    for name in arguments.without:
        del wanted[name]
    # a strict job sets none of the profile's variables, so one that was left out stays out
    overrides = [f"determinism={'strict' if arguments.without else profile}", *arguments.overrides]
    done = subprocess.run(
        [*emulator, sys.executable, BITS, "--job", arguments.job, "--batches", str(arguments.batches)]
        + [word for override in overrides for word in ("-s", override)],
        env={**inherited, **wanted},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(emulator) or 'here'}: exit {done.returncode}\n{done.stderr[-2000:]}")
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def row(cpu: str, facts: dict[str, Any], native: dict[str, Any], seconds: float) -> tuple[str, bool]:
    """A line of the table, and whether all is equal to what was made without an emulator."""
    items = sum(a == b for a, b in zip(facts["checksums"], native["checksums"], strict=True))
    differing = [name for name, digest in native["operations"].items() if facts["operations"][name] != digest]
    count, operations = len(native["checksums"]), len(native["operations"])
    kernels = f"{facts['dispatch']['torch']}, {' '.join(facts['dispatch']['numpy'])}"
    offered = "yes" if facts["dispatch"]["AVX-512 offered"] else "no"
    cells = [cpu, offered, kernels, f"{items} of {count}", f"{operations - len(differing)} of {operations}"]
    line = f"| {' | '.join(cells)} | {seconds:.0f} s |"
    if differing:
        line += f"\n\nother bits on {cpu}: {', '.join(differing)}\n"
    return line, items == count and not differing


def compare(arguments: argparse.Namespace) -> int:
    """The table: this CPU, then each emulated one."""
    qemu = shutil.which(arguments.qemu) if arguments.cpu else None
    if arguments.cpu and qemu is None:
        raise SystemExit(f"expected the emulator '{arguments.qemu}', found none; name one with --qemu")
    print("| CPU | AVX-512 offered | kernels of torch, numpy | equal items | equal operations | took |")
    print("|---|---|---|---|---|---|")
    equal, native = [], None
    for cpu in [None, *arguments.cpu]:
        start = time.monotonic()
        facts = made(arguments, arguments.profile, (str(qemu), "-cpu", cpu) if cpu else ())
        native = native or facts
        name = cpu or f"{facts['environment']['cpu']}, no emulator"
        line, same = row(name, facts, native, time.monotonic() - start)
        print(line, flush=True)
        equal.append(same)
    assert native is not None
    libraries = native["environment"]["libraries"]
    versions = ", ".join(f"{name} {libraries[name]}" for name in ("torch", "diffusers", "numpy"))
    print(f"\n{versions}, {native['environment']['libc']}, {platform.python_version()}")
    if qemu:
        print(subprocess.run([qemu, "--version"], capture_output=True, text=True).stdout.splitlines()[0])
    print(f"first item: {native['checksums'][0]}")
    return 0 if all(equal) else 1


def cost(arguments: argparse.Namespace) -> int:
    """Seconds of a batch under strict and under portable, processes of both taking turns."""
    seconds: dict[str, list[float]] = {"strict": [], "portable": []}
    for _ in range(arguments.repeats):
        for profile, found in seconds.items():
            # the first batch also warms up
            found.append(statistics.median(made(arguments, profile)["seconds"][1:]))
    print("| profile | seconds a batch, median | least | most |")
    print("|---|---|---|---|")
    for profile, found in seconds.items():
        print(f"| {profile} | {statistics.median(found):.3f} | {min(found):.3f} | {max(found):.3f} |")
    pairs = [portable / strict for strict, portable in zip(*seconds.values(), strict=True)]
    print(f"\nportable / strict: {statistics.median(pairs):.2f} (median of {len(pairs)} pairs, ", end="")
    print(f"{min(pairs):.2f} to {max(pairs):.2f})")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, default=Path("jobs/digits.yaml"))
    parser.add_argument("-s", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--batches", type=int, default=2, help="how many of the job's first batches to make")
    parser.add_argument("--qemu", default="qemu-x86_64", help="the emulator")
    parser.add_argument("--cpu", action="append", default=[], help="a CPU model of the emulator's; any number of times")
    parser.add_argument("--profile", choices=("portable", "strict"), default="portable")
    parser.add_argument("--without", action="append", default=[], metavar="VARIABLE", help="leave a variable unset")
    parser.add_argument("--cost", action="store_true", help="time portable against strict instead")
    parser.add_argument("--repeats", type=int, default=5, help="processes of each profile with --cost")
    arguments = parser.parse_args()
    return cost(arguments) if arguments.cost else compare(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
