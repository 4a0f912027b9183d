"""Merkle trees, held against three oracles.

The recursive definitions of RFC 9162 written down as they stand there, the test vectors of Certificate
Transparency (as published in transparency-dev/merkle), and the package pymerkle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pymerkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobatch import merkle
from reprobatch import proof as proofs
from reprobatch.merkle import CompactRange

GOLDEN = Path(__file__).parent / "golden" / "merkle-rfc9162.json"
ENTRIES = [f"item {number}".encode() for number in range(300)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]
STRANGER = bytes(range(32))

reproducibly = settings(deadline=None, derandomize=True)


# The RFC's definitions, section 2.1


def split(size: int) -> int:
    """k: the largest power of two smaller than n."""
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def mth(entries: list[bytes]) -> bytes:
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = split(len(entries))
    return sha256(b"\x01" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: list[bytes]) -> list[bytes]:
    if len(entries) == 1:
        return []
    k = split(len(entries))
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def subproof(m: int, entries: list[bytes], whole: bool) -> list[bytes]:
    if m == len(entries):
        return [] if whole else [mth(entries)]
    k = split(len(entries))
    if m <= k:
        return [*subproof(m, entries[:k], whole), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], False), mth(entries[:k])]


def way(m: int, size: int) -> str:
    """On which sides an inclusion proof's hashes lie: all that a verifier can know of index and size."""
    if size == 1:
        return ""
    k = split(size)
    return way(m, k) + "r" if m < k else way(m - k, size - k) + "l"


def consistency_way(m: int, size: int, whole: bool = True) -> str:
    if m == size:
        return "old" if whole else "node"
    k = split(size)
    if m <= k:
        return consistency_way(m, k, whole) + "r"
    return consistency_way(m - k, size - k, whole=False) + "l"


def perfect_subtrees(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """By definition: aligned, inside the range, and inside no larger such subtree."""
    sizes = [2**level for level in range(10)]
    inside = [
        (first, first + size)
        for size in sizes
        for first in range(0, end, size)
        if begin <= first and first + size <= end
    ]
    for first, last in sorted(inside):
        if not any(a <= first and last <= b and (a, b) != (first, last) for a, b in inside):
            yield first, last


# Cases

some_leaves = st.lists(st.sampled_from(LEAVES), max_size=70)


@st.composite
def inclusion_cases(draw: st.DrawFn, smallest: int = 1) -> tuple[int, int, list[bytes]]:
    size = draw(st.integers(smallest, len(LEAVES)))
    index = draw(st.integers(0, size - 1))
    return index, size, proofs.inclusion_proof(LEAVES[:size], index)


@st.composite
def consistency_cases(draw: st.DrawFn) -> tuple[int, int, list[bytes]]:
    new = draw(st.integers(2, len(LEAVES)))
    old = draw(st.integers(1, new - 1))
    return old, new, proofs.consistency_proof(LEAVES[:new], old)


def root(size: int) -> bytes:
    return CompactRange.of(0, LEAVES[:size]).root()


def with_one_bit_flipped(parts: list[bytes], bit: int) -> list[bytes]:
    joined = bytearray(b"".join(parts))
    joined[bit // 8] ^= 1 << bit % 8
    return [bytes(joined[at : at + 32]) for at in range(0, len(joined), 32)]


def mangled(proof: list[bytes]) -> Iterator[list[bytes]]:
    """Every proof that is a hash short, a hash long, or in another order by one swap."""
    for at in range(len(proof)):
        yield proof[:at] + proof[at + 1 :]
    for at in range(len(proof) + 1):
        for extra in {STRANGER, *proof}:
            yield [*proof[:at], extra, *proof[at:]]
    for a, b in combinations(range(len(proof)), 2):
        swapped = list(proof)
        swapped[a], swapped[b] = swapped[b], swapped[a]
        yield swapped


# Published vectors


@pytest.fixture(scope="module")
def golden() -> Any:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def golden_leaves(golden: Any) -> list[bytes]:
    return [merkle.leaf_hash(bytes.fromhex(entry)) for entry in golden["inputs"]]


def test_roots_are_the_published_ones(golden: Any, golden_leaves: list[bytes]) -> None:
    assert len(golden["roots"]) == 9
    for size, expected in enumerate(golden["roots"]):
        assert CompactRange.of(0, golden_leaves[:size]).root().hex() == expected
    assert merkle.EMPTY_ROOT.hex() == golden["roots"][0]


def test_inclusion_proofs_are_the_published_ones(golden: Any, golden_leaves: list[bytes]) -> None:
    for case in golden["inclusion"]:
        index, size = case["index"], case["size"]
        proof = proofs.inclusion_proof(golden_leaves[:size], index)
        assert [digest.hex() for digest in proof] == case["proof"]
        expected = bytes.fromhex(golden["roots"][size])
        assert proofs.verify_inclusion(golden_leaves[index], index, size, proof, expected)


def test_consistency_proofs_are_the_published_ones(golden: Any, golden_leaves: list[bytes]) -> None:
    for case in golden["consistency"]:
        old, new = case["old"], case["new"]
        proof = proofs.consistency_proof(golden_leaves[:new], old)
        assert [digest.hex() for digest in proof] == case["proof"]
        roots = [bytes.fromhex(golden["roots"][size]) for size in (old, new)]
        assert proofs.verify_consistency(old, new, proof, *roots)


def test_text_of_compact_ranges_never_changes(golden: Any, golden_leaves: list[bytes]) -> None:
    for text in golden["compact_ranges"]:
        begin, end = (int(number) for number in text.split(":")[:2])
        assert CompactRange.of(begin, golden_leaves[begin:end]).to_text() == text


# The definition


def test_leaves_and_nodes_hash_apart() -> None:
    left, right = LEAVES[:2]
    assert merkle.leaf_hash(b"") == sha256(b"\x00").digest()
    assert CompactRange.of(0, [left, right]).root() == sha256(b"\x01" + left + right).digest()
    assert merkle.leaf_hash(b"\x01" + left + right) != CompactRange.of(0, [left, right]).root()


@pytest.mark.parametrize("size", range(35))
def test_root_and_every_proof_are_those_of_the_definition(size: int) -> None:
    entries, leaves = ENTRIES[:size], LEAVES[:size]
    assert CompactRange.of(0, leaves).root() == mth(entries)
    for index in range(size):
        assert proofs.inclusion_proof(leaves, index) == path(index, entries)
    for old in range(1, size + 1):
        assert proofs.consistency_proof(leaves, old) == subproof(old, entries, True)


@pytest.mark.parametrize("begin", range(0, 24, 3))
def test_a_compact_range_holds_the_largest_perfect_subtrees(begin: int) -> None:
    for end in range(begin, 40):
        expected = [mth(ENTRIES[first:last]) for first, last in perfect_subtrees(begin, end)]
        assert CompactRange.of(begin, LEAVES[begin:end]) == CompactRange(begin, end, tuple(expected))


def test_pymerkle_agrees_on_prefixes_roots_and_inclusion_proofs() -> None:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    assert (tree.leaf_prefix, tree.node_prefix) == (b"\x00", b"\x01")
    for size, entry in enumerate(ENTRIES[:70], start=1):
        tree.append_entry(entry)
        assert tree.get_leaf(size) == LEAVES[size - 1]
        assert tree.get_root() == root(size)
    for index in range(70):
        # pymerkle counts from one and puts the leaf itself first.
        leaf, *siblings = tree.prove_inclusion(index + 1).path
        assert leaf == LEAVES[index]
        assert proofs.inclusion_proof(LEAVES[:70], index) == siblings


# Compact ranges


@reproducibly
@given(st.integers(0, 300), st.lists(st.integers(0, 300), max_size=8))
def test_however_the_items_are_cut_into_shards_the_root_is_the_same(size: int, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut <= size), size]
    whole = CompactRange.of(0, [])
    for begin, end in pairwise(edges):
        whole = whole.merge(CompactRange.of(begin, LEAVES[begin:end]))
    assert whole == CompactRange.of(0, LEAVES[:size])
    assert whole.root() == mth(ENTRIES[:size])


@reproducibly
@given(st.integers(0, 2**63), some_leaves, some_leaves, some_leaves)
def test_merging_is_associative(begin: int, first: list[bytes], second: list[bytes], third: list[bytes]) -> None:
    a = CompactRange.of(begin, first)
    b = CompactRange.of(a.end, second)
    c = CompactRange.of(b.end, third)
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == CompactRange.of(begin, first + second + third)


def test_billions_of_leaves_merge_without_being_counted_out() -> None:
    half = CompactRange(0, 2**40, (STRANGER,))
    other = CompactRange(2**40, 2**41, (STRANGER,))
    assert half.merge(other) == CompactRange(0, 2**41, (sha256(b"\x01" + STRANGER * 2).digest(),))


@reproducibly
@given(st.integers(0, 2**63), some_leaves)
def test_text_reads_back_as_the_same_range(begin: int, leaves: list[bytes]) -> None:
    span = CompactRange.of(begin, leaves)
    assert span.to_text().isascii()
    assert CompactRange.from_text(span.to_text()) == span


HEX = STRANGER.hex()
MISREAD = {
    "nothing": "",
    "no hashes field": "0:1",
    "one hash missing": "0:1:",
    "one hash too many": f"0:2:{HEX},{HEX}",
    "a hash for an empty range": f"3:3:{HEX}",
    "backwards": f"2:1:{HEX}",
    "negative": f"-1:0:{HEX}",
    "leading zero": f"00:1:{HEX}",
    "digits that are not ASCII": f"\u0660:1:{HEX}",
    "upper case": f"0:1:{HEX.upper()}",
    "short hash": f"0:1:{HEX[:-2]}",
    "long hash": f"0:1:{HEX}00",
    "trailing comma": f"0:1:{HEX},",
    "trailing newline": f"0:1:{HEX}\n",
    "space": f"0:1: {HEX}",
    "two lines": f"0:1:{HEX}\n0:1:{HEX}",
    "beyond 64 bits": f"0:{2**64}:{HEX}",
    "far beyond 64 bits": f"0:{'9' * 5000}:{HEX}",
}


@pytest.mark.parametrize("text", MISREAD.values(), ids=MISREAD.keys())
def test_text_that_is_no_range_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="expected") as refusal:
        CompactRange.from_text(text)
    assert len(str(refusal.value).splitlines()) == 1
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(("begin", "end"), [(5, 9), (3, 5), (0, 4), (0, 0)])
def test_only_a_range_that_starts_where_the_other_ends_is_merged(begin: int, end: int) -> None:
    first = CompactRange.of(0, LEAVES[:4])
    with pytest.raises(ValueError, match=f"begins at leaf 4, got one that begins at {begin}"):
        first.merge(CompactRange.of(begin, LEAVES[begin:end]))


def test_only_a_range_from_the_first_leaf_on_has_a_root() -> None:
    with pytest.raises(ValueError, match="begins at leaf 1"):
        CompactRange.of(1, LEAVES[1:4]).root()


@pytest.mark.parametrize("wrong", [b"", b"x" * 31, b"x" * 33, "x" * 32, bytearray(32), None])
def test_what_is_no_hash_is_refused_with_its_position(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected hashes of 32 bytes, got .* at position 2"):
        CompactRange.of(0, [*LEAVES[:2], wrong, *LEAVES[3:9]])
    with pytest.raises(ValueError, match="at position 0"):
        CompactRange(0, 1, (wrong,))


@pytest.mark.parametrize(("begin", "end"), [(-1, 0), (3, 2), (0, 2**64)])
def test_bounds_that_are_no_range_are_refused(begin: int, end: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= begin <= end"):
        CompactRange(begin, end, (STRANGER,))


# Inclusion


@reproducibly
@given(inclusion_cases())
def test_every_inclusion_proof_verifies(case: tuple[int, int, list[bytes]]) -> None:
    index, size, proof = case
    assert proofs.verify_inclusion(LEAVES[index], index, size, proof, root(size))
    assert proofs.verify_inclusion(LEAVES[index], index, size, tuple(proof), root(size))
    assert len(proof) <= (size - 1).bit_length()


@reproducibly
@given(inclusion_cases(), st.data())
def test_one_flipped_bit_breaks_an_inclusion_proof(case: tuple[int, int, list[bytes]], data: st.DataObject) -> None:
    index, size, proof = case
    parts = [LEAVES[index], *proof, root(size)]
    leaf, *rest, head = with_one_bit_flipped(parts, data.draw(st.integers(0, 256 * len(parts) - 1)))
    assert not proofs.verify_inclusion(leaf, index, size, rest, head)


@reproducibly
@given(inclusion_cases(smallest=2))
def test_a_mangled_inclusion_proof_is_refused(case: tuple[int, int, list[bytes]]) -> None:
    index, size, proof = case
    head = root(size)
    for wrong in mangled(proof):
        assert not proofs.verify_inclusion(LEAVES[index], index, size, wrong, head)


@reproducibly
@given(inclusion_cases())
def test_an_inclusion_proof_holds_for_its_index_alone(case: tuple[int, int, list[bytes]]) -> None:
    index, size, proof = case
    head = root(size)
    for other in {*range(-2, size + 3), 2 * size, 2**64, 2**100} - {index}:
        assert not proofs.verify_inclusion(LEAVES[index], other, size, proof, head)


def test_a_wrong_size_is_refused_unless_it_leads_along_the_same_path() -> None:
    for size in range(1, 20):
        for index in range(size):
            proof = proofs.inclusion_proof(LEAVES[:size], index)
            for claimed in range(45):
                accepted = proofs.verify_inclusion(LEAVES[index], index, claimed, proof, root(size))
                assert accepted == (index < claimed and way(index, claimed) == way(index, size))


@pytest.mark.parametrize("index", [-1, 4, 10])
def test_there_is_no_inclusion_proof_of_a_leaf_that_is_not_there(index: int) -> None:
    with pytest.raises(ValueError, match=f"one of 4 leaves, got {index}"):
        proofs.inclusion_proof(LEAVES[:4], index)
    with pytest.raises(ValueError, match="one of 0 leaves"):
        proofs.inclusion_proof([], index)


# Consistency


@reproducibly
@given(consistency_cases())
def test_every_consistency_proof_verifies(case: tuple[int, int, list[bytes]]) -> None:
    old, new, proof = case
    assert proofs.verify_consistency(old, new, proof, root(old), root(new))
    assert proofs.verify_consistency(old, new, tuple(proof), root(old), root(new))
    assert len(proof) <= (new - 1).bit_length() + 1


@reproducibly
@given(consistency_cases(), st.data())
def test_one_flipped_bit_breaks_a_consistency_proof(case: tuple[int, int, list[bytes]], data: st.DataObject) -> None:
    old, new, proof = case
    parts = [root(old), *proof, root(new)]
    before, *rest, after = with_one_bit_flipped(parts, data.draw(st.integers(0, 256 * len(parts) - 1)))
    assert not proofs.verify_consistency(old, new, rest, before, after)


@reproducibly
@given(consistency_cases())
def test_a_mangled_consistency_proof_is_refused(case: tuple[int, int, list[bytes]]) -> None:
    old, new, proof = case
    before, after = root(old), root(new)
    for wrong in mangled(proof):
        assert not proofs.verify_consistency(old, new, wrong, before, after)
    assert not proofs.verify_consistency(old, new, proof, after, before)


def test_wrong_sizes_are_refused_unless_they_lead_along_the_same_path() -> None:
    for new in range(2, 13):
        for old in range(1, new):
            proof = proofs.consistency_proof(LEAVES[:new], old)
            route = consistency_way(old, new)
            for claimed_new in range(20):
                for claimed_old in range(22):
                    accepted = proofs.verify_consistency(claimed_old, claimed_new, proof, root(old), root(new))
                    possible = 0 < claimed_old < claimed_new
                    assert accepted == (possible and consistency_way(claimed_old, claimed_new) == route)


def test_a_tree_that_changed_an_old_leaf_has_no_valid_consistency_proof() -> None:
    for new in range(2, 20):
        for changed in range(new - 1):
            leaves = [*LEAVES[:changed], merkle.leaf_hash(b"edited"), *LEAVES[changed + 1 : new]]
            rewritten = CompactRange.of(0, leaves).root()
            for old in range(changed + 1, new):
                proof = proofs.consistency_proof(leaves, old)
                assert not proofs.verify_consistency(old, new, proof, root(old), rewritten)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_a_tree_is_consistent_with_itself_and_no_other_of_its_size(size: int) -> None:
    assert proofs.consistency_proof(LEAVES[:size], size) == []
    assert proofs.verify_consistency(size, size, [], root(size), root(size))
    assert not proofs.verify_consistency(size, size, [], root(size), STRANGER)
    assert not proofs.verify_consistency(size, size, [STRANGER], root(size), root(size))


def test_nothing_is_proved_from_a_tree_without_leaves() -> None:
    with pytest.raises(ValueError, match="old size of 1 to 4 leaves, got 0"):
        proofs.consistency_proof(LEAVES[:4], 0)
    assert not proofs.verify_consistency(0, 4, [], merkle.EMPTY_ROOT, root(4))
    assert not proofs.verify_consistency(0, 0, [], merkle.EMPTY_ROOT, merkle.EMPTY_ROOT)


@pytest.mark.parametrize("old", [-1, 5])
def test_there_is_no_consistency_proof_from_a_size_that_never_was(old: int) -> None:
    with pytest.raises(ValueError, match=f"old size of 1 to 4 leaves, got {old}"):
        proofs.consistency_proof(LEAVES[:4], old)


# The same proofs from the compact ranges of shards, without the leaves


@st.composite
def trees_in_shards(draw: st.DrawFn) -> tuple[int, set[int]]:
    """A size, and where shards of it end: at random places, or a fixed number of leaves apart."""
    size = draw(st.integers(1, len(ENTRIES)))
    apart = draw(st.none() | st.integers(1, size))
    places = st.sets(st.integers(1, size), max_size=12)
    return size, set(range(apart, size, apart)) if apart else {cut for cut in draw(places) if cut < size}


def cut_at(size: int, places: set[int]) -> list[CompactRange]:
    edges = sorted({0, size} | {cut for cut in places if 0 < cut < size})
    return [CompactRange.of(begin, LEAVES[begin:end]) for begin, end in pairwise(edges)]


@pytest.fixture(scope="module")
def tree() -> pymerkle.InmemoryTree:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    tree.append_entries(ENTRIES)
    return tree


@reproducibly
@given(trees_in_shards(), st.data())
def test_shards_give_the_inclusion_proof_that_all_leaves_give(
    tree: pymerkle.InmemoryTree, case: tuple[int, set[int]], data: st.DataObject
) -> None:
    size, shards = case
    index = data.draw(st.integers(0, size - 1))
    made = proofs.inclusion_from_ranges(cut_at(size, shards | {index, index + 1}), index)
    assert made == proofs.inclusion_proof(LEAVES[:size], index) == path(index, ENTRIES[:size])
    assert made == tree.prove_inclusion(index + 1, size).path[1:]


@reproducibly
@given(trees_in_shards(), st.data())
def test_shards_give_the_consistency_proof_that_all_leaves_give(
    tree: pymerkle.InmemoryTree, case: tuple[int, set[int]], data: st.DataObject
) -> None:
    size, shards = case
    old = data.draw(st.integers(1, size))
    made = proofs.consistency_from_ranges(cut_at(size, shards | {old}), old)
    assert made == proofs.consistency_proof(LEAVES[:size], old) == subproof(old, ENTRIES[:size], True)
    # pymerkle's consistency proofs are laid out in another way; its roots are the RFC's
    assert proofs.verify_consistency(old, size, made, tree.get_root(old), tree.get_root(size))


@pytest.mark.parametrize("size", range(1, 20))
def test_every_small_tree_in_shards_of_every_size_gives_every_proof(size: int) -> None:
    for apart in range(1, size + 1):
        shards = set(range(apart, size, apart))
        for at in range(size):
            ranges = cut_at(size, shards | {at, at + 1})
            assert proofs.inclusion_from_ranges(ranges, at) == proofs.inclusion_proof(LEAVES[:size], at)
            ranges = cut_at(size, shards | {at + 1})
            assert proofs.consistency_from_ranges(ranges, at + 1) == proofs.consistency_proof(LEAVES[:size], at + 1)


def test_an_old_tree_that_ends_where_a_shard_does_is_proved_without_a_leaf() -> None:
    assert proofs.consistency_from_ranges(cut_at(12, {5, 10}), 5) == subproof(5, ENTRIES[:12], True)


def test_a_hash_over_both_sides_of_the_place_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cut at leaf 6 and at 7, got one whose hash covers leaves 4 to 8"):
        proofs.inclusion_from_ranges(cut_at(12, {4, 8}), 7)
    with pytest.raises(ValueError, match=r"hash covers leaves 4 to 8"):
        proofs.consistency_from_ranges(cut_at(12, {4, 8}), 6)


def test_a_shard_that_is_missing_is_noticed() -> None:
    ranges = cut_at(12, {4, 5, 8})
    for missing in range(3):
        begin, after = ranges[missing].begin, ranges[missing].end
        with pytest.raises(ValueError, match=f"begins at leaf {begin}, got one at {after}"):
            proofs.inclusion_from_ranges(ranges[:missing] + ranges[missing + 1 :], 9)
    with pytest.raises(ValueError, match="one of 0 leaves"):
        proofs.inclusion_from_ranges([], 0)


# Malformed input: an answer, never an exception or an endless loop

NO_COUNT = [None, -1, 2**64, 10**5000, 1.0, "1", b"\x01", [1]]
NO_HASH = [None, 0, "", "a" * 32, b"", b"a" * 31, b"a" * 33, bytearray(32), [0] * 32]
NO_PROOF = [None, 0, "", "abc", b"", b"a" * 32, {}, *[[wrong] for wrong in NO_HASH]]


@pytest.mark.parametrize("count", NO_COUNT, ids=lambda value: type(value).__name__)
def test_malformed_sizes_are_answered_with_no(count: Any) -> None:
    proof = [LEAVES[1]]
    assert proofs.verify_inclusion(LEAVES[0], count, 2, proof, root(2)) is False
    assert proofs.verify_inclusion(LEAVES[0], 0, count, proof, root(2)) is False
    assert proofs.verify_consistency(count, 2, proof, root(1), root(2)) is False
    assert proofs.verify_consistency(1, count, proof, root(1), root(2)) is False


def test_a_size_beyond_64_bits_is_answered_with_no() -> None:
    head = LEAVES[0]
    for _ in range(64):
        head = sha256(b"\x01" + head + STRANGER).digest()
    assert proofs.verify_inclusion(LEAVES[0], 0, 2**64 - 1, [STRANGER] * 64, head)
    assert not proofs.verify_inclusion(LEAVES[0], 0, 2**64, [STRANGER] * 64, head)


@pytest.mark.parametrize("proof", NO_PROOF, ids=repr)
def test_malformed_proofs_are_answered_with_no(proof: Any) -> None:
    assert proofs.verify_inclusion(LEAVES[0], 0, 2, proof, root(2)) is False
    assert proofs.verify_consistency(1, 2, proof, root(1), root(2)) is False
    assert proofs.verify_consistency(2, 2, proof, root(2), root(2)) is False


@pytest.mark.parametrize("digest", NO_HASH, ids=repr)
def test_malformed_hashes_are_answered_with_no(digest: Any) -> None:
    assert proofs.verify_inclusion(digest, 0, 1, [], root(1)) is False
    assert proofs.verify_inclusion(LEAVES[0], 0, 1, [], digest) is False
    assert proofs.verify_consistency(1, 1, [], digest, digest) is False
    assert proofs.verify_consistency(1, 2, [LEAVES[1]], digest, root(2)) is False
    assert proofs.verify_consistency(1, 2, [LEAVES[1]], root(1), digest) is False


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 100_000])
@pytest.mark.parametrize("size", [1, 2**63, 2**64 - 1])
def test_proofs_of_absurd_length_end_quickly(length: int, size: int) -> None:
    proof = [STRANGER] * length
    assert proofs.verify_inclusion(STRANGER, size - 1, size, proof, LEAVES[0]) is False
    assert proofs.verify_consistency(max(1, size - 1), size, proof, STRANGER, LEAVES[0]) is False


def test_counts_from_numpy_are_counts() -> None:
    proof = proofs.inclusion_proof(LEAVES[:5], 3)
    assert proofs.verify_inclusion(LEAVES[3], np.int64(3), np.uint32(5), proof, root(5))
