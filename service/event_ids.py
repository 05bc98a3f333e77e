"""Which ids of events are in the log already: small hashes by day and bucket, kept for this day and the one before.

On a cluster they lie in the slot of their shard, each shard with its share of the buckets.

A bucket goes by name when its day is over. Expiry instead would cost the script that fills it 4 us an event of 18: it
has to look which bucket is new.
"""

import time
from collections.abc import Iterator

from service.round_trips import RoundTrips
from service.state_keys import SHARDS

BUCKETS = 65_536  # at a million events a day 15 ids each; 244 of them, in 4,096, cost 50 us of Valkey an event, not 5
_DAY_S = 86_400
_LOOK_BACK = 31  # days: where no cleaner ran for longer, ids stay behind
_CHUNK = 1024  # buckets in one command


def day_of(now_s: float | None = None) -> int:
    """The number of a day, UTC; None: of this one."""
    return int((time.time() if now_s is None else now_s) // _DAY_S)


def ids_of(day: int, number: int | None = None) -> str:
    """Where the ids of a day's buckets lie, but for the bucket: its number in hexadecimal digits.

    Args:
        number: On a cluster the shard, whose buckets have three digits; None: all shards together, and four.
    """
    return f"riffle:event-ids:{day}:" if number is None else f"riffle:{{s{number:02d}}}:event-ids:{day}:"


def bucket_of(id_digest: bytes, *, is_cluster: bool) -> str:
    """The bucket of an id."""
    return id_digest[:2].hex()[: 3 if is_cluster else 4]


class IdCleaner:
    """Removes ids that are remembered long enough."""

    def __init__(self, store: RoundTrips) -> None:
        self._store = store
        self._done = 0  # nothing is left of the days before

    async def step(self, *, now_s: float | None = None) -> int:
        """Remove the ids of each day before yesterday, once; how many buckets there were.

        Raises:
            RedisError, OSError, TimeoutError: the store failed; calling again goes on.
        """
        yesterday = day_of(now_s) - 1
        removed = 0
        for day in range(max(self._done, yesterday - _LOOK_BACK), yesterday):
            for keys in self._buckets(day):
                (count,) = await self._store.demand([("UNLINK", *keys)])
                removed += count
            self._done = day + 1
        return removed

    def _buckets(self, day: int) -> Iterator[list[str]]:
        """Some at a time, on a cluster of one slot."""
        parts = [ids_of(day, number) for number in range(SHARDS)] if self._store.is_cluster else [ids_of(day)]
        digits, each = (3, BUCKETS // SHARDS) if self._store.is_cluster else (4, BUCKETS)
        for part in parts:
            for start in range(0, each, _CHUNK):
                yield [f"{part}{bucket:0{digits}x}" for bucket in range(start, start + _CHUNK)]
