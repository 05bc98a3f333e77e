"""Round trips to the store, whether it is one server or a Redis Cluster."""

import asyncio
from collections.abc import Sequence
from typing import Any

from service.cluster import Cluster
from service.node_connections import Command, NodeConnections, without_errors
from service.store_url import is_cluster

__all__ = ["Command", "RoundTrips"]


class RoundTrips:
    """Sends commands together and reads their replies.

    Each command names keys of one hash slot. On a cluster the commands for each node are one round trip, those to
    different nodes are under way at the same time, and a node that does not answer fails its own commands alone.

    Args:
        url: As `store_url` describes.
        timeout_ms: Of one round trip; waiting for a connection and connecting included.
        connections: To one server at most.
    """

    def __init__(self, url: str, *, timeout_ms: int, connections: int) -> None:
        self._cluster: Cluster | None = None
        if is_cluster(url):
            self._cluster = Cluster(url, timeout_ms=timeout_ms, connections=connections)
        else:
            self._server = NodeConnections(url, timeout_ms=timeout_ms, connections=connections)

    @property
    def is_cluster(self) -> bool:
        """Whether keys of different slots lie apart."""
        return self._cluster is not None

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each command, in order.

        A reply may be a ResponseError. On a cluster it may also be what a single server raises: then its node failed.

        Raises:
            TimeoutError: the built-in one. redis.exceptions.ConnectionError, OSError: no connection, or it broke.
            RedisError: the server refused the connection.
        """
        return await (self._server.call(commands) if self._cluster is None else self._cluster.call(commands))

    async def demand(self, commands: Sequence[Command]) -> list[Any]:
        """`call`, where a refused command is an error of all of it.

        Raises:
            ResponseError: the first one; commands after it were executed. The rest as `call`.
        """
        return without_errors(await self.call(commands))

    async def nodes(self) -> list[NodeConnections]:
        """Each server that has keys. Raises as `call` does."""
        return [self._server] if self._cluster is None else await self._cluster.nodes()

    async def now_ms(self) -> int:
        """This moment of the store's clock, UTC epoch milliseconds; of a cluster's clocks the one that is most behind.

        What is appended to a stream from now on has a later position, wherever the stream lies.

        Raises:
            RedisError, OSError, TimeoutError: a node does not say.
        """
        nodes = await self.nodes()
        told = await asyncio.gather(*(node.demand([("TIME",)]) for node in nodes))
        return min(int(seconds) * 1000 + int(micros) // 1000 for ((seconds, micros),) in told)

    async def close(self) -> None:
        """End the connections."""
        await (self._server.close() if self._cluster is None else self._cluster.close())
