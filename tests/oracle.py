"""Rows made again with plain diffusers and pyarrow: nothing of reprobatch is imported here.

    python tests/oracle.py DATASET MODEL_FOLDER

Reads each batch from the Parquet files, rebuilds it as a reader of the dataset card would (a list of
``torch.Generator().manual_seed(row's seed)``, the row's prompts, the last item repeated to fill the
batch), calls the pipeline and compares bytes. Prints the number of equal items; exits 1 if any differs.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from itertools import groupby
from pathlib import Path

import diffusers
import numpy as np
import pyarrow.parquet as pq
import torch


def main(dataset: Path, model: str) -> int:
    job = json.loads((dataset / "job.json").read_text())
    torch.set_num_threads(job["workers"]["threads"])
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    if (Path(model) / "text_proj").is_dir():  # UnCLIP's own module: diffusers 0.42 has moved it and finds it no more
        diffusers.pipelines.unclip = import_module("diffusers.pipelines.deprecated.unclip")
    pipe = diffusers.DiffusionPipeline.from_pretrained(model)
    if job["pipeline"]["scheduler"]:
        scheduler = getattr(diffusers, job["pipeline"]["scheduler"]["name"])
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    equal = differ = 0
    for path in sorted((dataset / "data").iterdir()):
        rows = pq.read_table(path).to_pylist()
        for _, group in groupby(rows, key=lambda row: row["batch"]):
            batch = list(group)
            for row, output in zip(batch, generate(pipe, job, batch), strict=False):
                same = output.tobytes() == row["latents" if job["output"] == "latent" else "pixels"]
                equal, differ = equal + same, differ + (not same)
    print(equal)
    return 1 if differ else 0


def generate(pipe: diffusers.DiffusionPipeline, job: dict, batch: list[dict]) -> np.ndarray:
    full = batch + [batch[-1]] * (job["batch_size"] - len(batch))
    arguments = dict(job["call"], generator=[torch.Generator().manual_seed(row["seed"]) for row in full])
    for name in job["items"]["columns"]:
        values = [row[name] for row in full]
        arguments[name] = values if name in ("prompt", "negative_prompt") else values[0]
    if "prompt" not in arguments:
        arguments["batch_size"] = len(full)
    result = pipe(output_type="latent" if job["output"] == "latent" else "np", **arguments).images
    return result.numpy() if torch.is_tensor(result) else result


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
