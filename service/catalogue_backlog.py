"""How far the item stats are behind the catalogue, read from the store alone."""

import time
from typing import NamedTuple

import redis

from service.errors import StackError
from service.item_snapshot import CATALOGUE, HEAD_BYTES, horizon_of, snapshot_key
from service.state_keys import live_key, live_name
from service.store_client import store_client

MOST = 10_000


class CatalogueBacklog(NamedTuple):
    """Changes of items that no list knows yet.

    Attributes:
        waiting: How many, at most `MOST` counted. oldest_s: Age in the catalogue of the oldest, seconds.
        kept: Entries of the catalogue's stream, those that lists know included.
    """

    waiting: int
    oldest_s: float
    kept: int


def catalogue_backlog(url: str) -> CatalogueBacklog:
    """Look at the catalogue's stream and the live item snapshot.

    Raises:
        StackError: the store does not answer.
    """
    try:
        with store_client(url, timeout_s=5) as client:
            key = snapshot_key(live_name(client.get(live_key())))
            horizon_ms = horizon_of(client.getrange(key, 0, HEAD_BYTES - 1))
            entries = client.xrange(CATALOGUE, min=str(horizon_ms), count=MOST)
            kept = client.xlen(CATALOGUE)
    except redis.RedisError as error:
        raise StackError(f"the catalogue does not answer: {error}; `riffle doctor` looks for causes") from error
    oldest_ms = min((int(position.partition(b"-")[0]) for position, _ in entries), default=None)
    oldest_s = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
    return CatalogueBacklog(len(entries), oldest_s, kept)
