"""The recipe of one item: all that is needed to make it again, as text that a picture can carry.

JSON in ASCII, keys sorted, no spaces; docs/recipes.md says what each key means. A recipe comes from anybody: it is
bounded before it is parsed, its parts have to fit each other, and no path in it is ever followed.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field, JsonValue, model_validator

from reprobatch import canonical, seeds
from reprobatch.errors import JobError
from reprobatch.inputs import KINDS
from reprobatch.job import ResolvedJob, validated
from reprobatch.models import is_pinned
from reprobatch.settings import Lean, Strict

FORMAT = "reprobatch-recipe/1"
LIMIT = 1 << 20
"""Most bytes of a recipe's text: what Pillow lets a compressed text chunk grow to."""

_HEX = r"^[0-9a-f]{64}$"
_FORMAT = re.compile(r"reprobatch-recipe/(\d{1,9})")
_KINDS: dict[str, type] = {"string": str, "int64": int, "double": float, "bool": bool, **dict.fromkeys(KINDS, str)}
_PATTERNS = {_HEX: "expected 64 hexadecimal digits"}

Hex = Annotated[str, Field(pattern=_HEX)]
Seed = Annotated[int, Field(ge=0, lt=seeds.SPACE)]
Size = Annotated[int, Field(ge=0, lt=2**31)]


class Shape(Strict):
    """dtype and shape of an output."""

    dtype: Literal["float32", "float16", "bfloat16", "float64", "uint8", "int16"]
    shape: list[Size] = Field(max_length=32)


class Neighbour(Strict):
    """Another item of the same pipeline call: its slot, seed, and those of its columns that the pipeline is given."""

    slot: Size
    seed: Seed
    item: dict[str, JsonValue]


class Origin(Strict):
    """The environment that made an item: its canary's checksum, and its facts as the manifest has them."""

    canary: Hex
    facts: dict[str, JsonValue]


class Recipe(Lean):
    """What :func:`parse` gives and :func:`text` takes.

    ``filled`` is how many slots of the batch hold items (the others hold copies of the last). ``alone`` is the
    contract's answer, ``None`` where it was not measured. ``neighbours`` are there unless ``alone`` holds or they
    would take too much room; ``item`` has all of the item's columns but ``seed`` and numbers that are not finite.
    """

    added = frozenset({"also"})

    format: Literal["reprobatch-recipe/1"] = "reprobatch-recipe/1"
    job: ResolvedJob
    job_digest: Hex
    index: int = Field(ge=0, lt=seeds.SPACE)
    seed: Seed
    batch: Size
    slot: Size
    filled: int = Field(ge=1, le=32767)
    item: dict[str, JsonValue]
    output: Shape
    also: dict[str, Shape] = Field(default_factory=dict)
    checksum: Hex
    alone: bool | None
    neighbours: list[Neighbour] | None
    environment: Origin | None

    @property
    def first(self) -> int:
        """Index of the item in slot 0 of the batch."""
        return self.index - self.slot

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        job, items = self.job, self.job.items
        if job.digest != self.job_digest:
            raise ValueError(f"expected a job with digest {self.job_digest}, found one with {job.digest}")
        _check_references(job)
        _check_count(job)
        if not (self.slot < self.filled <= job.batch_size and 0 <= self.first <= items.count - self.filled):
            raise ValueError(
                f"expected an item of {items.count} in batches of {job.batch_size}, found index {self.index}, "
                f"slot {self.slot} of {self.filled}"
            )
        if self.also.keys() != set(job.also):
            raise ValueError("expected the job's further outputs in 'also', found others")
        _check_item(job, self.item, with_metadata=True)
        given = [(self.slot, self.seed), *((each.slot, each.seed) for each in self.neighbours or [])]
        if self.neighbours is not None:
            for each in self.neighbours:
                _check_item(job, each.item, with_metadata=False)
            if sorted(slot for slot, _ in given) != list(range(self.filled)):
                raise ValueError(f"expected a neighbour for each other of {self.filled} slots, found other slots")
        if "seed" not in items.columns:
            for slot, seed in given:
                derived = seeds.derive(job.master_seed, self.first + slot)
                if derived != seed:
                    raise ValueError(f"expected seed {derived} of item {self.first + slot}, found {seed}")
        return self


def text(recipe: Recipe) -> str:
    """A recipe as ASCII text. Raises :class:`JobError` where it takes more than :data:`LIMIT` bytes."""
    entries = recipe.model_dump(mode="json")
    try:
        made = _dumps({**entries, "digest": canonical.digest(entries)})
    except UnicodeEncodeError:
        raise JobError(f"item {recipe.index}: expected Unicode text in its columns, found half a character") from None
    if len(made) > LIMIT:
        raise JobError(
            f"item {recipe.index}: expected a recipe of at most {LIMIT} bytes, found {len(made)}; leave recipes out "
            "with --no-recipe"
        )
    return made


def parse(made: str, origin: str = "the recipe") -> Recipe:
    """Read a recipe back; ``origin`` names it in errors.

    Raises :class:`JobError` for text that is no recipe, one of a newer format, and one that was changed or does not
    fit itself.
    """
    if len(made) > LIMIT:
        raise JobError(f"{origin}: expected a recipe of at most {LIMIT} bytes, found {len(made)}")
    try:
        data = json.loads(made, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise JobError(f"{origin}: expected a recipe in JSON, found other text") from None
    named = data.get("format") if isinstance(data, dict) else None
    number = _FORMAT.fullmatch(named) if isinstance(named, str) else None
    if number is None:
        raise JobError(f"{origin}: expected a recipe of format {FORMAT}, found JSON of another program")
    if named != FORMAT:
        raise JobError(f"{origin}: expected format {FORMAT}, found {named}; a newer reprobatch reads it")
    stated = data.pop("digest", None)
    try:
        changed = stated != canonical.digest(data)
    except (UnicodeEncodeError, RecursionError):
        changed = True
    if changed:
        raise JobError(f"{origin}: expected a recipe that agrees with its own digest, found it changed or damaged")
    try:
        return validated(Recipe, data, origin, _PATTERNS)
    except JobError as error:  # it may quote the recipe, which may hold what a terminal obeys
        raise JobError(printable(str(error))) from None


def printable(said: str) -> str:
    """Text that a terminal shows and does not obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in said)


def columns_given(job: ResolvedJob) -> list[str]:
    """Columns that the pipeline is given."""
    return [name for name in job.items.columns if name not in job.items.metadata and name != "seed"]


def _check_references(job: ResolvedJob) -> None:
    """That a name is all there is of a model and of what belongs to it: never a path."""
    spec = job.pipeline
    pinned = {"model": (spec.model, spec.revision)}
    pinned |= {name: (each.reference, each.revision) for name, each in spec.attachments.items()}
    for name, (reference, revision) in pinned.items():
        if not is_pinned(reference, revision):
            raise ValueError(f"expected {name} by name or by hub id and commit, found '{reference[:80]}'")


def _check_count(job: ResolvedJob) -> None:
    """That rows, repetitions and the grid give as many items as the job says, and no fewer columns than they name."""
    items = job.items
    settings = math.prod(len(axis.values) for axis in items.grid)
    rows = items.source.rows if items.source else items.count // max(items.repeat * settings, 1)
    named = {*items.batched, *items.metadata, *(axis.name for axis in items.grid)}
    if items.repeat < 1 or rows * items.repeat * settings != items.count or not named <= items.columns.keys():
        raise ValueError(f"expected items that make {items.count}, found rows, repetitions and a grid that do not")


def _check_item(job: ResolvedJob, item: dict[str, Any], *, with_metadata: bool) -> None:
    columns, needed = job.items.columns, columns_given(job)
    known = needed + (job.items.metadata if with_metadata else [])
    if not set(needed) <= item.keys() <= set(known):
        raise ValueError(f"expected an item with the columns {', '.join(needed)}, found others")
    for name, value in item.items():
        if value is not None and type(value) is not _KINDS.get(columns[name]):
            raise ValueError(f"expected {columns[name]} in column '{name}', found {canonical.shown(value)}")


def _dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
