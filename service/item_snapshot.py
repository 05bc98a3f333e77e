"""The snapshot of item counters and catalogue changes: its bytes, and where it lies.

One value for each namespace of states. The name of the version comes first, in a fixed length, so that a reader can
look whether it has it already.
"""

import zlib
from typing import NamedTuple

import msgspec
import numpy as np

from recsys.errors import StateError
from recsys.features.item_counts import HALF_LIFE_S, ItemCounts
from recsys.items import Item, unavailable
from recsys.types import ItemStats
from recsys.vocabulary import Vocabulary

HEAD_BYTES = 32
CATALOGUE = "riffle:catalogue"  # a stream: each item that was changed, as it is since then
_LAYOUT = 2


class Snapshot(NamedTuple):
    """All that happened to items before `horizon_ms`, by the log's clock.

    Attributes:
        base: Names the import that it began from.
        items: Those that were changed at run time, by id.
    """

    base: str
    horizon_ms: int
    counts: ItemCounts
    items: dict[str, Item]

    @property
    def version(self) -> str:
        """Names it: the same version is the same values, to the bit."""
        return f"{self.base}.{self.horizon_ms}"

    def stats(self, vocabulary: Vocabulary) -> ItemStats:
        """For the items of a bundle, as of the horizon."""
        return self.counts.stats(
            vocabulary.key,
            now_s=self.horizon_ms // 1000,
            version=self.version,
            unavailable=unavailable(self.items, self.horizon_ms),
        )


class _Body(msgspec.Struct, frozen=True, array_like=True):
    layout: int
    base: str
    horizon_ms: int
    key: bytes
    interactions: bytes
    positives: bytes
    activity: bytes
    activity_s: bytes
    items: dict[str, Item]


_encode = msgspec.msgpack.Encoder().encode  # items in the order in which they were first changed


def snapshot_key(namespace: str) -> str:
    """Where a namespace's snapshot lies."""
    return f"riffle:features:{namespace}:items"


def version_key(version: str) -> str:
    """Where a snapshot lies for some seconds under the name of its version."""
    return f"riffle:features:item-stats:{version}"


def head(version: str) -> bytes:
    """The first HEAD_BYTES of a snapshot of this version."""
    return version.encode().ljust(HEAD_BYTES)


def horizon_of(first: bytes) -> int:
    """The horizon of the snapshot whose first HEAD_BYTES these are, milliseconds; 0 where there is none."""
    horizon = first.rstrip().rpartition(b".")[2]
    return int(horizon) if horizon.isdigit() else 0


def encode(snapshot: Snapshot) -> bytes:
    """Head, CRC-32 of the rest, the rest: about 44 bytes an item that something happened to."""
    counts = snapshot.counts
    body = _encode(
        _Body(
            _LAYOUT,
            snapshot.base,
            snapshot.horizon_ms,
            counts.key.tobytes(),
            counts.interactions.tobytes(),
            counts.positives.tobytes(),
            counts.activity.tobytes(),
            counts.activity_s.tobytes(),
            snapshot.items,
        )
    )
    return head(snapshot.version) + zlib.crc32(body).to_bytes(4, "little") + body


def decode(value: bytes) -> Snapshot:
    """What `encode` made.

    Raises:
        StateError: it is damaged, or of another layout.
    """
    crc, body = value[HEAD_BYTES : HEAD_BYTES + 4], value[HEAD_BYTES + 4 :]
    if zlib.crc32(body).to_bytes(4, "little") != crc:
        raise StateError(f"an item snapshot of {len(value)} bytes does not match its CRC; rebuild the features")
    try:
        found = msgspec.msgpack.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"an item snapshot does not decode: {error}; rebuild the features") from error
    if found.layout != _LAYOUT:
        raise StateError(f"item snapshot layout {found.layout}, this version reads {_LAYOUT}; rebuild the features")
    counts = ItemCounts(
        np.frombuffer(found.key, np.uint64),
        np.frombuffer(found.interactions, np.uint32).copy(),
        np.frombuffer(found.positives, np.uint32).copy(),
        np.frombuffer(found.activity, np.float64).reshape(-1, len(HALF_LIFE_S)).copy(),
        np.frombuffer(found.activity_s, np.uint32).copy(),
    )
    return Snapshot(found.base, found.horizon_ms, counts, found.items)
