"""What every contender does with a batch: the pipeline as diffusers' documents say, rows for Parquet."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    {"index": pa.int64(), "seed": pa.int64(), "prompt": pa.string(), "shape": pa.list_(pa.int32()), "data": pa.binary()}
)
ROW_GROUP = 256  # rows


@dataclass(frozen=True)
class Task:
    """What to make: ``prompts`` is empty for a pipeline that takes none."""

    model: str
    items: int
    prompts: list[str]
    batch: int
    steps: int
    guidance: float | None
    out: Path
    processes: int
    threads: int

    def prompt(self, index: int) -> str | None:
        return self.prompts[index % len(self.prompts)] if self.prompts else None

    def batches(self, indices: Sequence[int]) -> Iterator[Sequence[int]]:
        for start in range(0, len(indices), self.batch):
            yield indices[start : start + self.batch]


def arguments() -> Task:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--prompts")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="torch's in a plain loop; 0: as many as there are cores")
    given = parser.parse_args()
    prompts = Path(given.prompts).read_text().splitlines() if given.prompts else []
    return Task(**{**vars(given), "prompts": prompts})


def load(model: str) -> Any:
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(pipe: Any, task: Task, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of one batch."""
    import numpy as np
    import torch

    prompts = [task.prompt(index) for index in indices]
    call: dict[str, Any] = {
        "num_inference_steps": task.steps,
        "generator": [torch.Generator("cpu").manual_seed(index) for index in indices],
    }
    if task.prompts:
        call |= {"prompt": prompts, "output_type": "latent"}
    else:
        call |= {"batch_size": len(indices), "output_type": "np"}
    if task.guidance is not None:
        call["guidance_scale"] = task.guidance
    made = np.asarray(pipe(**call).images)
    return [
        {"index": index, "seed": index, "prompt": prompt, "shape": list(one.shape), "data": one.tobytes()}
        for index, prompt, one in zip(indices, prompts, made, strict=True)
    ]


def loop(task: Task, indices: Sequence[int], name: str) -> None:
    """One process's work: load, generate, write a Parquet file."""
    pipe = load(task.model)
    task.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(task.out / f"{name}.parquet", SCHEMA, compression="zstd") as writer:
        for batch in task.batches(indices):
            rows += make(pipe, task, batch)
            if len(rows) >= ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
