"""A proof as a file: JSON that can be checked with nothing but the published root.

Everything in it is either part of what is proved or needed to prove it. A root is a hash over checksums, so it
binds neither a job nor a seed nor a prompt, and none of them is in the file: a reader would take them for
proved. They are in the rows and the manifest, which can be signed (:mod:`reprobatch.signature`).

What follows from a proof that holds depends on what is known from elsewhere. With the root: the checksum is one
of the dataset's. With root and size: it is that of item ``index``. The root alone does not fix the size, and with
another size the same path can stand for another index.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field, ValidationError

from reprobatch import canonical, findings, proof, record
from reprobatch.errors import JobError
from reprobatch.merkle import LARGEST
from reprobatch.settings import Strict

FORMAT = "reprobatch-proof/1"
LIMIT = 1 << 16  # bytes of a file; the longest proof there can be has a tenth of that
HASH = r"^[0-9a-f]{64}$"
_LONGEST = 65  # hashes: one a level of a tree with 2**64 leaves, and one more for consistency
_SHOWN = 300  # characters of a message about what somebody else wrote
_PATTERNS = {HASH: "expected 64 digits 0-9 and a-f"}

Hash = Annotated[str, Field(pattern=HASH)]
Size = Annotated[int, Field(ge=1, le=LARGEST)]
Hashes = Annotated[list[Hash], Field(max_length=_LONGEST)]


class InclusionProof(Strict):
    """Item ``index`` of the ``size`` items under ``root`` has this checksum."""

    format: Literal["reprobatch-proof/1"] = "reprobatch-proof/1"
    kind: Literal["inclusion"] = "inclusion"
    index: int = Field(ge=0, lt=LARGEST)
    checksum: Hash
    size: Size
    root: Hash
    path: Hashes

    @property
    def holds(self) -> bool:
        """Whether the path leads from the checksum to the root."""
        leaf = record.leaf(self.checksum)
        return proof.verify_inclusion(leaf, self.index, self.size, _bytes(self.path), bytes.fromhex(self.root))


class ConsistencyProof(Strict):
    """The first ``old_size`` of the ``size`` items under ``root`` are those under ``old_root``, unchanged."""

    format: Literal["reprobatch-proof/1"] = "reprobatch-proof/1"
    kind: Literal["consistency"] = "consistency"
    old_size: Size
    old_root: Hash
    size: Size
    root: Hash
    path: Hashes

    @property
    def holds(self) -> bool:
        """Whether the path leads to both roots."""
        old, new = bytes.fromhex(self.old_root), bytes.fromhex(self.root)
        return proof.verify_consistency(self.old_size, self.size, _bytes(self.path), old, new)


Proof = InclusionProof | ConsistencyProof
_KINDS: dict[str, type[InclusionProof] | type[ConsistencyProof]] = {
    "inclusion": InclusionProof,
    "consistency": ConsistencyProof,
}
PUBLISHED = ("root", "size", "old_root", "old_size")


@dataclass(frozen=True)
class Checked:
    """What a check found: problems, and what was believed because the proof says so itself."""

    problems: list[str]
    on_trust: list[str]


def check(made: Proof, published: Mapping[str, str | int]) -> Checked:
    """Check a proof against what was published of the dataset, or of the two: some of :data:`PUBLISHED`.

    Raises :class:`JobError` where something is given that such a proof does not speak about.
    """
    problems, on_trust = [], []
    for name in PUBLISHED:
        if name not in type(made).model_fields:
            if name in published:
                raise JobError(f"expected no {name} for an inclusion proof, found {published[name]}; leave it out")
            continue
        said = getattr(made, name)
        if name not in published:
            on_trust.append(name)
        elif said != published[name]:
            problems.append(f"{name}: expected {published[name]}, found {said} in the proof")
    if not made.holds:
        ends = "from the checksum to the root" if made.kind == "inclusion" else "to both roots"
        problems.append(f"path: expected {len(made.path)} hashes that lead {ends}, found others")
    return Checked(problems, on_trust)


def is_hash(text: str) -> bool:
    """Whether this is how a root is written: 64 lower-case hexadecimal digits."""
    return re.fullmatch(HASH, text) is not None


def text(made: Proof) -> str:
    """The file's content: canonical JSON in one line, the same for the same proof."""
    return canonical.dumps(made.model_dump(mode="json")) + "\n"


def read(path: Path) -> Proof:
    """Read a proof's file; raises :class:`JobError` as :func:`parse` does, and where there is no such file."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise JobError(f"cannot read the proof '{path}': {error.strerror}; check the path") from None
    return parse(data, str(path))


def parse(data: bytes, origin: str) -> Proof:
    """Read what :func:`text` wrote, from anybody.

    Raises :class:`JobError`, in one line, for whatever is no proof: too long, no JSON, a key twice, missing or
    unknown, a value of another type or out of range.
    """
    try:
        return _parse(data)
    except JobError as error:
        said = "".join(char if char.isprintable() else "?" for char in str(error))  # keys may hold anything
        raise JobError(f"{origin}: {said if len(said) <= _SHOWN else said[:_SHOWN] + '...'}") from None


def _parse(data: bytes) -> Proof:
    if len(data) > LIMIT:
        raise JobError(f"expected a proof of at most {LIMIT} bytes, found a longer file; give another")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError:
        raise JobError("expected a proof, found JSON that is nested too deeply; give another file") from None
    except ValueError as error:
        raise JobError(f"expected a proof in JSON, found something else ({error}); give another file") from None
    if not isinstance(value, dict):
        raise JobError(f"expected a JSON object, found {canonical.shown(value)}; give another file")
    if value.get("format") != FORMAT:
        raise JobError(f"expected format {FORMAT}, found {canonical.shown(value.get('format'))}")
    kind = value.get("kind")
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise JobError(f"expected a proof of kind {' or '.join(_KINDS)}, found {canonical.shown(kind)}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise JobError(findings.in_a_line(error, model, _PATTERNS)) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"the number {constant}")


def _bytes(path: list[str]) -> list[bytes]:
    return [bytes.fromhex(digest) for digest in path]
