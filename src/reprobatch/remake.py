"""One item back from its recipe: alone, or by replay with the neighbours that the recipe or its job has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reprobatch import itemfile, models, pictures, pngfile, seeds
from reprobatch.attachments import places as named
from reprobatch.canonical import differences
from reprobatch.errors import DataError, JobError
from reprobatch.inputs import told
from reprobatch.items import ItemReader, splitting_columns
from reprobatch.job import ResolvedJob
from reprobatch.recipe import Recipe, columns_given
from reprobatch.record import Output
from reprobatch.replay import Agreement, Replayer, Sown
from reprobatch.resolve import Resolved

Method = Literal["replay", "alone"]


@dataclass(frozen=True)
class Item:
    """What an item is made from."""

    index: int
    seed: int
    item: dict[str, Any]


@dataclass(frozen=True)
class Remade:
    """An item made again from its recipe, and how."""

    method: Method
    output: Output
    checksum: str
    verdict: Literal["identical", "different"]


@dataclass(frozen=True)
class Pixels:
    """Whether a picture's own pixels are those that the item has here (``None``: that cannot be told, ``why``).

    ``linf`` is how far they are apart, of 255; ``None`` for another size or number of channels.
    """

    verdict: Literal["identical", "different"] | None
    linf: int | None = None
    why: str | None = None

    def __str__(self) -> str:
        if self.verdict == "identical":
            return "the picture's own pixels are those of the item made here"
        if self.verdict is None:
            return f"whether the picture's own pixels are the item's cannot be told: {self.why}"
        apart = self.why if self.linf is None else f"up to {self.linf} of 255 apart"
        return f"the picture's own pixels are others ({apart})"


class Remaker:
    """Makes the item of a recipe again.

    ``given`` is the job itself, where the user has it: its items are read from its own file again, so that the batch
    can be replayed. ``places`` says where things lie on this machine, by name. Nothing is looked for where the recipe
    says, and no model is downloaded on its word.

    Raises :class:`JobError` where something is missing, and says what; :class:`DataError` where the recipe is not the
    job's. :meth:`load` then loads the pipeline.
    """

    def __init__(self, recipe: Recipe, places: Mapping[str, str], given: Resolved | None = None) -> None:
        self.recipe = recipe
        self._places = {**(named(given.model_hint) if given else {}), **places}
        self._reader = _reader(recipe.job, given)
        self._own = Item(recipe.index, recipe.seed, recipe.item)
        if given is not None:
            _same_job(recipe, given.job)
        _require_inputs(recipe.job, self._places)
        _require_downloaded(recipe.job, self._places)
        self.batch = self._batch()

    def method(self, alone: bool = False) -> Method:
        """How the item will be made: as asked where the contract allows it, else by what there is.

        Raises :class:`JobError` where its neighbours are needed and are not there.
        """
        if alone and self.recipe.alone is not False:
            return "alone"
        if self.batch is not None:
            return "replay"
        if self.recipe.alone:
            return "alone"
        raise JobError(
            f"item {self.recipe.index}: expected the {self.recipe.filled - 1} other items of its batch, without which "
            "it does not come back, found none in the recipe; give the job that it was made by with --job FILE"
        )

    def load(self) -> Replayer:
        """Load the pipeline. Raises :class:`DataError` where the model is another."""
        return Replayer(self.recipe.job, self._places)

    def agreement(self, replayer: Replayer) -> Agreement:
        """Run the canary, for which the items of the job's first batch have to be at hand."""
        origin, job = self.recipe.environment, self.recipe.job
        if origin is None:
            return Agreement(None, None, None, [])
        if self._reader is None:
            return replayer.unknown(origin.facts)
        # breaks of a stranger's grid may be too many to be found out: those of the first items are enough
        read = self._reader.read(0, min(job.batch_size, job.items.count))
        splitting = splitting_columns(job.items)
        alike = takewhile(lambda item: all(item[name] == read[0][name] for name in splitting), read)
        first = [self._sown(index, item) for index, item in enumerate(alike)]
        return replayer.agreement(first, {origin.canary: origin.facts})

    def __call__(self, replayer: Replayer, method: Method) -> Remade:
        """Make the item again."""
        if method == "alone":
            output = replayer.alone(self._own, self.recipe.slot)
        else:
            assert self.batch is not None
            output = replayer.batch(self.batch)[self.recipe.slot]
        found = output.checksum
        return Remade(method, output, found, "identical" if found == self.recipe.checksum else "different")

    def pixels(self, path: Path, output: Output, replayer: Replayer) -> Pixels:
        """Compare the pixels of the picture at ``path`` with what people see of ``output``."""
        try:
            expected = pictures.of(self.recipe.job, output, replayer.worker.decode)
            # before pixels are read, of which a stranger's picture may have many
            if pngfile.size(path) != expected.shape[:2]:
                height, width = pngfile.size(path)
                return Pixels("different", why=f"{width}x{height}, not {expected.shape[1]}x{expected.shape[0]}")
            found = itemfile.picture(path)
        except JobError as error:
            return Pixels(None, why=str(error))
        if found.shape != expected.shape:
            return Pixels("different", why=f"{found.shape[2]} channels, not {expected.shape[2]}")
        apart = int(np.abs(expected.astype(np.int16) - found).max())
        return Pixels("different" if apart else "identical", apart)

    def _batch(self) -> list[Sown] | None:
        """The items of the batch in the order of their slots, from the job's own items or the recipe."""
        recipe = self.recipe
        if self._reader is not None:
            read = self._reader.read(recipe.first, recipe.first + recipe.filled)
            found = [self._sown(recipe.first + slot, item) for slot, item in enumerate(read)]
            self._require_own(found[recipe.slot])
            return list(found)
        if recipe.neighbours is None:
            return [self._own] if recipe.filled == 1 else None
        others = [Item(recipe.first + each.slot, each.seed, each.item) for each in recipe.neighbours]
        return sorted([self._own, *others], key=lambda each: each.index)

    def _sown(self, index: int, item: Mapping[str, Any]) -> Item:
        job = self.recipe.job
        seed = int(item["seed"]) if "seed" in item else seeds.derive(job.master_seed, index)
        return Item(index, seed, {name: told(value) for name, value in item.items() if name != "seed"})

    def _require_own(self, found: Item) -> None:
        given = columns_given(self.recipe.job)
        here = [found.seed, *(found.item[name] for name in given)]
        if here != [self.recipe.seed, *(self.recipe.item[name] for name in given)]:
            raise DataError(
                f"item {found.index}: expected the recipe's item to be that of the job's items, found another there; "
                "the recipe was changed"
            )


def _reader(job: ResolvedJob, given: Resolved | None) -> ItemReader | None:
    if given is not None:
        return given.reader
    return ItemReader(job.items, None) if job.items.source is None else None


def _same_job(recipe: Recipe, job: ResolvedJob) -> None:
    if job.digest != recipe.job_digest:
        found = "; ".join(differences(job.as_dict(), recipe.job.as_dict())[:3])
        raise JobError(
            f"--job: expected the job with digest {recipe.job_digest[:12]}…, found {job.digest[:12]}… ({found}); the "
            "overrides that it was run with (-s) belong to it"
        )


def _require_inputs(job: ResolvedJob, places: Mapping[str, str]) -> None:
    if job.items.inputs and "items" not in places:
        file = job.items.source.name if job.items.source else "the item file"
        raise JobError(
            f"expected the items' {', '.join(job.items.inputs)}, of which the recipe has the digests only, found no "
            f"path to '{file}'; give the job with --job FILE, or --place items=PATH (and images=PATH)"
        )


def _require_downloaded(job: ResolvedJob, places: Mapping[str, str]) -> None:
    """That nothing has to be fetched because a stranger's picture names it."""
    from huggingface_hub import try_to_load_from_cache

    spec = job.pipeline
    wanted = {"model": (spec.model, spec.revision, models.INDEX)}
    for name, each in spec.attachments.items():
        file = each.file or ("config.json" if name.startswith("components.") else "")
        wanted[name] = (each.reference, each.revision, file)
    for name, (reference, revision, file) in wanted.items():
        if revision is None or name in places:
            continue
        if not isinstance(try_to_load_from_cache(reference, file, revision=revision), str):
            option = "--model PATH" if name == "model" else f"--place {name}=PATH"
            raise JobError(
                f"expected {name} {reference} at {revision[:12]} on this machine, found none in the hub's cache; if "
                f"you trust it: 'hf download {reference} --revision {revision}', or give {option}"
            )
