"""A small HTTP server of known behaviour: a fixed delay, one stall, a few refusals, or answers that are no HTTP."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ANSWER = b'{"items":[{"item_id":"1"}],"degraded":[]}'


@dataclass
class Behaviour:
    """Times in seconds since the first request; `stall` holds every request of that span until its end."""

    delay_s: float = 0.001
    stall: tuple[float, float] | None = None
    refuse_every: int | None = None
    body: bytes = ANSWER
    body_of: Callable[[str, bytes], bytes] | None = None  # makes the body, of the path and the body of the request
    raw: bytes | None = None  # sent in place of an answer
    hang_up: bool = False  # close without an answer
    close_every: int | None = None  # `connection: close` with every so many answers
    bodies: list[bytes] = field(default_factory=list)
    began: float | None = None

    async def answer(self, path: str) -> bytes:
        """The bytes that answer the request just read."""
        loop = asyncio.get_running_loop()
        self.began = self.began or loop.time()
        at, number = loop.time() - self.began, len(self.bodies)
        held_s = self.stall[1] - at if self.stall and self.stall[0] <= at < self.stall[1] else 0.0
        await asyncio.sleep(max(held_s, self.delay_s))
        if self.raw is not None:
            return self.raw
        status = b"429 Too Many" if self.refuse_every and number % self.refuse_every == 0 else b"200 OK"
        close = b"connection: close\r\n" if self.close_every and number % self.close_every == 0 else b""
        body = self.body_of(path, self.bodies[number - 1]) if self.body_of else self.body
        return b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (status, close, len(body), body)


@contextmanager
def server(behaviour: Behaviour) -> Iterator[int]:
    """Serve on a free port of this machine, in a thread of its own; gives the port."""
    loop, stop, started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    port = 0

    async def serve() -> None:
        nonlocal port
        async with await asyncio.start_server(
            lambda *streams: _handle(behaviour, *streams), "127.0.0.1", 0
        ) as listening:
            port = listening.sockets[0].getsockname()[1]
            started.set()
            await stop.wait()
            # An accepted connection that meets a closed server is dropped with its socket open: first nobody new.
            loop.remove_reader(listening.sockets[0].fileno())
            for _ in range(10):  # until each has its handler; it takes three
                await asyncio.sleep(0)
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0)  # the closed transports' callbacks

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(5)
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


async def _handle(behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            behaviour.bodies.append(await reader.readexactly(int(length or b"0")))
            if behaviour.hang_up:
                return
            writer.write(answer := await behaviour.answer(head.split()[1].decode()))
            await writer.drain()
            if b"connection: close" in answer:
                return
    except asyncio.CancelledError:
        writer.transport.abort()  # what a client does not read keeps a closed transport open
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()
