"""Which ids of events are in the log already: small hashes by day and bucket, kept for this day and the one before.

A bucket goes by name when its day is over. Expiry instead would cost the script that fills it 4 us an event of 18: it
has to look which bucket is new.
"""

import time

from service.round_trips import RoundTrips

BUCKETS = 65_536  # at a million events a day 15 ids each; 244 of them, in 4,096, cost 50 us of Valkey an event, not 5
_DAY_S = 86_400
_LOOK_BACK = 31  # days: where no cleaner ran for longer, ids stay behind
_CHUNK = 1024  # buckets in one command


def day_of(now_s: float | None = None) -> int:
    """The number of a day, UTC; None: of this one."""
    return int((time.time() if now_s is None else now_s) // _DAY_S)


def ids_of(day: int) -> str:
    """Where the ids of a day's buckets lie, but for the bucket: its number in four hexadecimal digits."""
    return f"riffle:event-ids:{day}:"


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
            for start in range(0, BUCKETS, _CHUNK):
                keys = [f"{ids_of(day)}{bucket:04x}" for bucket in range(start, start + _CHUNK)]
                (count,) = await self._store.demand([("UNLINK", *keys)])
                removed += count
            self._done = day + 1
        return removed
