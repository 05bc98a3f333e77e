"""User states from Redis: one round trip a micro-batch, tight timeouts, never an exception."""

import zlib
from collections.abc import Sequence

from redis.exceptions import ConnectionError, RedisError

from recsys.features.matrix import SCHEMA_HASH
from service.round_trips import RoundTrips

SHARDS = 16  # event shards; the keys of one shard share a hash tag, so they stay together on Redis Cluster
NAMESPACE = SCHEMA_HASH[:8]  # states of another feature schema live beside these, never mixed


def shard(user_id: str) -> int:
    """The event shard of a user: CRC-32 of the id's UTF-8 bytes, modulo SHARDS."""
    return zlib.crc32(user_id.encode()) % SHARDS


def state_key(user_id: str) -> str:
    """Where a user's state lives."""
    return f"riffle:{{s{shard(user_id):02d}}}:{NAMESPACE}:user:{user_id}"


class StateLookup:
    """Reads packed user states."""

    def __init__(self, store: RoundTrips) -> None:
        self._store = store

    async def fetch(self, user_ids: Sequence[str]) -> tuple[list[bytes | None], str | None]:
        """The packed state of each user, None where there is none.

        Returns:
            The values, and None or why they could not be read: "timeout", "unavailable" or "error"; then all are None.
        """
        try:
            (values,) = await self._store.call([("MGET", *map(state_key, user_ids))])
            if not isinstance(values, Exception):
                return values, None
            cause = "error"
        except TimeoutError:
            cause = "timeout"
        except (ConnectionError, OSError):
            cause = "unavailable"
        except RedisError:
            cause = "error"
        return [None] * len(user_ids), cause
