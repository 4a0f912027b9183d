"""Runs a tiny job of every pipeline family, measures its contract and writes the table to ``docs/pipelines.md``.

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
BEGIN, END = "<!-- table: python benchmarks/pipelines.py -->", "<!-- end of the table -->"
PROMPTS = ("a dog", "a small blue square on a green square", "A bear is playing a guitar", "the cat", "a red circle")
MEASURED = [name for name in QUESTIONS if name not in INFORMATION]
HEADER = ("family", "class", "varies within a batch", "output of an item", "contract", "what is special")


def measure(name: str, folder: Path, *, fresh: bool) -> tuple[list[str], Contract]:
    """A row of the table, and the contract it tells of."""
    from families import FAMILIES
    from reprobatch.worker import Worker

    family = FAMILIES[name]
    family.make(folder / family.make.__name__)
    job = {"name": "tiny", "master_seed": 20261123, "batch_size": 4, "shard_size": 4, **family.job()}
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


def _contract(found: Contract) -> str:
    fails = [question for question in MEASURED if found[question].holds is False]
    if not fails:
        return "alone"
    said = ", ".join(question.replace("_", " ") for question in fails)
    return f"{'refused' if found.broken else 'replay'} (not {said})"


def table(rows: list[list[str]]) -> str:
    """Markdown, padded."""
    everything: list[Any] = [HEADER, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(HEADER))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in everything]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def page(text: str, rows: list[list[str]]) -> str:
    """The page with its table replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers", "accelerate"))
    said = f"Measured with {libraries} on {environment.cpu()[0]}."
    return f"{before}{BEGIN}\n{table(rows)}\n\n{said}\n{END}{after}"


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
    if arguments.only:
        print(table(rows))
    else:
        PAGE.write_text(page(PAGE.read_text(), rows))
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
