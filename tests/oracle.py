"""Rows made again with plain diffusers and pyarrow: nothing of reprobatch is imported here.

    python tests/oracle.py DATASET MODEL_FOLDER

Reads each batch from the Parquet files, rebuilds it as a reader of the dataset card would (a list of
``torch.Generator().manual_seed(row's seed)``, the row's prompts, the last item repeated to fill the
batch), calls the pipeline and compares bytes. Prints the number of equal items; exits 1 if any differs.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pyarrow.parquet as pq
import torch

COLUMNS = {"latent": "latents"}  # what else a job's output is called, its column is called too
LISTS = re.compile(r"(negative_)?prompt(_\d+)?|class_labels")


def main(dataset: Path, model: str) -> int:
    job = json.loads((dataset / "job.json").read_text())
    equal, differ = compare(dataset, load(job, model))
    print(equal)
    return 1 if differ else 0


def load(job: dict, model: str | Path, **components: Any) -> diffusers.DiffusionPipeline:
    torch.set_num_threads(job["workers"]["threads"])
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    if (Path(model) / "text_proj").is_dir():  # UnCLIP's own module: diffusers 0.42 has moved it and finds it no more
        diffusers.pipelines.unclip = import_module("diffusers.pipelines.deprecated.unclip")
    pipe = getattr(diffusers, job["pipeline"]["class_name"]).from_pretrained(model, **components)
    if job["pipeline"]["scheduler"]:
        scheduler = getattr(diffusers, job["pipeline"]["scheduler"]["name"])
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def compare(
    dataset: Path, pipe: diffusers.DiffusionPipeline, given: Callable[[list[dict]], dict] = lambda batch: {}
) -> tuple[int, int]:
    """How many stored outputs are equal and how many differ; ``given`` has further arguments for a batch of rows."""
    job = json.loads((dataset / "job.json").read_text())
    equal = differ = 0
    for path in sorted((dataset / "data").iterdir()):
        rows = pq.read_table(path).to_pylist()
        for _, group in groupby(rows, key=lambda row: row["batch"]):
            batch = list(group)
            full = batch + [batch[-1]] * (job["batch_size"] - len(batch))
            for row, output in zip(batch, generate(pipe, job, full, given(full)), strict=False):
                same = output.tobytes() == row[COLUMNS.get(job["output"], job["output"])]
                equal, differ = equal + same, differ + (not same)
    return equal, differ


def generate(pipe: diffusers.DiffusionPipeline, job: dict, full: list[dict], given: dict) -> np.ndarray:
    arguments = {name: [value] * len(full) if LISTS.fullmatch(name) else value for name, value in job["call"].items()}
    arguments["generator"] = [torch.Generator().manual_seed(row["seed"]) for row in full]
    for name in job["items"]["columns"]:
        values = [row[name] for row in full]
        arguments[name] = values if LISTS.fullmatch(name) else values[0]
    arguments |= given
    known = inspect.signature(type(pipe).__call__).parameters
    if "batch_size" in known:
        arguments["batch_size"] = len(full)
    result = pipe(output_type="latent" if job["output"] == "latent" else "np", **arguments)
    result = result[0] if job["output"] in ("latent", "pixels") else result[job["output"]]
    return result.numpy() if torch.is_tensor(result) else result


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
