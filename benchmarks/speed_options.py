"""What makes a pipeline quicker, on this machine: speed, contract, and how far its items move from the strict job's.

    python benchmarks/speed_options.py                      # some ten minutes on 2 cores
    python benchmarks/speed_options.py --only compile tf32  # options with one of these words

Each option is a job of its own, in a process of its own: probed (with a new process's canary), then ten batches
beside ten of the plain job, in turn. An option is safe where its contract holds what a run rests on: its own
items come back bit for bit. They need not be the plain job's: that is the L_inf.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from reprobatch import contract, determinism, environment
from reprobatch.contract import INFORMATION, QUESTIONS
from reprobatch.job import Job
from reprobatch.resolve import resolve
from reprobatch.settings import Determinism

determinism.prepare(Determinism(), threads=1)  # before torch is imported

sys.path.insert(0, str(Path(__file__).parent / "side_by_side"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

BATCHES = 10
PATIENCE = 300  # seconds for an option: a compilation takes half a minute
MEASURED = [name for name in QUESTIONS if name not in INFORMATION]
UNET, DIGITS, TRANSFORMER = "UNet of 35.7 M", "digits", "FLUX, tiny"
OPTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("`dtype: float16`", UNET, {"dtype": "float16"}),
    ("`speed: {channels_last: true}`", UNET, {"speed": {"channels_last": True}}),
    ("`speed: {compile: [unet]}`", UNET, {"speed": {"compile": ["unet"]}}),
    ("`dtype: bfloat16`", DIGITS, {"dtype": "bfloat16"}),
    ("`speed: {channels_last: true}`", DIGITS, {"speed": {"channels_last": True}}),
    ("`speed: {compile: [unet]}`", DIGITS, {"speed": {"compile": ["unet"]}}),
    ("`speed: {encode_once: true}`", DIGITS, {"speed": {"encode_once": True}}),
    ("`speed: {unfilled_memory: true}`", DIGITS, {"speed": {"unfilled_memory": True}}),
    ("`speed: {unfilled_memory: true}`", UNET, {"speed": {"unfilled_memory": True}}),
    ("`speed: {attention: _native_math}`", TRANSFORMER, {"speed": {"attention": "_native_math"}}),
    ("`speed: {tf32: true}`", UNET, {"speed": {"tf32": True}}),
]


def job_of(model: str, options: dict[str, Any], folder: Path) -> Job:
    """A small job of one of the models, 2 steps a call."""
    from run import PROMPTS

    call: dict[str, Any] = {"num_inference_steps": 2}
    items: dict[str, Any] = {"prompts": str(PROMPTS)}
    spec: dict[str, Any] = {"model": "builtin:digits"}
    output = "latent"
    if model == UNET:
        spec, items, output = {"model": str(folder / "unet")}, {"count": 10}, "pixels"
    elif model == DIGITS:
        call["guidance_scale"] = 4.0
    else:
        spec = {"model": str(folder / "flux")}
        call |= {"height": 16, "width": 16, "max_sequence_length": 16}
    return Job.parse(
        {
            "name": "quick",
            "master_seed": 20261123,
            "pipeline": {**spec, **options},
            "call": call,
            "items": items,
            "output": output,
            "batch_size": 4,
            "shard_size": 4,
        }
    )


def measure(model: str, options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Contract, ratio of speeds and L_inf of one option, in this process."""
    from reprobatch.worker import Worker

    resolved = [resolve(job_of(model, chosen, folder), folder / "job.yaml") for chosen in ({}, options)]
    plain, quick = (Worker(each.job, each.model_hint) for each in resolved)
    found = quick.probe(contract.samples(resolved[1].job, resolved[1].plan, resolved[1].reader.read))
    items, seeds = resolved[0].reader.read(0, 4), [1, 2, 3, 4]
    taken: dict[str, list[float]] = {"plain": [], "quick": []}
    for _ in range(BATCHES):
        for name, worker in (("plain", plain), ("quick", quick)):
            determinism.fix(worker.job.determinism, 1, worker.job.device, worker.job.pipeline.speed)
            began = time.perf_counter()
            made = worker.batch(items, seeds)
            taken[name].append(time.perf_counter() - began)
            if name == "plain":
                expected = made
    pairs = zip(expected, made, strict=True)
    linf = max(float(np.abs(a.numpy().astype(np.float64) - b.numpy().astype(np.float64)).max()) for a, b in pairs)
    broken = [name for name in MEASURED if found[name].holds is False]
    ratio = statistics.median(p / q for p, q in zip(taken["plain"], taken["quick"], strict=True))
    return {"ratio": ratio, "broken": broken, "linf": linf, "alone": found["alone"].holds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="*", default=[""], help="words, of which an option has one")
    given = parser.parse_args()
    if given.one:
        number, folder = json.loads(given.one)
        _, model, options = OPTIONS[number]
        print(json.dumps(measure(model, options, Path(folder))))
        return
    from run import random_unet

    import tiny

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random_unet(folder / "unet")
        tiny.flux(folder / "flux")
        print("| option | of | speed | safe | L_inf from the plain job |\n|---|---|---:|---|---:|")
        for number, (title, model, _) in enumerate(OPTIONS):
            if not any(word in title for word in given.only):
                continue
            print(f"| {title} | {model} | {_row(number, folder)} |", flush=True)
    import torch

    print(f"\ntorch {torch.__version__}, 1 thread, {environment.cpu()[0]}")


def _row(number: int, folder: Path) -> str:
    command = [sys.executable, __file__, "--one", json.dumps([number, str(folder)])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"- | not measured: slower than {PATIENCE} s for all of it | -"
    if done.returncode:
        why = (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1]
        return f"- | not measured: {why[:160]} | -"
    found = json.loads(done.stdout.strip().splitlines()[-1])
    safe = "yes" if not found["broken"] else f"no: not {', '.join(found['broken'])}"
    return f"{found['ratio']:.2f} | {safe} | {found['linf']:.2g}"


if __name__ == "__main__":
    main()
