"""Facts for the page: everything of a dataset but its items, and its items in columns."""

from __future__ import annotations

import json
import math
from typing import Any

from reprobatch import canonical
from reprobatch.contract import INFORMATION, QUESTIONS, REQUIRED, Contract
from reprobatch.dataset import Dataset
from reprobatch.page.entries import STATES, Entry

_SAFE = 2**53  # whole numbers above it are not exact in a browser


def script(name: str, value: Any) -> bytes:
    """A script that hands a value to ``reprobatch.NAME``, which a page may load from a file.

    ASCII and without ``<``, so that nothing in a value ends a script or begins a tag, wherever it may be put; parsed
    as JSON, to which no name is special (``__proto__`` is to JavaScript).
    """
    text = json.dumps(json.dumps(value, allow_nan=False, separators=(",", ":"))).replace("<", "\\u003c")
    return f"reprobatch.{name}(JSON.parse({text}));\n".encode()


def plain(value: Any) -> Any:
    """A value that JSON and a browser keep as it is: large whole numbers and what is no number become text."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if abs(value) < _SAFE else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)


def contract_rows(contract: Contract | None) -> list[dict[str, Any]]:
    """The answers with their questions, in the order in which they are asked."""
    if contract is None:
        return []
    order = {name: place for place, name in enumerate(QUESTIONS)}
    kinds = {**dict.fromkeys(REQUIRED, "required"), **dict.fromkeys(INFORMATION, "information")}
    return [
        {
            "name": name.replace("_", " "),
            "asks": QUESTIONS.get(name, ""),
            "holds": answer.holds,
            "linf": plain(answer.linf),
            "why": answer.why,
            "kind": kinds.get(name, ""),
        }
        for name, answer in sorted(contract.answers.items(), key=lambda entry: order.get(entry[0], len(order)))
    ]


def rows(facts: Any, above: str = "") -> list[list[str]]:
    """A nested mapping as rows of a dotted name and a text."""
    if not isinstance(facts, dict):
        text = " ".join(map(str, facts)) if isinstance(facts, list) else "none" if facts is None else str(facts)
        return [[above, text]]
    return [row for name, each in facts.items() for row in rows(each, f"{above}.{name}" if above else str(name))]


def environments(dataset: Dataset) -> list[dict[str, Any]]:
    """The machines that made the dataset, each under its canary."""
    manifest = dataset.manifest
    known = manifest.get("environments")
    if not isinstance(known, dict) or not known:
        canary, facts = manifest.get("canary"), manifest.get("environment")
        known = {canary.get("checksum", ""): facts} if isinstance(canary, dict) and isinstance(facts, dict) else {}
    return [{"canary": canary, "rows": rows(facts)} for canary, facts in known.items()]


def identity(dataset: Dataset) -> list[list[str]]:
    """What names the dataset and its job, as rows."""
    job, manifest = dataset.job, dataset.manifest
    spec = job.pipeline
    named = {
        "root": manifest.get("root", "none; the dataset is not complete"),
        "job digest": job.digest,
        "model": spec.model + (f" at {spec.revision}" if spec.revision else ""),
        "model digest": spec.model_digest,
        "pipeline": spec.class_name,
        "output": ", ".join([job.output, *job.also]),
        "items": len(dataset),
        "shards": dataset.plan.shards,
        "batch size": job.batch_size,
        "seed scheme": job.seed_scheme,
        "determinism": job.determinism.profile,
    }
    return rows(named)


def job_text(dataset: Dataset) -> str:
    """The job, to be read."""
    return json.dumps(json.loads(canonical.dumps(dataset.job.as_dict())), indent=2, ensure_ascii=False)


class Columns:
    """The items of one page, in columns; texts that come again are kept once."""

    def __init__(self, names: dict[str, str]) -> None:
        self._own = {name: _Values() for name in names if name != "seed"}
        self._fixed: dict[str, list[Any]] = {name: [] for name in ("seed", "batch", "slot", "checksum")}
        self._shapes = _Values()
        self._states: list[str] = []
        self._why: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._states)

    def add(self, entry: Entry) -> None:
        """Take the next item in."""
        row = entry.row
        if entry.why is not None:
            self._why[len(self)] = entry.why
        self._states.append(str(STATES.index(entry.state)))
        for name, values in self._fixed.items():
            values.append(None if row is None else plain(row.stored if name == "checksum" else getattr(row, name)))
        for name, own in self._own.items():
            own.add(None if row is None else plain(row.item.get(name)))
        self._shapes.add(None if row is None else f"{row.output.dtype} {list(row.output.shape)}")

    def facts(self) -> dict[str, Any]:
        """Plain JSON values."""
        own = {name: values.facts() for name, values in self._own.items()}
        return {
            **self._fixed,
            "state": "".join(self._states),
            "why": self._why,
            "own": own,
            "shape": self._shapes.facts(),
        }


class _Values:
    """A column: its different values, and for each item which one."""

    def __init__(self) -> None:
        self._codes: dict[tuple[type, Any], int] = {}
        self._of: list[int] = []

    def add(self, value: Any) -> None:
        key = (type(value), value if isinstance(value, str | int | float | bool | None) else canonical.dumps(value))
        self._of.append(self._codes.setdefault(key, len(self._codes)))

    def facts(self) -> dict[str, Any]:
        return {"values": [value for _, value in self._codes], "codes": self._of}
