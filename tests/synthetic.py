"""Complete datasets that no pipeline made, in milliseconds; and the command line called in this process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import reprobatch
from conftest import DIGITS
from reprobatch import cli, merkle
from reprobatch.manifest import describe
from reprobatch.plan import Plan
from reprobatch.record import Output, Row, ShardWriter
from reprobatch.store import shard_name


def output(index: int) -> Output:
    return Output("float32", (4,), np.arange(index, index + 4, dtype="<f4").tobytes())


def made(folder: Path, tens: int = 7, shard: int = 9, of: Callable[[int], Output] = output, *overrides: str) -> Path:
    """A dataset of ``10 * tens`` items in which ``verify`` finds nothing wrong: item i is ``of(i)``."""
    job = reprobatch.load(DIGITS, [f"items.repeat={tens}", "batch_size=3", f"shard_size={shard}", *overrides]).job
    for name in ("data", "log"):
        (folder / name).mkdir(parents=True)
    (folder / "job.json").write_text(job.canonical)
    whole, sums = merkle.CompactRange.of(0, []), ""
    for number, begin in enumerate(range(0, 10 * tens, shard)):
        writer = ShardWriter(job.items.columns, job.column, job.digest, number, job.seed_scheme)
        items = range(begin, min(begin + shard, 10 * tens))
        seeds = [reprobatch.derive(job.master_seed, at) for at in items]
        rows = [
            Row(at, seed, place // 3, place % 3, {"prompt": "a digit"}, of(at))
            for place, (at, seed) in enumerate(zip(items, seeds, strict=True))
        ]
        for first in range(0, len(rows), 3):
            writer.add(rows[first : first + 3])
        pieces, compact = writer.finish()
        data = b"".join(pieces)
        (folder / shard_name(number)).write_bytes(data)
        whole = whole.merge(compact)
        sums += f"{hashlib.sha256(data).hexdigest()}  {shard_name(number)}\n"
    (folder / "SHA256SUMS").write_text(sums)
    plan = Plan(job.items.count, job.batch_size, job.shard_size)
    head = {"root": whole.root().hex(), "files": hashlib.sha256(sums.encode()).hexdigest()}
    manifest = {**describe(job, plan), **head}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return folder


class Command:
    """Runs the command line in this process: exit code, what it printed, and what it said on stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        printed, said = self._capsys.readouterr()
        return int(ended.value.code or 0), printed, said

    def refuses(self, *arguments: object) -> str:
        """Exit code 2, one line on stderr, nothing on stdout."""
        code, printed, said = self(*arguments)
        assert (code, printed) == (2, ""), (code, printed, said)
        assert said.startswith("reprobatch: ") and said.count("\n") == 1 and len(said) < 700, said
        return said
