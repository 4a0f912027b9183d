"""Inclusion and consistency proofs of a Merkle tree, after RFC 9162, sections 2.1.3 and 2.1.4.

Verifiers answer ``False`` to whatever is malformed; only builders raise.
"""

from __future__ import annotations

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
            fr, sr = node_hash(sibling, fr), node_hash(sibling, sr)
            while fn and not fn % 2:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, sibling)
        fn, sn = fn >> 1, sn >> 1
    return (fr, sr) if sn == 0 else None


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
