"""User states from Redis: one round trip a micro-batch, tight timeouts, never an exception."""

import zlib
from collections.abc import Sequence
from typing import cast

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from recsys.features.matrix import SCHEMA_HASH

SHARDS = 16  # event shards; the keys of one shard share a hash tag, so they stay together on Redis Cluster
NAMESPACE = SCHEMA_HASH[:8]  # states of another feature schema live beside these, never mixed


def shard(user_id: str) -> int:
    """The event shard of a user: CRC-32 of the id's UTF-8 bytes, modulo SHARDS."""
    return zlib.crc32(user_id.encode()) % SHARDS


def state_key(user_id: str) -> str:
    """Where a user's state lives."""
    return f"riffle:{{s{shard(user_id):02d}}}:{NAMESPACE}:user:{user_id}"


def connect(url: str, *, timeout_ms: int, connections: int) -> aioredis.Redis:
    """A client for the request path: explicit short timeouts, no retries, a small blocking pool.

    redis-py's defaults would hold a request for a minute on a dead server (5 s x 11 tries).
    """
    timeout_s = timeout_ms / 1000
    pool = aioredis.BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=max(timeout_s, 0.1),
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    return aioredis.Redis(connection_pool=pool)


class StateLookup:
    """Reads packed user states."""

    def __init__(self, client: aioredis.Redis) -> None:
        self._client = client

    async def fetch(self, user_ids: Sequence[str]) -> tuple[list[bytes | None], str | None]:
        """The packed state of each user, None where there is none.

        Returns:
            The values, and None or why they could not be read: "timeout", "unavailable" or "error"; then all are None.
        """
        try:
            values = await self._client.mget([state_key(user_id) for user_id in user_ids])
            return cast(list[bytes | None], values), None
        except TimeoutError:
            cause = "timeout"
        except ConnectionError:
            cause = "unavailable"
        except (RedisError, OSError):
            cause = "error"
        return [None] * len(user_ids), cause
