"""One item back, from its dataset: by replay of its batch, or alone from its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from reprobatch import environment
from reprobatch.contract import Contract, canary
from reprobatch.dataset import Dataset
from reprobatch.errors import DataError, JobError
from reprobatch.inputs import prove
from reprobatch.items import ItemReader
from reprobatch.record import Output, Row
from reprobatch.store import is_url
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


@dataclass(frozen=True)
class Agreement:
    """Whether this process gives the recorded canary (``None``: none is recorded, or it cannot be run).

    ``differs`` names what differs between this environment and the recorded one, which may be much
    while the bits agree.
    """

    agrees: bool | None
    expected: str | None
    found: str | None
    differs: list[str]

    def __str__(self) -> str:
        facts = "; ".join(self.differs) or "nothing that is recorded"
        if self.agrees is None:
            return f"canary unknown: none to compare with; what differs in the environment: {facts}"
        if self.agrees:
            return "canary agrees: this environment gives the recorded bits"
        return f"canary differs: this environment gives other bits; what differs: {facts}"


class Regenerator:
    """Makes items of one dataset again; loads the pipeline once, needs no Ray.

    ``model`` says where a folder model lies on this machine, if it has moved, and ``places`` where attachments of the
    pipeline and the items' inputs do, by name (``adapters.0``, ``items``, ``images`` …). Fixes the deterministic
    settings of this process. Raises :class:`DataError` where the model or an attachment is not the one that was used.
    """

    def __init__(self, dataset: Dataset, model: str | None = None, places: Mapping[str, str] | None = None) -> None:
        self.dataset = dataset
        self._places = {**dataset.places, **({"model": model} if model else {}), **(places or {})}
        self.worker = Worker(dataset.job, self._places or None)

    def agreement(self, index: int | None = None) -> Agreement:
        """Run the canary: whether to expect the recorded bits here, before anything is made again.

        In a dataset of many environments these are the bits of the one that made item ``index``.
        """
        recorded = self._environments(index)
        try:
            _, first = self.dataset.look_up(0)
        except DataError:
            recorded = {}
        here = self.worker.environment()
        if not recorded:
            return Agreement(None, None, None, environment.explain(here, self.dataset.manifest.get("environment", {})))
        found = canary(self.worker.canary([(row.index, {**self._item(row), "seed": row.seed}) for row in first]))
        expected = found if found in recorded else next(iter(recorded))
        broken = self._contract.broken if self._contract else []
        insisted = [f"it was made although the contract does not hold ({', '.join(broken)})"] if broken else []
        return Agreement(found in recorded, expected, found, insisted + environment.explain(here, recorded[expected]))

    def _environments(self, index: int | None) -> dict[str, dict[str, Any]]:
        """Facts of the environments that may have made an item, by their canary."""
        manifest = self.dataset.manifest
        known: dict[str, dict[str, Any]] = manifest.get("environments", {})
        if known and index is not None:
            made_in = self.dataset.footer(self.dataset.plan.shard_of(index)).environment
            return {made_in: known[made_in]} if made_in in known else {}
        if known or "canary" not in manifest:
            return known
        return {manifest["canary"]["checksum"]: manifest["environment"]}

    def __call__(self, index: int, *, alone: bool = False) -> Regenerated:
        """Make item ``index`` again: with its recorded neighbours, or with copies of itself.

        Where the contract says that *alone* does not hold, the batch is replayed all the same.
        """
        row, batch = self.dataset.look_up(index)
        return (
            self._alone(row)
            if alone and self._may_stand_alone()
            else next(r for r in self.batch(batch) if r.index == index)
        )

    def batch(self, rows: list[Row]) -> list[Regenerated]:
        """Replay a whole batch: all its items at the price of one."""
        if [row.slot for row in rows] != list(range(len(rows))):
            raise DataError(f"batch of item {rows[0].index}: expected slots 0 … {len(rows) - 1} in order, found others")
        outputs = self.worker.batch([self._item(row) for row in rows], [row.seed for row in rows])
        return [_result(row, "replay", output) for row, output in zip(rows, outputs, strict=True)]

    def _item(self, row: Row) -> dict[str, Any]:
        """A row's columns; pictures and tensors, of which it has the digests, are read again and proven by them."""
        names = self.dataset.job.items.inputs
        if not names:
            return row.item
        return prove(row.index, row.item, self._reader.read(row.index, row.index + 1)[0], names)

    @cached_property
    def _reader(self) -> ItemReader:
        at = {name: self._places[name] for name in ("items", "images") if name in self._places}
        for name, place in at.items():
            if not is_url(place) and not Path(place).exists():
                raise JobError(f"the items' inputs are read again: no {name} at '{place}'; give --place {name}=PATH")
        source = self.dataset.job.items.source
        if source is not None and "items" not in at:
            raise JobError(f"the items' inputs are read again from '{source.name}'; give it with --place items=PATH")
        root = at.get("images")
        path = Path(at["items"]) if "items" in at else None
        return ItemReader(self.dataset.job.items, path, root if root is None or is_url(root) else Path(root))

    def _may_stand_alone(self) -> bool:
        contract = self._contract
        # where a run was insisted upon, the answers were had under equal global seeds only
        return contract is None or (contract["alone"].holds is not False and not contract.broken)

    @cached_property
    def _contract(self) -> Contract | None:
        recorded = self.dataset.manifest.get("contract")
        return Contract.from_dict(recorded) if recorded else None

    def _alone(self, row: Row) -> Regenerated:
        size = self.dataset.job.batch_size
        outputs = self.worker.batch([self._item(row)] * size, [row.seed] * size)
        return _result(row, "alone", outputs[row.slot])


def regenerate(dataset: Dataset, index: int, *, alone: bool = False, model: str | None = None) -> Regenerated:
    """Make one item again; for several, keep a :class:`Regenerator`."""
    return Regenerator(dataset, model)(index, alone=alone)


def _result(row: Row, method: Literal["replay", "alone"], output: Output) -> Regenerated:
    return Regenerated(row.index, row.seed, method, output, compare(row.output, output))
