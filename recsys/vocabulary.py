"""Item ids, their 64-bit keys and their dense rows in one bundle; bulk maps between the three.

A row number is the rank of the item's key among all keys, so one ascending array is both the list of
keys and the index from key to row.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numba import njit

from recsys.errors import BundleError, VocabularyError
from recsys.text_column import TextColumn, load_array

MAX_ID_BYTES = 256


@lru_cache(65_536)  # 0.2 us instead of 1.1; the ids that events name repeat
def item_key(item_id: str) -> int:
    """The 64-bit key of an item id: BLAKE2b-64 of its UTF-8 bytes, the same in every bundle and process."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "little")


def item_keys(item_ids: Iterable[str]) -> np.ndarray:
    """`item_key` of many ids: uint64 [n]. Cost: about 1 us an id, 0.3 us where it came up before."""
    return np.fromiter((item_key(item_id) for item_id in item_ids), dtype=np.uint64)


@njit(cache=True)
def lower_bound(ascending: np.ndarray, key: int | np.integer) -> int:
    """The first position whose value is at least `key`: uint64 [n], uint64 -> 0..n. For compiled callers."""
    low, high = 0, len(ascending)
    while low < high:
        middle = (low + high) >> 1
        if ascending[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The items of one bundle.

    Attributes:
        key: uint64 [N], strictly ascending; an item's row is the position of its key.
        item_id: The ids in row order.
    """

    key: np.ndarray
    item_id: TextColumn

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def build(cls, item_ids: Sequence[str]) -> tuple["Vocabulary", np.ndarray]:
        """Make a vocabulary; also return each given id's row, int32 [n].

        Raises:
            VocabularyError: an id is empty or too long, given twice, or two ids share a key.
        """
        for item_id in item_ids:
            if not 0 < len(item_id.encode()) <= MAX_ID_BYTES:
                raise VocabularyError(f"item id {item_id!r} has not 1..{MAX_ID_BYTES} UTF-8 bytes; shorten it")
        return cls.from_keys(item_ids, item_keys(item_ids))

    @classmethod
    def from_keys(cls, item_ids: Sequence[str], keys: np.ndarray) -> tuple["Vocabulary", np.ndarray]:
        """`build` with the keys given, uint64 [n]."""
        order = np.argsort(keys, kind="stable")
        ascending = keys[order]
        equal = np.flatnonzero(ascending[1:] == ascending[:-1])
        if len(equal):
            first, second = (item_ids[order[equal[0] + i]] for i in (0, 1))
            what = "is given twice" if first == second else f"has the same 64-bit key as {second!r}"
            raise VocabularyError(f"item id {first!r} {what}; ids must be unique, rename one")
        if len(ascending) and ascending[0] == 0:
            raise VocabularyError(f"item id {item_ids[order[0]]!r} has key 0, which marks an empty slot; rename it")
        rows = np.empty(len(keys), np.int32)
        rows[order] = np.arange(len(keys), dtype=np.int32)
        return cls(ascending, TextColumn.of([item_ids[i] for i in order])), rows

    def rows(self, key: np.ndarray) -> np.ndarray:
        """Rows of keys, -1 where unknown (key 0, an empty slot, is unknown). uint64 [...] -> int32 [...]."""
        if not len(self.key):
            return np.full(key.shape, -1, np.int32)
        position = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return np.where(self.key[position] == key, position, -1).astype(np.int32)

    def rows_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Rows of ids, -1 where unknown. [n] -> int32 [n]."""
        return self.rows(item_keys(item_ids))

    def content_hash(self) -> str:
        """SHA-256 over the ids in row order, hexadecimal."""
        return hashlib.sha256(self.item_id.offset.tobytes() + self.item_id.text.tobytes()).hexdigest()

    def save(self, directory: Path) -> None:
        """Write `vocabulary.key.npy` and the ids beside it."""
        np.save(directory / "vocabulary.key.npy", self.key)
        self.item_id.save(directory, "vocabulary.item_id")

    @classmethod
    def load(cls, directory: Path) -> "Vocabulary":
        """Memory-map a saved vocabulary.

        Raises:
            BundleError: keys and ids do not fit together.
        """
        key = load_array(directory / "vocabulary.key.npy", np.uint64)
        item_id = TextColumn.load(directory, "vocabulary.item_id")
        if len(key) != len(item_id) or np.any(key[1:] <= key[:-1]):
            raise BundleError(f"{directory / 'vocabulary.key.npy'} does not fit the item ids; train a new bundle")
        return cls(key, item_id)
