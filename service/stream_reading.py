"""What came to several streams since positions in them."""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

from service.log_entries import Entry
from service.round_trips import RoundTrips

LOOK_EVERY_S = 0.02  # on a cluster, where nobody can wait for streams of different nodes

Read = dict[str, list[Entry] | Exception]


async def read_streams(store: RoundTrips, after: Mapping[str, str | bytes], *, count: int, block_ms: int = 0) -> Read:
    """At most `count` entries of each stream; streams to which nothing came are left out.

    Args:
        after: By stream, the position of the last entry that is known.
        block_ms: How long to wait where nothing has come. 0: not at all.
    Returns:
        By stream. On a cluster, an exception for each stream whose node failed.
    Raises:
        RedisError, OSError, TimeoutError: nothing could be read.
    """
    until = monotonic() + block_ms / 1000
    while True:
        found = await _read(store, after, count, block_ms)
        failures = [one for one in found.values() if isinstance(one, Exception)]
        if failures and len(failures) == len(after):
            raise failures[0]
        left_s = until - monotonic()
        if len(found) > len(failures) or not store.is_cluster or left_s <= 0:
            return found
        await asyncio.sleep(min(LOOK_EVERY_S, left_s))


async def _read(store: RoundTrips, after: Mapping[str, str | bytes], count: int, block_ms: int) -> Read:
    if not store.is_cluster:
        block = ("BLOCK", str(block_ms)) if block_ms else ()
        (read,) = await store.demand([("XREAD", "COUNT", str(count), *block, "STREAMS", *after, *after.values())])
        return {stream.decode(): entries for stream, entries in read or []}
    replies: list[Any] = await store.call(
        [("XREAD", "COUNT", str(count), "STREAMS", stream, at) for stream, at in after.items()]
    )
    return {
        stream: reply if isinstance(reply, Exception) else reply[0][1]
        for stream, reply in zip(after, replies, strict=True)
        if reply is not None
    }
