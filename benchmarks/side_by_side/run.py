"""reprobatch beside what one would use instead: same model, steps, batch and items, output to Parquet.

    python benchmarks/side_by_side/run.py digits                 # 2 steps: 256, 2 048 and 16 384 items
    python benchmarks/side_by_side/run.py digits-20              # 20 steps, as the shipped job
    python benchmarks/side_by_side/run.py unet                   # 35.7 million random weights
    python benchmarks/side_by_side/run.py digits --quick         # once, small: for a look, not for a table
    python benchmarks/side_by_side/table.py results.jsonl        # what was measured, as docs/performance.md has it

Every repetition runs all contenders one after the other, so that what the machine does meanwhile falls
on all of them alike. Each run is one line of ``--results``; a run that is in there already is not made again.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.dataset as ds
from measure import cost

from reprobatch import journal
from reprobatch.dataset import Dataset

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DIGITS = ROOT / "src" / "reprobatch" / "builtin" / "digits"
PROMPTS = ROOT / "jobs" / "prompts" / "digits.txt"
OTHERS = 0.06  # CPUs that may be busy with something else while a contender runs
MISSED = 2.0  # CPU seconds of the contender itself that the last looks at its processes may miss
TRIES = 4
# the job as it is; with options that leave its items' bits alone; and compiled: other bits, its own come back
OURS = ("reprobatch", "reprobatch_quick", "reprobatch_compiled")
CONTENDERS = (*OURS, "plain", "processes", "ray_data", "accelerated")


@dataclass(frozen=True)
class Case:
    """What is made: a pipeline, its steps, items to a call and to a shard, and how many of them in all."""

    name: str
    steps: int
    batch: int
    shard: int
    sizes: tuple[int, ...]
    guidance: float | None = None


CASES = {
    case.name: case
    for case in (
        Case("digits", 2, 8, 64, (256, 2048, 16384), 4.0),
        Case("digits-20", 20, 8, 64, (256, 768), 4.0),
        Case("unet", 2, 4, 4, (16, 64)),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("--sizes", type=int, nargs="*", help="items, instead of the case's own")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--processes", type=int, default=2, help="workers or processes of each contender but plain")
    parser.add_argument("--results", type=Path, default=Path("results.jsonl"))
    parser.add_argument("--lock", type=Path, help="a file to lock while something is measured")
    parser.add_argument("--noisy", action="store_true", help="take a run also where something else kept the CPUs busy")
    parser.add_argument("--quick", action="store_true", help="one repetition of the smallest size")
    given = parser.parse_args()
    case = CASES[given.case]
    sizes, repetitions = given.sizes or case.sizes, given.repetitions
    if given.quick:
        sizes, repetitions = sizes[:1], 1
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as scratch:
        model = DIGITS if case.guidance is not None else random_unet(Path(scratch) / "unet")
        for repetition in range(repetitions):
            for size in sizes:
                turn = repetition % len(given.only)  # each begins as often as it ends
                for contender in (*given.only[turn:], *given.only[:turn]):
                    _measure(given, case, contender, size, repetition, model, Path(scratch))


def _measure(
    given: argparse.Namespace, case: Case, contender: str, size: int, repetition: int, model: Path, scratch: Path
) -> None:
    what = {"case": case.name, "contender": contender, "items": size, "repetition": repetition}
    done = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    if any(what.items() <= entry.items() for entry in done):
        return
    out = scratch / "out"
    command = _command(case, contender, size, model, out, scratch, given.processes)
    for _ in range(TRIES):
        shutil.rmtree(out, ignore_errors=True)
        with _locked(given.lock):
            spent = cost(command, {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}, scratch / "output.txt")
        if given.noisy or spent.others < MISSED + OTHERS * spent.seconds:
            break
        print(f"{contender}: {spent.others:.1f} s of CPU went elsewhere in {spent.seconds:.1f} s; once more")
    made = ds.dataset(out / "data" if contender in OURS else out, format="parquet").to_table(["index"])
    if sorted(made["index"].to_pylist()) != list(range(size)):
        raise RuntimeError(f"{contender}: expected items 0 … {size - 1}, found {made.num_rows} rows")
    entry = {**what, **asdict(spent), "share": _share(out) if contender in OURS else None}
    with given.results.open("a") as file:
        print(json.dumps(entry), file=file)
    print(
        f"{contender:19} {size:6} items  {spent.seconds:7.1f} s  {spent.cpu:7.1f} s CPU  {spent.peak / 1e6:6.0f} MB",
        flush=True,
    )


def _share(out: Path) -> float:
    """Of the time between a worker's first shard and its last: how much was spent inside pipeline calls."""
    (events,) = journal.read(Dataset(out).store)
    spent: dict[int, float] = {}
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    for event in events:
        if event["event"] == "start":
            begun.setdefault(event["worker"], event["time"])
        elif event["event"] == "done":
            ended[event["worker"]] = event["time"]
            spent[event["worker"]] = spent.get(event["worker"], 0.0) + event["receipt"]["pipeline_seconds"]
    return sum(spent.values()) / sum(ended[worker] - begun[worker] for worker in ended)


def _command(case: Case, contender: str, size: int, model: Path, out: Path, scratch: Path, processes: int) -> list[str]:
    prompts = scratch / "prompts.txt"
    lines = PROMPTS.read_text().splitlines()
    prompts.write_text("".join(f"{lines[index % len(lines)]}\n" for index in range(size)))
    if contender in OURS:
        job = scratch / "job.yaml"
        job.write_text(json.dumps(job_of(case, size, model, prompts, contender)))  # JSON is YAML
        return [sys.executable, "-m", "reprobatch.cli", "run", str(job), "--out", str(out), "--workers", str(processes)]
    begin = [sys.executable]
    if contender == "accelerated":
        # what `accelerate launch` calls for several GPUs; for several CPU processes it wants MPI, else it starts one
        begin = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*begin, str(HERE / f"{contender}.py"), "--model", str(model), "--items", str(size), "--out", str(out)]
    command += ["--batch", str(case.batch), "--steps", str(case.steps), "--processes", str(processes)]
    if case.guidance is not None:
        command += ["--prompts", str(prompts), "--guidance", str(case.guidance)]
    return command


def job_of(case: Case, size: int, model: Path, prompts: Path, contender: str = OURS[0]) -> dict[str, object]:
    """The same for reprobatch: a pipeline with prompts gives latents, one without pictures.

    The quick one takes those options of ``pipeline.speed`` that gain something on CPUs.
    """
    guided = {} if case.guidance is None else {"guidance_scale": case.guidance}
    options: dict[str, object] = {"unfilled_memory": True, **({"encode_once": True} if guided else {})}
    if contender == "reprobatch_compiled":
        options["compile"] = ["unet"]
    speed = {} if contender == OURS[0] else {"speed": options}
    return {
        "name": case.name,
        "master_seed": 20261123,
        "pipeline": {"model": str(model), **speed},
        "call": {"num_inference_steps": case.steps, **guided},
        "items": {"prompts": str(prompts)} if guided else {"count": size},
        "output": "latent" if guided else "pixels",
        "batch_size": case.batch,
        "shard_size": case.shard,
    }


@contextmanager
def _locked(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def random_unet(folder: Path) -> Path:
    """DDIM over the UNet of google/ddpm-cifar10-32, its 35.7 million weights random."""
    import torch
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        attention_head_dim=None,
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=0,
        norm_eps=1e-6,
    )
    DDIMPipeline(unet, DDIMScheduler()).save_pretrained(folder, safe_serialization=True)
    return folder


if __name__ == "__main__":
    main()
