"""One seed per item: a keyed permutation of the 32-bit numbers.

A torch CPU generator uses only the low 32 bits of its seed, so hashing an index to a 64-bit seed gives
colliding noise (a pair is likely from about 77 000 items on), and adding the index to the master seed
makes item 5 of job 0 equal item 0 of job 5. A permutation of ``[0, 2**32)``, chosen by the master seed,
does neither: distinct indices always get distinct seeds, and jobs with different master seeds are
unrelated.

Scheme ``permute32-v1``, in full; it never changes, a better one gets a new id:

1. ``digest(b)`` is the SHA-256 of the ASCII text ``permute32-v1:<master seed in decimal>:<b>``. The 64
   bytes ``digest(0) + digest(1)`` are 16 big-endian 32-bit words ``word[0]`` to ``word[15]``.
2. ``x`` starts as the index. Round ``r`` of 8 does ``x ^= word[2 * r]``, then ``x *= word[2 * r + 1] | 1``
   modulo 2**32, then ``x ^= x >> 16``. The seed is ``x`` after the last round.

Each step can be undone (an odd factor has an inverse modulo 2**32; a shift by half the width, applied
twice, cancels), which is why no two indices meet. Four rounds already flip every output bit for every
input bit in half of the cases, as far as 2**20 samples can tell; eight keep a margin.

The permutation is mixing, not cryptography: seeds are not secret, and whoever has some may find others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from reprobatch.errors import JobError

SCHEME = "permute32-v1"
"""Id of the rule that turns a master seed and an index into a seed. Recorded with every dataset."""

SPACE = 2**32
"""How many different seeds there are, hence how many items a job can have."""

_ROUNDS = 8
_CHUNK = 2**14  # 64 KiB of uint32: a chunk and its one temporary stay in a core's cache
_REPORTED = 10

IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
SeedArray: TypeAlias = npt.NDArray[np.int64]
_Words: TypeAlias = npt.NDArray[np.uint32]
_Value = TypeVar("_Value", int, _Words)

_ADVICE = {
    "index": (
        "torch CPU generators use only the low 32 bits of a seed, so an item past the last seed would share "
        "its noise with another item; split the items into several jobs with different master seeds"
    ),
    "seed": (
        "torch CPU generators use only the low 32 bits of a seed, so one outside that range repeats "
        "the noise of one inside it; give every item a seed within the range"
    ),
}


@overload
def derive(master_seed: int, index: int) -> int: ...
@overload
def derive(master_seed: int, index: IntArray) -> SeedArray: ...
def derive(master_seed: int, index: int | IntArray) -> int | SeedArray:
    """Seed of an item, or of many.

    Parameters
    ----------
    master_seed : int
        The job's master seed, 0 or more. Every bit counts, however long the number.
    index : int or ndarray of any integer dtype and shape
        Item numbers in ``[0, 2**32)``.

    Returns
    -------
    int or ndarray of int64
        Seeds in ``[0, 2**32)``, of the shape of `index`. Distinct indices have distinct seeds.

    Raises
    ------
    JobError
        The master seed is negative or no integer, or an index is outside the range. More than 2**32 items
        need several jobs with different master seeds.
    """
    return Permutation(master_seed).forward(index)


@overload
def invert(master_seed: int, seed: int) -> int: ...
@overload
def invert(master_seed: int, seed: IntArray) -> SeedArray: ...
def invert(master_seed: int, seed: int | IntArray) -> int | SeedArray:
    """Index of the item that has a seed: the inverse of `derive`.

    Parameters
    ----------
    master_seed : int
        The job's master seed, 0 or more.
    seed : int or ndarray of any integer dtype and shape
        Seeds in ``[0, 2**32)``.

    Returns
    -------
    int or ndarray of int64
        Indices, of the shape of `seed`. Every seed has one, which may lie beyond the job's last item.

    Raises
    ------
    JobError
        The master seed is negative or no integer, or a seed is outside the range.
    """
    return Permutation(master_seed).inverse(seed)


class Permutation:
    """The permutation of ``[0, 2**width)`` that a master seed selects.

    Parameters
    ----------
    master_seed : int
        The key, 0 or more.
    width : int
        Bits of a value, 1 to 32. Jobs use 32; below that the same rounds run on the low bits of the same
        keys, so that tests can go through every value.

    Raises
    ------
    JobError
        The master seed is negative or no integer.
    ValueError
        The width is not within 1 to 32.
    """

    def __init__(self, master_seed: int, width: int = 32) -> None:
        if not 1 <= width <= 32:
            raise ValueError(f"expected a width of 1 to 32 bits, got {width}")
        self.width = width
        self._mask = 2**width - 1
        self._shift = (width + 1) // 2
        words = _key_words(_checked_master_seed(master_seed))
        keys = [word & self._mask for word in words[0::2]]
        factors = [word & self._mask | 1 for word in words[1::2]]
        inverses = [pow(factor, -1, 2**width) for factor in factors]
        self._rounds = list(zip(keys, factors, strict=True))
        self._undo = list(zip(reversed(keys), reversed(inverses), strict=True))

    @overload
    def forward(self, index: int) -> int: ...
    @overload
    def forward(self, index: IntArray) -> SeedArray: ...
    @overload
    def forward(self, index: int | IntArray) -> int | SeedArray: ...
    def forward(self, index: int | IntArray) -> int | SeedArray:
        """Map indices to seeds; see `derive`."""
        if isinstance(index, np.ndarray):
            _check_array(index, self._mask, "index")
            return _in_chunks(self._scramble, index)
        return self._scramble(_checked_int(index, self._mask, "index"))

    @overload
    def inverse(self, seed: int) -> int: ...
    @overload
    def inverse(self, seed: IntArray) -> SeedArray: ...
    @overload
    def inverse(self, seed: int | IntArray) -> int | SeedArray: ...
    def inverse(self, seed: int | IntArray) -> int | SeedArray:
        """Map seeds back to indices; see `invert`."""
        if isinstance(seed, np.ndarray):
            _check_array(seed, self._mask, "seed")
            return _in_chunks(self._unscramble, seed)
        return self._unscramble(_checked_int(seed, self._mask, "seed"))

    # Both work on a plain int and, in place, on a uint32 array whose products wrap: one text, so that the
    # two paths cannot drift apart.

    def _scramble(self, x: _Value) -> _Value:
        for key, factor in self._rounds:
            x ^= key
            x *= factor
            x &= self._mask
            x ^= x >> self._shift
        return x

    def _unscramble(self, x: _Value) -> _Value:
        for key, factor in self._undo:
            x ^= x >> self._shift
            x *= factor
            x &= self._mask
            x ^= key
        return x


def validate(seeds: IntArray) -> None:
    """Refuse explicit seeds that torch would silently shorten.

    Parameters
    ----------
    seeds : ndarray of any integer dtype, shape (n,)
        The seeds that a job's items bring along, in item order.

    Raises
    ------
    JobError
        The dtype is not an integer one, or a seed is outside ``[0, 2**32)``. The message names the first
        such seed and its position; correct it in the item source.
    """
    _check_array(seeds, SPACE - 1, "seed")


def repeated(seeds: IntArray) -> list[tuple[int, int]]:
    """Find items that bring the same seed and so would start from the same noise.

    Parameters
    ----------
    seeds : ndarray of any integer dtype, shape (n,)
        Explicit seeds, in item order.

    Returns
    -------
    list of (int, int)
        Where a repeated value stands first and where it stands next, one pair per value, in the order in
        which a reader meets the repetitions. At most the first 10; empty if all seeds differ.
    """
    order = np.argsort(seeds, kind="stable")
    ranked = seeds[order]
    again = ranked[1:] == ranked[:-1]
    second = again.copy()
    second[1:] &= ~again[:-1]
    first_at, second_at = order[:-1][second], order[1:][second]
    shown = np.argsort(second_at)[:_REPORTED]
    return list(zip(first_at[shown].tolist(), second_at[shown].tolist(), strict=True))


def _key_words(master_seed: int) -> list[int]:
    decimal = _decimal(master_seed)
    blocks = [hashlib.sha256(f"{SCHEME}:{decimal}:{block}".encode("ascii")).digest() for block in range(2)]
    words: list[int] = np.frombuffer(b"".join(blocks), dtype=">u4").tolist()
    return words[: 2 * _ROUNDS]


def _decimal(value: int) -> str:
    # Python refuses str() on long ints (from 4300 digits; the limit can be set as low as 640), but a
    # master seed may have any length.
    pieces: list[str] = []
    while value >= 10**600:
        value, low = divmod(value, 10**600)
        pieces.append(f"{low:0600d}")
    return "".join([str(value), *reversed(pieces)])


def _in_chunks(step: Callable[[_Words], _Words], values: IntArray) -> SeedArray:
    flat = values.reshape(-1)
    out = np.empty(flat.size, dtype=np.int64)
    for start in range(0, flat.size, _CHUNK):
        stop = start + _CHUNK
        out[start:stop] = step(flat[start:stop].astype(np.uint32))
    return out.reshape(values.shape)


def _checked_master_seed(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise JobError(f"master_seed must be an integer of 0 or more, got {type(value).__name__}; write it as a number")
    if value < 0:
        raise JobError(f"master_seed must be 0 or more, got {_shown(value)}; any length is fine, a sign is not")
    return int(value)


def _checked_int(value: int, last: int, noun: str) -> int:
    # numpy's integers are welcome: they are what indexing a column of indices gives.
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise JobError(f"{noun} must be an integer or an integer array, got {type(value).__name__}")
    if not 0 <= value <= last:
        raise JobError(f"{noun} {_shown(int(value))} is outside 0 to {last}: {_ADVICE[noun]}")
    return int(value)


def _check_array(values: IntArray, last: int, noun: str) -> None:
    if values.dtype.kind not in "iu":
        raise JobError(f"{noun} array must have an integer dtype with values of 0 to {last}, got {values.dtype}")
    if values.size and (values.min() < 0 or values.max() > last):
        position = int(np.argmax((values < 0) | (values > last)))
        found = f"{noun} {values.flat[position]} at position {position}"
        raise JobError(f"{found} is outside 0 to {last}: {_ADVICE[noun]}")


def _shown(value: int) -> str:
    return str(value) if value.bit_length() <= 128 else f"(an integer of {value.bit_length()} bits)"
