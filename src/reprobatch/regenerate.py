"""One item back, from its dataset: by replay of its batch, or alone from its row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from reprobatch import store as names
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError
from reprobatch.record import Output, Row
from reprobatch.verdict import Comparison, compare
from reprobatch.worker import Worker


@dataclass(frozen=True)
class Regenerated:
    """An item made again, how, and how it compares with what is stored."""

    index: int
    seed: int
    method: Literal["replay", "alone"]
    output: Output
    comparison: Comparison


class Regenerator:
    """Makes items of one dataset again; loads the pipeline once, needs no Ray.

    ``model`` says where a folder model lies on this machine, if it has moved. Fixes the
    deterministic settings of this process. Raises :class:`DataError` where the model is not the one
    that was used.
    """

    def __init__(self, dataset: Dataset, model: str | None = None) -> None:
        self.dataset = dataset
        self.worker = Worker(dataset.job, model or _remembered(dataset))

    def __call__(self, index: int, *, alone: bool = False) -> Regenerated:
        """Make item ``index`` again: with its recorded neighbours, or with copies of itself."""
        row, batch = self.dataset.look_up(index)
        return self._alone(row) if alone else next(r for r in self.batch(batch) if r.index == index)

    def batch(self, rows: list[Row]) -> list[Regenerated]:
        """Replay a whole batch: all its items at the price of one."""
        if [row.slot for row in rows] != list(range(len(rows))):
            raise DataError(f"batch of item {rows[0].index}: expected slots 0 … {len(rows) - 1} in order, found others")
        outputs = self.worker.batch([row.item for row in rows], [row.seed for row in rows])
        return [_result(row, "replay", output) for row, output in zip(rows, outputs, strict=True)]

    def _alone(self, row: Row) -> Regenerated:
        size = self.dataset.job.batch_size
        outputs = self.worker.batch([row.item] * size, [row.seed] * size)
        return _result(row, "alone", outputs[row.slot])


def regenerate(dataset: Dataset, index: int, *, alone: bool = False, model: str | None = None) -> Regenerated:
    """Make one item again; for several, keep a :class:`Regenerator`."""
    return Regenerator(dataset, model)(index, alone=alone)


def _result(row: Row, method: Literal["replay", "alone"], output: Output) -> Regenerated:
    return Regenerated(row.index, row.seed, method, output, compare(row.output, output))


def _remembered(dataset: Dataset) -> str | None:
    try:
        return str(json.loads(dataset.store.get(f"{names.LOG}/places.json"))["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
