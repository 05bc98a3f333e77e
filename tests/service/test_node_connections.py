"""A timeout is the store's, not that of a loop that was busy with something else."""

import asyncio
import socket
import time
from collections.abc import Callable

import pytest
import redis
import uvloop

from service.node_connections import NodeConnections
from tests.service.conftest import BreakableStore

TIMEOUT_MS = 50
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.valkey
@pytest.mark.parametrize("loop_factory", LOOPS)
@pytest.mark.parametrize("size", [10, 300_000])  # of the reply, bytes: read in one piece, and in several
def test_reply_that_came_while_the_loop_was_busy_is_no_timeout(
    breakable_store: BreakableStore, loop_factory: Callable[[], asyncio.AbstractEventLoop], size: int
) -> None:
    with redis.Redis.from_url(breakable_store.url) as client:
        client.set("key", b"x" * size)

    async def asked() -> list[bytes]:
        node = NodeConnections(breakable_store.url, timeout_ms=TIMEOUT_MS, connections=1)
        await node.call([("PING",)], timeout_s=5.0)  # connected
        found = []
        for _ in range(20):
            task = asyncio.ensure_future(node.call([("GET", "key")]))
            await asyncio.sleep(0)  # sent
            await asyncio.sleep(0)
            time.sleep(2 * TIMEOUT_MS / 1000)  # a batch, many requests, or another process on this processor
            found += await task
        await node.close()
        return found

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert [len(one) for one in runner.run(asked())] == [size] * 20


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_server_that_says_nothing_is_a_timeout_when_its_time_is_over(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def asked(port: int) -> float:
        node = NodeConnections(f"redis://127.0.0.1:{port}/0", timeout_ms=TIMEOUT_MS, connections=1)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await node.call([("PING",)])
        took_s = time.monotonic() - began
        await node.close()
        return took_s

    with socket.create_server(("127.0.0.1", 0)) as server, asyncio.Runner(loop_factory=loop_factory) as runner:
        took_s = runner.run(asked(server.getsockname()[1]))
    assert TIMEOUT_MS / 1000 <= took_s < 5
