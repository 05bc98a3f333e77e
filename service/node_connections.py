"""Round trips to one Redis server: a few kept connections, tight timeouts, no retries.

redis-py connects, authenticates, encrypts and parses. Its client above that is left out: pool, retry policy, a task of
its own for each send and commands packed in Python took 8 % of a gateway's time for lookups and 5 % for decision
records. Its defaults would also hold a request for a minute on a dead server (5 s x 11 tries).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio as aioredis
from hiredis import pack_command
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

Command = tuple[str | bytes, ...]
TURNS = 4  # of the loop, between the end of a timeout and giving up: one reads the socket, one wakes who reads on


class NodeConnections:
    """Sends commands together and reads their replies.

    Args:
        timeout_ms: Of one round trip; waiting for a connection and connecting included.
        connections: At most.
    """

    def __init__(self, url: str, *, timeout_ms: int, connections: int) -> None:
        self._timeout_s = timeout_ms / 1000
        self._pool = aioredis.ConnectionPool.from_url(
            url,
            max_connections=connections,
            protocol=2,  # replies as lists
            socket_timeout=None,  # one timeout around it all
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._idle: list[aioredis.Connection] = []
        self._free = asyncio.Semaphore(connections)

    async def call(self, commands: Sequence[Command], *, timeout_s: float | None = None) -> list[Any]:
        """The reply to each command, in order; a reply may be a ResponseError.

        Args:
            timeout_s: Instead of `timeout_ms`.
        Raises:
            TimeoutError: the built-in one. redis.exceptions.ConnectionError, OSError: no connection, or it broke.
            RedisError: the server refused the connection.
        """
        async with _patience(self._timeout_s if timeout_s is None else timeout_s), self._free:
            connection = self._idle.pop() if self._idle else await self._pool.get_connection()
            try:
                packed = b"".join(pack_command(one) for one in commands)  # type: ignore[arg-type]  # the stub: tuples of one
                await connection.send_packed_command(packed, check_health=False)  # connects first if it has to
                return [await _reply(connection) for _ in commands]
            except BaseException:
                await connection.disconnect(nowait=True)  # a late reply is nobody's
                raise
            finally:
                self._idle.append(connection)

    async def demand(self, commands: Sequence[Command]) -> list[Any]:
        """`call`, where a refused command is an error of all of it.

        Raises:
            ResponseError: the first one; commands after it were executed. The rest as `call`.
        """
        return without_errors(await self.call(commands))

    async def close(self) -> None:
        """End the connections."""
        await self._pool.aclose()


def without_errors(replies: list[Any]) -> list[Any]:
    """The replies. Raises the first that is an exception."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    """A timeout that a reply which is there already never meets.

    When a process had to wait for the processor, or its loop was busy, a reply and the end of its time come up in the
    same turn of the loop; asyncio.timeout would cancel who is about to read it. The turn after reads the socket, the
    next one wakes who waits for that: so the time is up a few turns later.
    """
    loop, over = asyncio.get_running_loop(), False

    def end(turns: int) -> None:
        if over:
            return
        if turns:
            loop.call_soon(end, turns - 1)
        else:
            scope.reschedule(loop.time())

    async with asyncio.timeout(None) as scope:
        timer = loop.call_later(seconds, end, TURNS)
        try:
            yield
        finally:
            over = True
            timer.cancel()


async def _reply(connection: aioredis.Connection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
