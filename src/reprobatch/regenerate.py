"""One item back, from its dataset: by replay of its batch, or alone from its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from reprobatch.dataset import Dataset
from reprobatch.errors import DataError
from reprobatch.record import Output, Row
from reprobatch.replay import Agreement, Replayer
from reprobatch.verdict import Comparison, compare


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

    ``model`` says where a folder model lies on this machine, if it has moved, and ``places`` where attachments of the
    pipeline and the items' inputs do, by name (``adapters.0``, ``items``, ``images`` …). Fixes the deterministic
    settings of this process. Raises :class:`DataError` where the model or an attachment is not the one that was used.
    """

    def __init__(self, dataset: Dataset, model: str | None = None, places: Mapping[str, str] | None = None) -> None:
        self.dataset = dataset
        at = {**dataset.places, **({"model": model} if model else {}), **(places or {})}
        self._replayer = Replayer(dataset.job, at)
        self.worker = self._replayer.worker

    def agreement(self, index: int | None = None) -> Agreement:
        """Run the canary: whether to expect the recorded bits here, before anything is made again.

        In a dataset of many environments these are the bits of the one that made item ``index``.
        """
        recorded = self.dataset.environments(index)
        try:
            _, first = self.dataset.look_up(0)
        except DataError:
            recorded = {}
        if not recorded:
            return self._replayer.unknown(self.dataset.manifest.get("environment", {}))
        found = self._replayer.agreement(first, recorded)
        broken = self.dataset.contract.broken if self.dataset.contract else []
        insisted = [f"it was made although the contract does not hold ({', '.join(broken)})"] if broken else []
        return replace(found, differs=insisted + found.differs)

    def __call__(self, index: int, *, alone: bool = False) -> Regenerated:
        """Make item ``index`` again: with its recorded neighbours, or with copies of itself.

        Where the contract says that *alone* does not hold, the batch is replayed all the same.
        """
        row, batch = self.dataset.look_up(index)
        contract = self.dataset.contract
        if alone and (contract is None or contract.stands_alone is not False):
            return _result(row, "alone", self._replayer.alone(row, row.slot))
        return next(r for r in self.batch(batch) if r.index == index)

    def batch(self, rows: list[Row]) -> list[Regenerated]:
        """Replay a whole batch: all its items at the price of one."""
        if [row.slot for row in rows] != list(range(len(rows))):
            raise DataError(f"batch of item {rows[0].index}: expected slots 0 … {len(rows) - 1} in order, found others")
        made = zip(rows, self._replayer.batch(rows), strict=True)
        return [_result(row, "replay", output) for row, output in made]


def regenerate(dataset: Dataset, index: int, *, alone: bool = False, model: str | None = None) -> Regenerated:
    """Make one item again; for several, keep a :class:`Regenerator`."""
    return Regenerator(dataset, model)(index, alone=alone)


def _result(row: Row, method: Literal["replay", "alone"], output: Output) -> Regenerated:
    return Regenerated(row.index, row.seed, method, output, compare(row.output, output))
