"""A dataset's fingerprint: Merkle tree hashing after RFC 9162, section 2.1.

The leaves are the items' checksums in index order; the root fingerprints all of them. Three properties
are what it is here for:

- the root does not depend on how the items were cut into shards: each shard keeps the `CompactRange` of
  its own items, and merging those of all shards gives the root without reading an item again;
- an inclusion proof shows that one item belongs to a dataset, with about log2(n) hashes;
- a consistency proof shows that a larger dataset extends a smaller one and changed nothing in it.

Leaves hash as ``SHA-256(0x00 || data)`` and inner nodes as ``SHA-256(0x01 || left || right)``, so that no
inner node can be passed off as a leaf. Compact ranges are those of transparency-dev/merkle
(``docs/compact_ranges.md``).

Verifiers answer ``False`` to whatever is malformed; only builders raise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from operator import index as as_index

HASH_BYTES = 32

EMPTY_ROOT = sha256(b"").digest()
"""Root of a tree without leaves."""

_LARGEST = 2**64 - 1  # RFC 9162 keeps tree sizes in 64 bits; the bound also keeps verifiers quick
_NUMBER = "(0|[1-9][0-9]{0,19})"
_HEX = "[0-9a-f]{64}"
_TEXT = re.compile(f"{_NUMBER}:{_NUMBER}:((?:{_HEX}(?:,{_HEX})*)?)")


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf, 32 bytes: ``SHA-256(0x00 || data)``."""
    return sha256(b"\x00" + data).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
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
        if not 0 <= self.begin <= self.end <= _LARGEST:
            raise ValueError(f"expected 0 <= begin <= end < 2**64, got begin {self.begin} and end {self.end}")
        expected = sum(1 for _ in _subtrees(self.begin, self.end))
        if len(self.hashes) != expected:
            covered = f"leaves {self.begin} to {self.end} (exclusive)"
            raise ValueError(f"expected {expected} hashes for {covered}, got {len(self.hashes)}")
        _require_hashes(self.hashes)

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
        _require_hashes(nodes)
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
            nodes = [_node_hash(*pair) for pair in zip(nodes[0::2], nodes[1::2], strict=True)]
            number //= 2
        return cls(begin, end, (*left, *reversed(right)))

    def merge(self, other: CompactRange) -> CompactRange:
        """Join with the range that starts where this one ends, in O(log n).

        Raises
        ------
        ValueError
            The ranges are not adjacent in this order: sort the shards, and look for a missing one.
        """
        if other.begin != self.end:
            raise ValueError(f"expected the range that begins at leaf {self.end}, got one that begins at {other.begin}")
        done = list(self._nodes())
        for start, size, digest in other._nodes():
            # Odd in its level: a right child. Its left sibling, if complete, is what was put down last.
            while done and done[-1][1] == size and start // size % 2:
                start, _, sibling = done.pop()
                size, digest = 2 * size, _node_hash(sibling, digest)
            done.append((start, size, digest))
        return CompactRange(self.begin, other.end, tuple(digest for _, _, digest in done))

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
            digest = _node_hash(left, digest)
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


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Prove that a leaf is in the tree: ``PATH(index, D_n)`` of RFC 9162, section 2.1.3.1.

    Parameters
    ----------
    leaf_hashes : sequence of bytes
        All leaves of the tree, as `leaf_hash` returned them.
    index : int
        The leaf, 0 to ``len(leaf_hashes) - 1``.

    Returns
    -------
    list of bytes
        The siblings from the leaf up, 32 bytes each; empty for a tree of one leaf.

    Raises
    ------
    ValueError
        There is no such leaf, or an element is not 32 bytes long.
    """
    begin, end = 0, len(leaf_hashes)
    if not 0 <= index < end:
        raise ValueError(f"expected the index of one of {end} leaves, got {index}")
    proof: list[bytes] = []
    while end - begin > 1:
        middle = begin + _left_size(end - begin)
        if index < middle:
            proof.append(_root(leaf_hashes[middle:end]))
            end = middle
        else:
            proof.append(_root(leaf_hashes[begin:middle]))
            begin = middle
    return proof[::-1]


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Check an inclusion proof by the algorithm of RFC 9162, section 2.1.3.2.

    The proof speaks about `root`, not about `size`: some sizes lead along the same path. Take root and size
    from the same trusted place.

    Parameters
    ----------
    leaf_hash : bytes
        What the module's `leaf_hash` returns for the leaf, 32 bytes.
    index, size : int
        Number of the leaf, and of all leaves.
    proof : list or tuple of bytes
        What `inclusion_proof` returned.
    root : bytes
        Root of the tree, 32 bytes.

    Returns
    -------
    bool
        Whether the leaf is number `index` of the tree. False for anything malformed; never raises.
    """
    position, leaves = _as_count(index), _as_count(size)
    if position is None or leaves is None or position >= leaves or not _are_hashes(proof, leaf_hash, root):
        return False
    folded = _fold([leaf_hash, *proof], position, leaves - 1)
    return folded is not None and folded[1] == root


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """Prove that a tree extends its first leaves: ``PROOF(old_size, D_n)`` of RFC 9162, section 2.1.4.1.

    Parameters
    ----------
    leaf_hashes : sequence of bytes
        All leaves of the new tree, as `leaf_hash` returned them.
    old_size : int
        Leaves of the old tree, 1 to ``len(leaf_hashes)``.

    Returns
    -------
    list of bytes
        32 bytes each; empty if the sizes are equal.

    Raises
    ------
    ValueError
        The old size is outside that range, or an element is not 32 bytes long. A tree without leaves has no
        consistency proof: every tree extends it.
    """
    begin, end = 0, len(leaf_hashes)
    if not 0 < old_size <= end:
        raise ValueError(f"expected an old size of 1 to {end} leaves, got {old_size}")
    proof: list[bytes] = []
    while old_size < end:
        middle = begin + _left_size(end - begin)
        if old_size <= middle:
            proof.append(_root(leaf_hashes[middle:end]))
            end = middle
        else:
            proof.append(_root(leaf_hashes[begin:middle]))
            begin = middle
    if begin:
        # Otherwise what remains is the whole old tree, whose root the verifier has.
        proof.append(_root(leaf_hashes[begin:end]))
    return proof[::-1]


def verify_consistency(old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Check a consistency proof by the algorithm of RFC 9162, section 2.1.4.2.

    Parameters
    ----------
    old_size, new_size : int
        Leaves of the two trees, ``1 <= old_size <= new_size``. As with inclusion, take each from where its
        root comes from.
    proof : list or tuple of bytes
        What `consistency_proof` returned.
    old_root, new_root : bytes
        Roots of the two trees, 32 bytes each.

    Returns
    -------
    bool
        Whether the first `old_size` leaves of the new tree are those of the old. At equal sizes: whether the
        roots are equal and the proof empty. False for anything malformed and for an old size of 0, from
        which nothing about the new root would follow; never raises.
    """
    old, new = _as_count(old_size), _as_count(new_size)
    if not old or not new or old > new or not _are_hashes(proof, old_root, new_root):
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn % 2:
        fn, sn = fn >> 1, sn >> 1
    return _fold(path, fn, sn) == (old_root, new_root)


def _fold(path: list[bytes], fn: int, sn: int) -> tuple[bytes, bytes] | None:
    """The loop that both verifiers of the RFC share, in its names; `path` starts with the node to climb from.

    Returns the RFC's ``fr`` and ``sr``, the roots of the old and the new tree (inclusion needs the second),
    or None if the path is too short or too long.
    """
    fr = sr = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return None
        if fn % 2 or fn == sn:
            fr, sr = _node_hash(sibling, fr), _node_hash(sibling, sr)
            while fn and not fn % 2:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = _node_hash(sr, sibling)
        fn, sn = fn >> 1, sn >> 1
    return (fr, sr) if sn == 0 else None


def _root(leaf_hashes: Sequence[bytes]) -> bytes:
    return CompactRange.of(0, leaf_hashes).root()


def _left_size(size: int) -> int:
    """The RFC's k: the largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def _subtrees(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """First leaf and size of each subtree in the compact range, left to right."""
    while begin < end:
        fitting = 1 << (end - begin).bit_length() - 1
        aligned = begin & -begin
        size = min(fitting, aligned) if begin else fitting
        yield begin, size
        begin += size


def _is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == HASH_BYTES


def _require_hashes(hashes: Sequence[bytes]) -> None:
    if not all(map(_is_hash, hashes)):
        position = next(number for number, value in enumerate(hashes) if not _is_hash(value))
        raise ValueError(f"expected hashes of {HASH_BYTES} bytes, got {hashes[position]!r:.80} at position {position}")


def _are_hashes(proof: object, *others: object) -> bool:
    return isinstance(proof, list | tuple) and all(map(_is_hash, (*proof, *others)))


def _as_count(value: object) -> int | None:
    try:
        count = as_index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
    return count if 0 <= count <= _LARGEST else None
