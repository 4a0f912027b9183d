"""Measures the contract of every pipeline family and option with tiny jobs; writes the tables in ``docs/pipelines.md``.

    python benchmarks/pipelines.py                # under a minute on a quiet core
    python benchmarks/pipelines.py --fresh        # a new process for each family too: about five minutes
    python benchmarks/pipelines.py --only Wan     # print the families whose names have Wan, write nothing

Each family's first batch is made at full steps, then once more; the page says what differs. Exits 1 where a
contract does not hold what a run rests on. The text is the same each time on one machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reprobatch import contract, determinism, environment
from reprobatch.contract import INFORMATION, QUESTIONS, Contract
from reprobatch.job import Job
from reprobatch.resolve import resolve
from reprobatch.settings import Determinism

determinism.prepare(Determinism(), threads=1)  # before torch is imported

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
PAGE = ROOT / "docs" / "pipelines.md"
END = "<!-- end of the table -->"
PROMPTS = ("a dog", "a small blue square on a green square", "A bear is playing a guitar", "the cat", "a red circle")
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate")
MEASURED = [name for name in QUESTIONS if name not in INFORMATION]
INT8 = {"backend": "torchao", "components": ["unet"]}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "`dtype: bfloat16`": ("Stable Diffusion", {"dtype": "bfloat16"}),
    "`dtypes: {vae: float32}` beside bfloat16": ("Wan", {"dtype": "bfloat16", "dtypes": {"vae": "float32"}}),
    "`memory: {vae_tiling: true}`": ("Stable Diffusion", {"memory": {"vae_tiling": True}}),
    "`memory: {vae_slicing: true}`": ("Stable Diffusion", {"memory": {"vae_slicing": True}}),
    "`memory: {attention_slicing: 1}`": ("Stable Diffusion", {"memory": {"attention_slicing": 1}}),
    "`quantization`: torchao, Int8WeightOnlyConfig": (
        "Stable Diffusion",
        {"quantization": {**INT8, "settings": {"quant_type": "Int8WeightOnlyConfig"}}},
    ),
    "`quantization`: torchao, Int8DynamicActivationInt8WeightConfig": (
        "Stable Diffusion",
        {"quantization": {**INT8, "settings": {"quant_type": "Int8DynamicActivationInt8WeightConfig"}}},
    ),
    "`quantization`: bitsandbytes_8bit": (
        "Stable Diffusion",
        {"quantization": {"backend": "bitsandbytes_8bit", "components": ["unet"]}},
    ),
    "`memory: {offload: model}`": ("Stable Diffusion", {"memory": {"offload": "model"}}),
    "`memory: {device_map: balanced}`": ("Stable Diffusion", {"memory": {"device_map": "balanced"}}),
}
HEADER = ("family", "class", "varies within a batch", "output of an item", "contract", "what is special")


def job_of(family: Any) -> dict[str, Any]:
    """A family's job, on this machine's GPUs where it has some."""
    import torch

    common = {"name": "tiny", "master_seed": 20261123, "batch_size": 4, "shard_size": 4}
    return {**common, "workers": {"gpus": float(torch.cuda.device_count())}, **family.job()}


def measure(name: str, folder: Path, *, fresh: bool) -> tuple[list[str], Contract]:
    """A row of the table, and the contract it tells of."""
    from families import FAMILIES
    from reprobatch.worker import Worker

    family = FAMILIES[name]
    family.make(folder / family.make.__name__)
    job = job_of(family)
    resolved = resolve(Job.parse(job), folder / "job.yaml")
    worker = Worker(resolved.job, resolved.model_hint)
    found = worker.probe(contract.samples(resolved.job, resolved.plan, resolved.reader.read), fresh=fresh)
    items = resolved.reader.read(0, 4)
    seeds = [worker.seed(index, item) for index, item in enumerate(items)]
    first, again = worker.batch(items, seeds), worker.batch(items, seeds)
    if first != again:
        raise SystemExit(f"{name}: the same batch again gave other bits")
    output = f"`{resolved.job.column}` {'x'.join(map(str, first[0].shape))} {first[0].dtype}"
    batched = ", ".join(f"`{column}`" for column in resolved.job.items.batched) or "nothing but the seed"
    row = [name, f"`{resolved.job.pipeline.class_name}`", batched, output, _contract(found), family.special or "—"]
    return row, found


def measure_option(name: str, folder: Path) -> list[str]:
    """A row of the table of options; what an option needs and this machine lacks is said in its own words."""
    from families import FAMILIES
    from reprobatch.errors import JobError
    from reprobatch.worker import Worker

    family, option = OPTIONS[name]
    job = job_of(FAMILIES[family])
    job["pipeline"] |= option
    if family == "Stable Diffusion":  # pictures of 32x32 pixels, larger than a tile
        job |= {"output": "pixels", "call": {"num_inference_steps": 2, "height": 32, "width": 32}}
    try:
        resolved = resolve(Job.parse(job), folder / "job.yaml")
        worker = Worker(resolved.job, resolved.model_hint)
    except JobError as error:
        return [name, family, f"not measured: {str(error).removeprefix('job: ')}"]
    found = worker.probe(contract.samples(resolved.job, resolved.plan, resolved.reader.read), fresh=False)
    return [name, family, _contract(found)]


def _contract(found: Contract) -> str:
    fails = [question for question in MEASURED if found[question].holds is False]
    if not fails:
        return "alone"
    said = ", ".join(question.replace("_", " ") for question in fails)
    return f"{'refused' if found.broken else 'replay'} (not {said})"


def table(rows: list[list[str]], header: tuple[str, ...]) -> str:
    """Markdown, padded."""
    everything: list[Any] = [header, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in everything]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def replaced(text: str, name: str, by: str) -> str:
    """The page with one of its tables replaced, between its marks."""
    begin = f"<!-- {name}: python benchmarks/pipelines.py -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(END)
    libraries = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    return f"{before}{begin}\n{by}\n\nMeasured with {libraries} on {environment.cpu()[0]}.\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="Ask a new process for each family.")
    parser.add_argument("--only", default="", metavar="TEXT", help="Only families whose names have TEXT.")
    arguments = parser.parse_args()
    from families import FAMILIES, write_items

    rows, broken = [], []
    with tempfile.TemporaryDirectory() as path:
        write_items(Path(path), PROMPTS)
        for name in FAMILIES:
            if arguments.only in name:
                row, found = measure(name, Path(path), fresh=arguments.fresh)
                rows.append(row)
                broken += [f"{name}: {', '.join(found.broken)}"] if found.broken else []
        options = [] if arguments.only else [measure_option(name, Path(path)) for name in OPTIONS]
    if arguments.only:
        print(table(rows, HEADER))
    else:
        text = replaced(PAGE.read_text(), "families", table(rows, HEADER))
        PAGE.write_text(replaced(text, "options", table(options, ("option", "of", "contract"))))
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
