"""Items of one job made again from what a row says of them; where rows come from is the caller's affair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from reprobatch import environment
from reprobatch.contract import canary
from reprobatch.errors import JobError
from reprobatch.inputs import prove
from reprobatch.items import ItemReader
from reprobatch.job import ResolvedJob
from reprobatch.record import Output
from reprobatch.store import is_url
from reprobatch.worker import Worker


class Sown(Protocol):
    """What an item is made from: its index, its seed and its columns (of pictures and tensors, the digests)."""

    @property
    def index(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def item(self) -> dict[str, Any]: ...


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


class Replayer:
    """Makes items of one job again; loads the pipeline once, needs neither Ray nor the dataset.

    ``places`` says where model, attachments and the items' inputs lie on this machine, by name (``model``,
    ``adapters.0``, ``items``, ``images`` …). Fixes the deterministic settings of this process. Raises
    :class:`DataError` where the model or an attachment is not the one that was used.
    """

    def __init__(self, job: ResolvedJob, places: Mapping[str, str]) -> None:
        self.job = job
        self._places = dict(places)
        self.worker = Worker(job, self._places or None)

    def agreement(self, first: Sequence[Sown], recorded: Mapping[str, dict[str, Any]]) -> Agreement:
        """Run the canary on the items of the job's ``first`` batch.

        ``recorded`` has the facts of the environments that may have made what is asked for, by their canary.
        """
        here = self.worker.environment()
        found = canary(self.worker.canary([(each.index, {**self._item(each), "seed": each.seed}) for each in first]))
        expected = found if found in recorded else next(iter(recorded))
        return Agreement(found in recorded, expected, found, environment.explain(here, recorded[expected]))

    def unknown(self, recorded: dict[str, Any]) -> Agreement:
        """What differs from the ``recorded`` environment, where its canary cannot be run."""
        return Agreement(None, None, None, environment.explain(self.worker.environment(), recorded))

    def batch(self, sown: Sequence[Sown]) -> list[Output]:
        """Replay a whole batch: all its items, in the order of their slots, at the price of one."""
        return self.worker.batch([self._item(each) for each in sown], [each.seed for each in sown])

    def alone(self, sown: Sown, slot: int) -> Output:
        """One item at its slot, the other slots filled with copies of it."""
        size = self.job.batch_size
        return self.worker.batch([self._item(sown)] * size, [sown.seed] * size)[slot]

    def _item(self, sown: Sown) -> dict[str, Any]:
        """An item's columns; pictures and tensors, of which it has the digests, are read again and proven by them."""
        names = self.job.items.inputs
        if not names:
            return sown.item
        return prove(sown.index, sown.item, self._reader.read(sown.index, sown.index + 1)[0], names)

    @cached_property
    def _reader(self) -> ItemReader:
        at = {name: self._places[name] for name in ("items", "images") if name in self._places}
        for name, place in at.items():
            if not is_url(place) and not Path(place).exists():
                raise JobError(f"the items' inputs are read again: no {name} at '{place}'; give --place {name}=PATH")
        source = self.job.items.source
        if source is not None and "items" not in at:
            raise JobError(f"the items' inputs are read again from '{source.name}'; give it with --place items=PATH")
        root = at.get("images")
        path = Path(at["items"]) if "items" in at else None
        return ItemReader(self.job.items, path, root if root is None or is_url(root) else Path(root))
