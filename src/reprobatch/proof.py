"""Inclusion and consistency proofs of a Merkle tree, after RFC 9162, sections 2.1.3 and 2.1.4.

Verifiers answer ``False`` to whatever is malformed; only builders raise.

Every hash of a proof is the root of a subtree that ends, or begins, where the path to one place in the tree
passes by: to the leaf, or to the old tree's end. Subtrees are nested or disjoint, so a compact range that does
not reach across that place holds no hash that covers more than one of these subtrees. That is why a proof can be
put together from the shards' compact ranges, wherever shards end, if only the one shard around that place is cut
there: `inclusion_from_ranges` and `consistency_from_ranges`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import index as as_index

from reprobatch.merkle import LARGEST, CompactRange, is_hash, node_hash


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
    return [_root(leaf_hashes[begin:end]) for begin, end in _inclusion_spans(index, len(leaf_hashes))]


def inclusion_from_ranges(ranges: Sequence[CompactRange], index: int) -> list[bytes]:
    """The same proof from consecutive compact ranges of the whole tree, such as a dataset's shards carry.

    Parameters
    ----------
    ranges : sequence of CompactRange
        From leaf 0 on, in order, without gaps. The one that holds leaf `index` is cut before and after it.
    index : int
        The leaf.

    Raises
    ------
    ValueError
        There is no such leaf, a range is missing, or one of its hashes covers the leaf and others.
    """
    tree = _Tree(ranges)
    return [tree.root(begin, end) for begin, end in _inclusion_spans(index, tree.size)]


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
    return [_root(leaf_hashes[begin:end]) for begin, end in _consistency_spans(old_size, len(leaf_hashes))]


def consistency_from_ranges(ranges: Sequence[CompactRange], old_size: int) -> list[bytes]:
    """The same proof from consecutive compact ranges of the whole new tree.

    Parameters
    ----------
    ranges : sequence of CompactRange
        From leaf 0 on, in order, without gaps. One of them ends where the old tree does.
    old_size : int
        Leaves of the old tree.

    Raises
    ------
    ValueError
        The old size is outside of 1 to the tree's, a range is missing, or one of its hashes covers old leaves and
        new ones.
    """
    tree = _Tree(ranges)
    return [tree.root(begin, end) for begin, end in _consistency_spans(old_size, tree.size)]


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
            fr, sr = node_hash(sibling, fr), node_hash(sibling, sr)
            while fn and not fn % 2:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, sibling)
        fn, sn = fn >> 1, sn >> 1
    return (fr, sr) if sn == 0 else None


def _inclusion_spans(index: int, size: int) -> list[tuple[int, int]]:
    """Leaves (begin, end) under each hash of an inclusion proof, from the leaf up."""
    if not 0 <= index < size:
        raise ValueError(f"expected the index of one of {size} leaves, got {index}")
    begin, end = 0, size
    spans: list[tuple[int, int]] = []
    while end - begin > 1:
        middle = begin + _left_size(end - begin)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((begin, middle))
            begin = middle
    return spans[::-1]


def _consistency_spans(old_size: int, size: int) -> list[tuple[int, int]]:
    """Leaves (begin, end) under each hash of a consistency proof, in its order."""
    if not 0 < old_size <= size:
        raise ValueError(f"expected an old size of 1 to {size} leaves, got {old_size}")
    begin, end = 0, size
    spans: list[tuple[int, int]] = []
    while old_size < end:
        middle = begin + _left_size(end - begin)
        if old_size <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((begin, middle))
            begin = middle
    if begin:
        # Otherwise what remains is the whole old tree, whose root the verifier has.
        spans.append((begin, end))
    return spans[::-1]


class _Tree:
    """A tree known by consecutive compact ranges."""

    def __init__(self, ranges: Sequence[CompactRange]) -> None:
        self._ranges = [part for part in ranges if part.begin < part.end]
        self._begins = [part.begin for part in self._ranges]
        self.size = 0
        for part in self._ranges:
            if part.begin != self.size:
                raise ValueError(f"expected the range that begins at leaf {self.size}, got one at {part.begin}")
            self.size = part.end

    def root(self, begin: int, end: int) -> bytes:
        """Root of a subtree of a path: one that begins at a multiple of its size, rounded up to a power of two."""
        parts = self._ranges[bisect_right(self._begins, begin) - 1 : bisect_left(self._begins, end)]
        whole = CompactRange.join(part.within(begin, end) for part in parts)
        return CompactRange(0, end - begin, whole.hashes).root()  # aligned, so it folds as a tree of its own does


def _root(leaf_hashes: Sequence[bytes]) -> bytes:
    return CompactRange.of(0, leaf_hashes).root()


def _left_size(size: int) -> int:
    """The RFC's k: the largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def _are_hashes(proof: object, *others: object) -> bool:
    return isinstance(proof, list | tuple) and all(map(is_hash, (*proof, *others)))


def _as_count(value: object) -> int | None:
    try:
        count = as_index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
    return count if 0 <= count <= LARGEST else None
