"""A dataset's fingerprint: Merkle tree hashing after RFC 9162, section 2.1.

The leaves are the items' checksums in index order; the root fingerprints all of them. Three properties
are what it is here for:

- the root does not depend on how the items were cut into shards: each shard keeps the `CompactRange` of
  its own items, and merging those of all shards gives the root without reading an item again;
- an inclusion proof shows that one item belongs to a dataset, with about log2(n) hashes;
- a consistency proof shows that a larger dataset extends a smaller one and changed nothing in it.

Proofs are in :mod:`reprobatch.proof`.

Leaves hash as ``SHA-256(0x00 || data)`` and inner nodes as ``SHA-256(0x01 || left || right)``, so that no
inner node can be passed off as a leaf. Compact ranges are those of transparency-dev/merkle
(``docs/compact_ranges.md``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

HASH_BYTES = 32

EMPTY_ROOT = sha256(b"").digest()
"""Root of a tree without leaves."""

LARGEST = 2**64 - 1  # RFC 9162 keeps tree sizes in 64 bits; the bound also keeps verifiers quick
_NUMBER = "(0|[1-9][0-9]{0,19})"
_HEX = "[0-9a-f]{64}"
_TEXT = re.compile(f"{_NUMBER}:{_NUMBER}:((?:{_HEX}(?:,{_HEX})*)?)")


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf, 32 bytes: ``SHA-256(0x00 || data)``."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node, 32 bytes: ``SHA-256(0x01 || left || right)``."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class CompactRange:
    """The leaves ``begin`` to ``end - 1`` of a tree, folded into as few hashes as possible.

    Parameters
    ----------
    begin, end : int
        The leaves covered, ``0 <= begin <= end < 2**64``. The range may be empty.
    hashes : tuple of bytes
        Roots, 32 bytes each and left to right, of the largest perfect subtrees that together cover the
        range: each has ``2**k`` leaves and starts at a multiple of ``2**k``. Fewer than 128.

    Raises
    ------
    ValueError
        The bounds are not those of a range, or the hashes are not as many, or not of the size, that the
        range has.
    """

    begin: int
    end: int
    hashes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= self.end <= LARGEST:
            raise ValueError(f"expected 0 <= begin <= end < 2**64, got begin {self.begin} and end {self.end}")
        expected = sum(1 for _ in _subtrees(self.begin, self.end))
        if len(self.hashes) != expected:
            covered = f"leaves {self.begin} to {self.end} (exclusive)"
            raise ValueError(f"expected {expected} hashes for {covered}, got {len(self.hashes)}")
        require_hashes(self.hashes)

    @classmethod
    def of(cls, begin: int, leaf_hashes: Iterable[bytes]) -> CompactRange:
        """Fold consecutive leaves, the first of which is leaf number `begin` of the whole tree.

        Parameters
        ----------
        begin : int
            Number of the first leaf.
        leaf_hashes : iterable of bytes
            What `leaf_hash` returned for each leaf, in order. May be empty.

        Returns
        -------
        CompactRange
            One hash computation per pair of leaves; about a second for a million leaves.

        Raises
        ------
        ValueError
            `begin` is negative, or an element is not 32 bytes long.
        """
        nodes = list(leaf_hashes)
        require_hashes(nodes)
        end = begin + len(nodes)
        left: list[bytes] = []
        right: list[bytes] = []
        number = begin
        while nodes:
            # At either end, a node whose sibling lies outside the range can grow no further.
            if number % 2:
                left.append(nodes.pop(0))
                number += 1
            if (number + len(nodes)) % 2:
                right.append(nodes.pop())
            nodes = [node_hash(*pair) for pair in zip(nodes[0::2], nodes[1::2], strict=True)]
            number //= 2
        return cls(begin, end, (*left, *reversed(right)))

    def merge(self, other: CompactRange) -> CompactRange:
        """Join with the range that starts where this one ends, in O(log n).

        Raises
        ------
        ValueError
            The ranges are not adjacent in this order: sort the shards, and look for a missing one.
        """
        return CompactRange.join([self, other])

    @classmethod
    def join(cls, ranges: Iterable[CompactRange]) -> CompactRange:
        """Join consecutive ranges into one, at a few hash computations for each; without any, ``0:0:``.

        Raises
        ------
        ValueError
            A range does not begin where the one before it ends.
        """
        begin = end = None
        done: list[tuple[int, int, bytes]] = []
        for part in ranges:
            if end is not None and part.begin != end:
                raise ValueError(f"expected the range that begins at leaf {end}, got one that begins at {part.begin}")
            begin, end = part.begin if begin is None else begin, part.end
            for start, size, digest in part._nodes():
                # Odd in its level: a right child. Its left sibling, if complete, is what was put down last.
                while done and done[-1][1] == size and start // size % 2:
                    start, _, sibling = done.pop()
                    size, digest = 2 * size, node_hash(sibling, digest)
                done.append((start, size, digest))
        return cls(begin or 0, end or 0, tuple(digest for _, _, digest in done))

    def within(self, begin: int, end: int) -> CompactRange:
        """The part of this range that lies among the leaves ``begin`` to ``end - 1``; may be empty.

        Raises
        ------
        ValueError
            One of the hashes covers leaves inside and outside, so that they cannot be told apart.
        """
        first, last = max(begin, self.begin), min(end, self.end)
        if first >= last:
            return CompactRange(begin, begin, ())
        kept: list[bytes] = []
        for start, size, digest in self._nodes():
            inside = begin <= start and start + size <= end
            if not inside and start < end and begin < start + size:
                raise ValueError(
                    f"expected a range cut at leaf {begin} and at {end}, got one whose hash covers "
                    f"leaves {start} to {start + size} (exclusive)"
                )
            if inside:
                kept.append(digest)
        return CompactRange(first, last, tuple(kept))

    def root(self) -> bytes:
        """Root, 32 bytes, of the tree of the leaves covered.

        Raises
        ------
        ValueError
            The range does not begin at leaf 0. Merge it to those before it first.
        """
        if self.begin:
            raise ValueError(f"only a range from leaf 0 on has a root, this one begins at leaf {self.begin}")
        if not self.hashes:
            return EMPTY_ROOT
        *rest, digest = self.hashes
        for left in reversed(rest):
            digest = node_hash(left, digest)
        return digest

    def to_text(self) -> str:
        """One line of ASCII, ``begin:end:hex,hex,...``: the same text for the same range, always."""
        return f"{self.begin}:{self.end}:{','.join(digest.hex() for digest in self.hashes)}"

    @classmethod
    def from_text(cls, text: str) -> CompactRange:
        """Read what `to_text` wrote.

        Raises
        ------
        ValueError
            In one line: the text is not of that form (numbers without leading zeros, lower-case hex, no
            spaces), or holds another number of hashes than its range has. The file it came from is damaged
            or was edited.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"expected a compact range 'begin:end:hex,hex,...', got {text[:80]!r}")
        begin, end, digests = match.groups()
        hashes = tuple(bytes.fromhex(digest) for digest in digests.split(",") if digest)
        return cls(int(begin), int(end), hashes)

    def _nodes(self) -> Iterator[tuple[int, int, bytes]]:
        for (start, size), digest in zip(_subtrees(self.begin, self.end), self.hashes, strict=True):
            yield start, size, digest


def _subtrees(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """First leaf and size of each subtree in the compact range, left to right."""
    while begin < end:
        fitting = 1 << (end - begin).bit_length() - 1
        aligned = begin & -begin
        size = min(fitting, aligned) if begin else fitting
        yield begin, size
        begin += size


def is_hash(value: object) -> bool:
    """Whether a value is a hash of 32 bytes."""
    return isinstance(value, bytes) and len(value) == HASH_BYTES


def require_hashes(hashes: Sequence[bytes]) -> None:
    if not all(map(is_hash, hashes)):
        position = next(number for number, value in enumerate(hashes) if not is_hash(value))
        raise ValueError(f"expected hashes of {HASH_BYTES} bytes, got {hashes[position]!r:.80} at position {position}")
