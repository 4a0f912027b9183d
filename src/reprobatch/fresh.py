"""A job's canary in a new process: ``python -m reprobatch.fresh`` reads a request and writes outputs, as JSON."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from reprobatch import determinism, inputs
from reprobatch.attachments import Hint
from reprobatch.contract import Place
from reprobatch.errors import RunFailed
from reprobatch.job import ResolvedJob
from reprobatch.record import Output


def canary_outputs(job: ResolvedJob, model: Hint, first: list[Place]) -> list[Output]:
    """The outputs of a job's canary, made by a process of their own.

    ``model`` says where a folder model lies. Raises :class:`RunFailed` where that process fails.
    """
    request = json.dumps(
        {"job": job.canonical, "model": model, "first": [(index, inputs.to_json(item)) for index, item in first]}
    )
    environment = {**os.environ, **determinism.variables(job.determinism, job.workers.threads)}
    done = subprocess.run(
        [sys.executable, "-m", "reprobatch.fresh"],
        input=request.encode(),
        capture_output=True,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise RunFailed(f"a new process could not run the canary: {lines[-1]}")
    return [_unpacked(entry) for entry in json.loads(done.stdout)]


def begin(job: ResolvedJob, model: Hint, first: list[Place]) -> Callable[[], list[Output]]:
    """Start :func:`canary_outputs` beside what follows; what this returns waits for the outputs."""
    thread = ThreadPoolExecutor(1, "fresh")
    begun = thread.submit(canary_outputs, job, model, first)
    thread.shutdown(wait=False)
    return begun.result


def _answer(request: dict[str, Any]) -> list[dict[str, Any]]:
    from reprobatch.worker import Worker

    worker = Worker(ResolvedJob.from_json(request["job"]), request["model"])
    outputs = worker.canary([(index, inputs.from_json(item)) for index, item in request["first"]])
    return [_packed(output) for output in outputs]


def _packed(output: Output) -> dict[str, Any]:
    data, also = base64.b64encode(output.data).decode(), {name: _packed(each) for name, each in output.also.items()}
    return {"dtype": output.dtype, "shape": output.shape, "data": data, "also": also}


def _unpacked(entry: dict[str, Any]) -> Output:
    also = {name: _unpacked(each) for name, each in entry["also"].items()}
    return Output(entry["dtype"], tuple(entry["shape"]), base64.b64decode(entry["data"]), also)


if __name__ == "__main__":
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no part of the answer
    json.dump(_answer(json.load(sys.stdin)), out)
