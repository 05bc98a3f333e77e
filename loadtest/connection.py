"""HTTP/1.1 over kept-alive connections on asyncio: one request at a time on each, every answer before its deadline."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

import httptools


class Answer(NamedTuple):
    """What came back; where nothing did, `failure` says why and `status` is 0.

    Attributes:
        retry_after: Whether it says when to come back.
    """

    status: int
    body: bytes = b""
    failure: str = ""
    retry_after: bool = False


Done = Callable[[Answer], None]


class Connections:
    """At most `limit` connections to one server; the one that was used last is used next.

    Attributes:
        opened: Connections ever opened.
    """

    def __init__(self, host: str, port: int, *, limit: int) -> None:
        self._where, self._limit = (host, port), limit
        self._opening: set[asyncio.Task[None]] = set()
        self.opened = 0
        self.open: set[_Connection] = set()
        self.idle: list[_Connection] = []

    def request(self, path: str, body: bytes) -> bytes:
        """The bytes of a POST of JSON."""
        host, port = self._where
        head = f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def send(self, request: bytes, deadline: float, done: Done) -> None:
        """Send at once; `done` gets the answer or its failure, once. `deadline` is on the loop's clock."""
        if self.idle:
            self.idle.pop().send(request, deadline, done)
        elif len(self.open) + len(self._opening) < self._limit:
            task = asyncio.get_running_loop().create_task(self._send_on_new_connection(request, deadline, done))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            done(_failed("no free connection"))

    async def post(self, path: str, body: bytes, *, timeout_s: float) -> Answer:
        """Send and wait; at most `timeout_s`."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()

        def done(answer: Answer) -> None:
            if not answered.done():  # who waited may have been cancelled
                answered.set_result(answer)

        self.send(self.request(path, body), loop.time() + timeout_s, done)
        return await answered

    async def close(self) -> None:
        """Close every connection, also those that are being opened; requests under way fail."""
        await asyncio.gather(*self._opening)
        for connection in list(self.open):
            connection.close()
        await asyncio.sleep(0)  # the closed transports' callbacks

    async def _send_on_new_connection(self, request: bytes, deadline: float, done: Done) -> None:
        self.opened += 1
        try:
            async with asyncio.timeout_at(deadline):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(lambda: _Connection(self), *self._where)
        except TimeoutError:
            done(_failed("timeout"))
        except OSError:
            done(_failed("not connected"))
        else:
            connection.send(request, deadline, done)


class _Connection(asyncio.Protocol):
    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._done: Done | None = None
        self._body = b""
        self._retry_after = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._pool.open.add(self)

    def send(self, request: bytes, deadline: float, done: Done) -> None:
        if self._transport.is_closing():
            done(_failed("connection lost"))
            return
        self._done, self._body, self._retry_after = done, b"", False
        self._timer = asyncio.get_running_loop().call_at(deadline, self._abandon, "timeout")
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._abandon("not HTTP")

    def on_header(self, name: bytes, _value: bytes) -> None:
        self._retry_after |= name.lower() == b"retry-after"

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._done is None:
            return
        done, self._done = self._done, None
        self._timer.cancel()
        done(Answer(self._parser.get_status_code(), self._body, retry_after=self._retry_after))
        if self._parser.should_keep_alive():
            self._pool.idle.append(self)
        else:
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._pool.open.discard(self)
        with contextlib.suppress(ValueError):
            self._pool.idle.remove(self)
        if self._done is not None:
            self._abandon("connection lost")

    def close(self) -> None:
        self._transport.close()

    def _abandon(self, kind: str) -> None:
        """Give the request up, and the connection with it: a late answer must not be taken for the next one."""
        if self._done is not None:
            done, self._done = self._done, None
            self._timer.cancel()
            done(_failed(kind))
        self._transport.abort()  # type: ignore[attr-defined]


def _failed(kind: str) -> Answer:
    return Answer(0, failure=kind)
