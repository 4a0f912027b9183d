"""The page of a dataset: one folder with an ``index.html`` that opens without a server or a network.

A dataset is walked once, a row group at a time. Items go to the page in scripts of ``page`` items each, their pictures
as thumbnails in sheets and, where they are larger than a thumbnail, each in a file of its own. The same dataset and
options give the same bytes.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from reprobatch import journal
from reprobatch.dataset import Dataset
from reprobatch.errors import ReprobatchError
from reprobatch.page import apart, facts, pictures, run, snippet
from reprobatch.page.apart import Apart
from reprobatch.page.entries import STATES, Entry, entries
from reprobatch.page.folder import FORMAT, MARK, Folder, replacing
from reprobatch.page.pictures import PER_SHEET, Picture
from reprobatch.record import Output
from reprobatch.store import is_url

PAGE = 10_000  # items that a browser holds at once
_LATENT_PIXELS = 1 << 15  # that are decoded at once: eight pictures of 512 x 512
_STRIP = 256  # pixels of the longer side of a picture beside another

Decode = Callable[[Sequence[Output]], list[Any]]
"""Latents to uint8 pictures (height, width, channels)."""


@dataclass(frozen=True)
class Options:
    """What a report is made of: the dataset as it is named on the page, and how much of it.

    ``decode`` and ``decode_other`` make pictures of latents, ``None`` where there is no model. ``limit`` is how many
    items are shown at most, ``page`` how many at once.
    """

    name: str
    decode: Decode | None = None
    decode_other: Decode | None = None
    limit: int | None = None
    page: int = PAGE


def make(
    dataset: Dataset,
    out: Path,
    options: Options,
    other: tuple[str, Dataset] | None = None,
    on_items: Callable[[int], None] = lambda items: None,
) -> dict[str, Any]:
    """Write a dataset's report, beside ``other``, a named dataset; returns counts, as plain JSON values.

    Raises :class:`JobError` where ``out`` holds something else. Damaged and missing items are shown as that.
    """
    shown = min(len(dataset), options.limit or len(dataset))
    with replacing(out) as folder:
        found = None if other is None else apart.apart(dataset, other[1], shown, on_items)
        items = _Items(dataset, folder, options, found)
        for entry in entries(dataset, shown):
            items.add(entry)
            on_items(1)
        items.finish()
        beside = None if other is None or found is None else _beside(dataset, other, found, folder, options)
        told = _dataset(dataset, items, shown, options)
        folder.put("data/dataset.js", facts.script("dataset", {**told, "compare": beside}))
        counts: dict[str, Any] = {
            "items": shown,
            "of": len(dataset),
            "pages": len(items.pages),
            "pictures": items.pictured,
            **{state: items.states[state] for state in STATES},
            "differing": None if found is None else found.differing,
        }
        folder.put(MARK, (json.dumps({"format": FORMAT, **counts}, indent=2) + "\n").encode())
        folder.put_page({"name": dataset.job.name, "items": shown})
        return {**counts, "files": folder.files, "bytes": folder.bytes, "out": str(out)}


def shown_pictures(outputs: Sequence[Output], name: str, decode: Decode | None) -> list[Picture | None]:
    """A picture an output, ``None`` where none can be had: what is stored, or else what ``decode`` makes of latents."""
    found = [pictures.picture(output, name) for output in outputs]
    if name != "latent" or decode is None:
        return found
    lacking = [at for at, each in enumerate(found) if each is None]
    for (_, shape), alike in groupby(lacking, lambda at: (outputs[at].dtype, outputs[at].shape)):
        run, size = list(alike), _at_once(shape)
        for some in (run[start : start + size] for start in range(0, len(run), size)):
            try:
                made = decode([outputs[at] for at in some])
            except ReprobatchError:  # latents of a layout that is not known: the page shows plain tiles
                continue
            for at, each in zip(some, made, strict=True):
                found[at] = pictures.as_picture(each)
    return found


def _at_once(shape: tuple[int, ...]) -> int:
    """How many latents of a shape (channels, height, width) go into one call: what a VAE holds in a few GB."""
    return max(1, min(16, _LATENT_PIXELS // max(1, math.prod(shape[1:]))))


class _Items:
    """Writes items as they come: a sheet of thumbnails at a time, a page at a time."""

    def __init__(self, dataset: Dataset, folder: Folder, options: Options, apart: Apart | None) -> None:
        self._dataset, self._folder, self._options, self._apart = dataset, folder, options, apart
        self.pages: list[dict[str, int]] = []
        self.pictured = 0
        self.states: Counter[str] = Counter()
        self._start = 0
        self._begin()

    def _begin(self) -> None:
        self._columns = facts.Columns(self._dataset.job.items.columns)
        self._waiting: list[Entry] = []
        self._sheets: list[list[int] | None] = []
        self._kinds: list[str] = []
        self._batch: tuple[int, int] | None = None

    def add(self, entry: Entry) -> None:
        """Take the next item; a page ends with a batch, so that an item's neighbours are on its page."""
        batch = None if entry.row is None else (self._dataset.plan.shard_of(entry.index), entry.row.batch)
        if len(self._columns) >= self._options.page and (batch is None or batch != self._batch):
            self._end_page()
        self._batch = batch
        self._columns.add(entry)
        self.states[entry.state] += 1
        self._waiting.append(entry)
        if len(self._waiting) == PER_SHEET:
            self._end_sheet()

    def finish(self) -> None:
        """Write what is left."""
        if len(self._columns):
            self._end_page()

    def _end_sheet(self) -> None:
        page, number = len(self.pages), len(self._sheets)
        there = [(at, entry.row.output) for at, entry in enumerate(self._waiting) if entry.row is not None]
        found: list[Picture | None] = [None] * len(self._waiting)
        shown = shown_pictures([output for _, output in there], self._dataset.job.output, self._options.decode)
        for (at, _), each in zip(there, shown, strict=True):
            found[at] = each
        made = pictures.sheet(found)
        if made is not None:
            self._folder.put(f"sheets/{page:04d}-{number:04d}.webp", made.data)
        self._sheets.append(None if made is None else [made.width, made.height, made.rows])
        for entry, each in zip(self._waiting, found, strict=True):
            self._kinds.append("0" if each is None else self._large(page, entry.index, each))
        self._waiting = []

    def _large(self, page: int, index: int, made: Picture) -> str:
        """Keep a picture that is larger than its thumbnail; ``2`` where it has a file of its own, else ``1``."""
        self.pictured += 1
        if max(made.shape[:2]) <= pictures.THUMB:
            return "1"
        data = pictures.encoded(pictures.reduced(made, pictures.LARGE), exact=False)
        self._folder.put(f"pictures/{page:04d}/{index}.webp", data)
        return "2"

    def _end_page(self) -> None:
        if self._waiting:
            self._end_sheet()
        number, start, stop = len(self.pages), self._start, self._start + len(self._columns)
        told = {"number": number, "start": start, **self._columns.facts()}
        told |= {"sheets": self._sheets, "pictured": "".join(self._kinds)}
        if self._apart is not None:
            linf = self._apart.linf[start:stop]
            told["linf"] = [None if math.isnan(each) else each for each in linf]
            told["verdict"] = "".join(map(str, self._apart.verdicts[start:stop]))
        self._folder.put(f"data/items-{number:04d}.js", facts.script("page", told))
        self.pages.append({"start": start, "stop": stop})
        self._start = stop
        self._begin()


def _dataset(dataset: Dataset, items: _Items, shown: int, options: Options) -> dict[str, Any]:
    job, contract = dataset.job, dataset.contract
    logged = journal.read(dataset.store)
    plain = snippet.template(job, contract)
    shards = [span.start for span in map(dataset.plan.shard, range(dataset.plan.shards)) if span.start < shown]
    return {
        "name": job.name,
        "place": options.name,
        "items": len(dataset),
        "shown": shown,
        "pages": items.pages,
        "shards": shards,
        "states": {state: items.states[state] for state in STATES},
        "columns": {name: kind for name, kind in job.items.columns.items() if name != "seed"},
        "pictures": items.pictured,
        "output": job.output,
        "perSheet": PER_SHEET,
        "sheetColumns": pictures.COLUMNS,
        "batchSize": job.batch_size,
        "command": f"reprobatch regenerate {_argument(options.name)}",
        "snippet": {"parts": facts.plain(plain.parts), "alone": plain.alone, "why": plain.why},
        "contract": facts.contract_rows(contract),
        "notes": [] if contract is None else [*contract.causes, *contract.notes],
        "identity": facts.identity(dataset),
        "environments": facts.environments(dataset),
        "job": facts.job_text(dataset),
        "runs": run.runs(logged),
        "attempts": run.attempts(logged),
    }


def _argument(place: str) -> str:
    """A dataset's place as an argument of a shell command; what begins like an option is no option."""
    return shlex.quote(f"./{place}" if place.startswith("-") and not is_url(place) else place)


def _beside(
    dataset: Dataset, other: tuple[str, Dataset], found: Apart, folder: Folder, options: Options
) -> dict[str, Any]:
    """The furthest items side by side: a strip of A, B and their difference each."""
    shown = []
    for index in found.worst:
        (a, _), (b, _) = dataset.look_up(index), other[1].look_up(index)
        (left,) = shown_pictures([a.output], dataset.job.output, options.decode)
        (right,) = shown_pictures([b.output], other[1].job.output, options.decode_other)
        apart = pictures.difference(left, right, a.output, b.output, dataset.job.output)
        made = [left, right, None if apart is None else apart.picture]
        if any(each is not None for each in made):
            folder.put(f"apart/{index}.webp", pictures.encoded(pictures.strip(made, _STRIP), exact=True))
        shown.append(
            {
                "index": index,
                "made": [each is not None for each in made],
                "of": None if apart is None else apart.of,
                "gain": None if apart is None else apart.gain,
                "checksums": [a.checksum, b.checksum],
            }
        )
    told = {"a": options.name, "b": other[0], "why": found.why, "differing": found.differing, "shown": shown}
    return {**told, "facts": facts.plain(found.facts)}
