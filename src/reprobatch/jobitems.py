"""A job's items: where they come from, as its author writes it and pinned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, model_validator

from reprobatch import canonical
from reprobatch.inputs import KINDS
from reprobatch.settings import Lean, Strict

MAX_ITEMS = 2**32

RESERVED_ARGUMENTS = {
    "generator": "each slot gets its own CPU generator, seeded from the master seed",
    "output_type": "set 'output' instead",
    "return_dict": "the pipeline's own output class is read",
    "batch_size": "set the job's own 'batch_size'",
    "num_images_per_prompt": "one item is one output; use items.repeat",
    "num_videos_per_prompt": "one item is one output; use items.repeat",
    "num_waveforms_per_prompt": "one item is one output; use items.repeat",
}
_SEED = "seeds come from master_seed, or from a column 'seed' of the item file"
RESERVED_COLUMNS = frozenset({"index", "batch", "slot", "dtype", "shape", "checksum", "latents", "pixels"})


class Items(Strict):
    """Where items come from: a file of ``prompts`` (TXT, JSONL, CSV, Parquet) or a ``count``.

    Every row is used ``repeat`` times in a row; a ``grid`` of call arguments multiplies that, its
    first key slowest. ``batched`` names further arguments that the pipeline takes as lists,
    ``metadata`` names columns that are kept in the dataset but not given to the pipeline. ``images`` names
    columns of pictures (their files' bytes, or paths below ``image_root``, a folder or a URL), ``tensors`` columns of
    nested lists of numbers, such as prompt embeddings.
    """

    prompts: str | None = Field(default=None, min_length=1)
    count: int | None = Field(default=None, ge=1)
    repeat: int = Field(default=1, ge=1)
    grid: dict[str, list[JsonValue]] = {}
    batched: list[str] = []
    metadata: list[str] = []
    images: list[str] = []
    image_root: str | None = Field(default=None, min_length=1)
    tensors: list[str] = []

    @model_validator(mode="after")
    def _one_source(self) -> Items:
        if (self.prompts is None) == (self.count is None):
            raise ValueError("expected exactly one of 'prompts' (a file) and 'count'")
        for name, values in self.grid.items():
            check_argument(name)
            _check_axis(name, values)
        return self


class ItemSource(Strict):
    """The pinned item file: its name (no folder), format, SHA-256 and rows."""

    name: str
    format: Literal["txt", "jsonl", "csv", "parquet"]
    sha256: str
    rows: int


class GridAxis(Strict):
    """A call argument and the values it takes."""

    name: str
    values: list[JsonValue] = Field(min_length=1)


class ResolvedItems(Lean):
    """The items, with their number, columns (name to type) and which of them vary within a batch.

    ``pictures`` is a digest over all pictures that lie in files of their own, in the item file's order.

    The grid is a list, slowest axis first: its order says which item is which, and canonical JSON
    keeps the order of lists only.
    """

    added = frozenset({"pictures"})

    source: ItemSource | None
    count: int = Field(ge=1, le=MAX_ITEMS)
    repeat: int
    grid: list[GridAxis]
    columns: dict[str, str]
    batched: list[str]
    metadata: list[str]
    pictures: str | None = None

    @property
    def inputs(self) -> list[str]:
        """Columns of which a row holds the digest only."""
        return [name for name, kind in self.columns.items() if kind in KINDS]


def check_argument(name: str) -> None:
    """Raise :class:`ValueError` for a name that no call argument has, or that reprobatch gives itself."""
    if name in RESERVED_ARGUMENTS or name == "seed":
        raise ValueError(f"'{name}' cannot be set here: {RESERVED_ARGUMENTS.get(name, _SEED)}")
    if not name.isidentifier():
        raise ValueError(f"expected the names of call arguments, found '{name}'")


def _check_axis(name: str, values: list[JsonValue]) -> None:
    if not values:
        raise ValueError(f"grid.{name} is empty; give it at least one value")
    kinds = {float if type(v) is int else type(v) for v in values}
    if not kinds <= {float, bool, str}:
        raise ValueError(f"grid.{name}: expected numbers, text or booleans, found {canonical.shown(values)}")
    if len(kinds) > 1:
        raise ValueError(f"grid.{name}: expected values of one type, found {canonical.shown(values)}")
    long = [v for v in values if type(v) is int and not -(2**63) <= v < 2**63]
    if long:
        raise ValueError(f"grid.{name}: expected whole numbers of at most 64 bits, found {canonical.shown(long[0])}")
