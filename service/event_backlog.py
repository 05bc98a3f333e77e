"""How far the states are behind the event log, read from the store alone."""

import time
from typing import NamedTuple

import redis
from redis.exceptions import RedisError

from service.errors import StackError
from service.event_log import stream_key
from service.log_entries import Entry
from service.round_trips import RoundTrips
from service.state_keys import SHARDS, live_key, live_name, position_key
from service.store_client import store_client
from service.stream_reading import read_streams
from service.updater import START, dead_key


class Backlog(NamedTuple):
    """Events that no state knows yet.

    Attributes:
        waiting: How many, at most `MOST` counted of a shard. oldest_s: Age in the log of the oldest, seconds.
        dead: Entries set aside because they are no events.
    """

    waiting: int
    oldest_s: float
    dead: int


MOST = 10_000


def backlog(url: str) -> Backlog:
    """Look at all shards.

    Raises:
        StackError: the store does not answer.
    """
    try:
        with store_client(url, timeout_s=5) as client:
            numbers = range(SHARDS)
            namespace = live_name(client.get(live_key()))
            pipeline = client.pipeline(transaction=False)
            for number in numbers:
                pipeline.get(position_key(namespace, number))
            positions = pipeline.execute()
            for number, position in zip(numbers, positions, strict=True):
                after = f"({position.decode()}" if position else "-"
                pipeline.xrange(stream_key(number), min=after, count=MOST)
                pipeline.xlen(dead_key(number))
            replies = pipeline.execute()
    except redis.RedisError as error:
        raise StackError(f"the event log does not answer: {error}; `riffle doctor` looks for causes") from error
    entries = [position for waiting in replies[::2] for position, _ in waiting]
    oldest_ms = min((int(position.partition(b"-")[0]) for position in entries), default=None)
    oldest_s = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
    return Backlog(len(entries), oldest_s, sum(replies[1::2]))


class BacklogWatch:
    """Looks at the log again and again, for a metric.

    The gateways watch, not the updater: one that is stuck or gone does not tell. While the store does not answer nobody
    knows what waits, so all that time counts as waiting.
    """

    def __init__(self, store: RoundTrips) -> None:
        self._store = store
        self._looked = time.monotonic()
        self.oldest_s = 0.0
        self.dead = 0

    async def look(self) -> None:
        """Bring `oldest_s`, the age in the log of the oldest event that no state knows, and `dead` up to date."""
        try:
            oldest_ms, self.dead = await self._read()
        except (RedisError, OSError, TimeoutError):
            now = time.monotonic()
            self.oldest_s += now - self._looked
            self._looked = now
            return
        self._looked = time.monotonic()
        self.oldest_s = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)

    async def _read(self) -> tuple[int | None, int]:
        """Four round trips, at most one entry of each shard: the backlog's size does not matter."""
        numbers = range(SHARDS)
        (live,) = await self._store.demand([("GET", live_key())])
        positions = await self._store.demand([("GET", position_key(live_name(live), number)) for number in numbers])
        after = {stream_key(number): at or START for number, at in zip(numbers, positions, strict=True)}
        waiting = await read_streams(self._store, after, count=1)
        dead = await self._store.demand([("XLEN", dead_key(number)) for number in numbers])
        entries = [position for one in waiting.values() for position, _ in _certain(one)]
        return min((int(position.partition(b"-")[0]) for position in entries), default=None), sum(dead)


def _certain(entries: list[Entry] | Exception) -> list[Entry]:
    """Entries; the exception is raised."""
    if isinstance(entries, Exception):
        raise entries
    return entries
