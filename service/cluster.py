"""Round trips to a Redis Cluster: to each node its own commands, all nodes at the same time.

Which node has which slot is learnt from the nodes, and again when one of them says MOVED, or does not answer. A command
that comes to the wrong node is sent to the right one once, within the same time: it was not executed, so this is no
retry. A node that failed is left alone until it answers a probe: nobody else's commands wait for it.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

from redis.exceptions import AskError, ClusterDownError, ConnectionError, MovedError, RedisError

from service.node_connections import Command, NodeConnections, without_errors
from service.slots import SLOTS, slot_of_command
from service.store_url import Address, node_url, seeds

MEND_EVERY_S = 0.1  # between looks at the map of slots and at nodes that failed, while there is a reason
PROBE_S = 1.0
_FAILURES = (RedisError, OSError, TimeoutError)
_log = logging.getLogger(__name__)


class Node:
    """A node, and whether it failed and has not answered since."""

    __slots__ = ("address", "connections", "is_down")

    def __init__(self, address: Address, connections: NodeConnections) -> None:
        self.address, self.connections, self.is_down = address, connections, False


class _Unit(NamedTuple):
    """A command and those that go with it to the same node: their places."""

    slot: int
    places: list[int]


class Cluster:
    """Sends each command to the node that has its slot.

    Args:
        url: As `store_url` describes. timeout_ms: Of a call, redirections included. connections: To each node at most.
    """

    def __init__(self, url: str, *, timeout_ms: int, connections: int) -> None:
        self._url, self._timeout_ms, self._connections = url, timeout_ms, connections
        self._nodes = {address: self._new(address) for address in seeds(url)}
        self._owners: list[Node | None] = []  # of each slot; empty while nothing is known
        self._mending: asyncio.Task[None] | None = None

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each command, in order; what went wrong with it is its reply. Raises nothing."""
        units = _units(commands)
        try:
            owners = await self._known()
        except _FAILURES as error:
            return [error] * len(commands)
        until = monotonic() + self._timeout_ms / 1000
        replies: list[Any] = [None] * len(commands)
        await self._send(commands, [(owners[unit.slot], False, unit) for unit in units], replies, until)
        redirected = []
        for unit in units:
            told = next((one for one in map(replies.__getitem__, unit.places) if isinstance(one, AskError)), None)
            if told is not None:
                redirected.append((self._redirected(told, owners[unit.slot]), not isinstance(told, MovedError), unit))
            elif any(isinstance(replies[place], ClusterDownError) for place in unit.places):
                self._mend()
        if redirected:
            await self._send(commands, redirected, replies, until)
        return replies

    async def nodes(self) -> list[NodeConnections]:
        """Those that have slots. Raises RedisError, OSError, TimeoutError: it is not known which."""
        return [node.connections for node in dict.fromkeys(await self._known()) if node is not None]

    async def close(self) -> None:
        """End the connections."""
        if self._mending is not None:
            self._mending.cancel()
            with suppress(asyncio.CancelledError):
                await self._mending
        for node in self._nodes.values():
            await node.connections.close()

    async def _send(
        self,
        commands: Sequence[Command],
        targets: Sequence[tuple[Node | None, bool, _Unit]],
        replies: list[Any],
        until: float,
    ) -> None:
        """Fill in the replies. targets: node, whether it has to be told that the slot is on its way to it, unit."""
        of_node: dict[Node | None, list[tuple[bool, int]]] = {}
        for node, asking, unit in targets:
            of_node.setdefault(node, []).extend((asking, place) for place in unit.places)

        async def send(node: Node | None, places: list[tuple[bool, int]]) -> None:
            sent: list[Command] = []
            at = []
            for asking, place in places:
                sent += [("ASKING",), commands[place]] if asking else [commands[place]]
                at.append(len(sent) - 1)
            found = await self._ask(node, sent, until - monotonic())
            for (_, place), number in zip(places, at, strict=True):
                replies[place] = found[number]

        if len(of_node) == 1:
            (only,) = of_node.items()
            await send(*only)
        else:
            await asyncio.gather(*(send(node, places) for node, places in of_node.items()))

    async def _ask(self, node: Node | None, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        error: Exception
        if node is None:
            self._mend()
            error = ConnectionError("no node of the cluster has this slot")
        elif node.is_down:
            self._mend()
            error = ConnectionError(f"the node {node.address} does not answer")
        elif timeout_s <= 0:
            error = TimeoutError("no time is left to ask the node that has the slot now")
        else:
            try:
                return await node.connections.call(commands, timeout_s=timeout_s)
            except _FAILURES as failure:
                self._failed(node, failure)
                error = failure
        return [error] * len(commands)

    def _redirected(self, told: AskError, asked: Node | None) -> Node:
        """The node that has the slot, or is about to."""
        node = self._at(Address(told.host or (asked.address.host if asked else ""), told.port))
        if isinstance(told, MovedError):
            self._owners[told.slot_id] = node
            self._mend()
        return node

    def _failed(self, node: Node, failure: Exception) -> None:
        if not node.is_down:
            _log.warning("the node %s of the store fails: %s", node.address, str(failure) or type(failure).__name__)
        node.is_down = True
        self._mend()

    async def _known(self) -> list[Node | None]:
        if not self._owners:
            try:
                await self._learn(self._timeout_ms / 1000)
            except _FAILURES:
                self._mend()
                raise
        return self._owners

    async def _learn(self, timeout_s: float) -> None:
        """Learn which node has which slot, from whichever node answers first.

        Raises:
            RedisError, OSError, TimeoutError: why none did.
        """
        asked = list(self._nodes.values())
        waiting = {asyncio.ensure_future(self._map_of(node, timeout_s)): node for node in asked}
        failure: BaseException = ConnectionError("no node of the cluster is known")
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    node = waiting.pop(one)
                    if (error := one.exception()) is None:
                        self._take(one.result(), node)
                        return
                    failure = error
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        raise failure

    async def _map_of(self, node: Node, timeout_s: float) -> list[Any]:
        """What a node says; one that was forgotten by its cluster, or never had one, says nothing of use."""
        (ranges,) = without_errors(await node.connections.call([("CLUSTER", "SLOTS")], timeout_s=timeout_s))
        if not ranges:
            raise ConnectionError(f"the node {node.address} knows no slots")
        return ranges

    def _take(self, ranges: list[Any], asked: Node) -> None:
        owners: list[Node | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            node = self._at(Address(host.decode() if host else asked.address.host, int(port)))
            owners[first : last + 1] = [node] * (last - first + 1)
        self._owners = owners

    def _at(self, address: Address) -> Node:
        if address not in self._nodes:
            self._nodes[address] = self._new(address)
        return self._nodes[address]

    def _new(self, address: Address) -> Node:
        url = node_url(self._url, address)
        return Node(address, NodeConnections(url, timeout_ms=self._timeout_ms, connections=self._connections))

    def _mend(self) -> None:
        if self._mending is None or self._mending.done():
            self._mending = asyncio.get_running_loop().create_task(self._go_on_mending())

    async def _go_on_mending(self) -> None:
        """Look at the map and at nodes that failed until the map is known and each node in it answers."""
        while True:
            learnt = False
            with suppress(*_FAILURES):
                await self._learn(PROBE_S)
                learnt = True
            owners = {node for node in self._owners if node is not None}
            await asyncio.gather(*(self._probe(node) for node in owners if node.is_down))
            await asyncio.sleep(MEND_EVERY_S)
            if learnt and not any(node.is_down for node in owners) and None not in self._owners:
                return

    async def _probe(self, node: Node) -> None:
        with suppress(*_FAILURES):
            without_errors(await node.connections.call([("PING",)], timeout_s=PROBE_S))
            node.is_down = False
            _log.warning("the node %s of the store answers again", node.address)


def _units(commands: Sequence[Command]) -> list[_Unit]:
    units: list[_Unit] = []
    for place, command in enumerate(commands):
        slot = slot_of_command(command)
        if slot is None:
            units[-1].places.append(place)
        else:
            units.append(_Unit(slot, [place]))
    return units
