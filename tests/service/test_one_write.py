"""Answers through a real uvicorn: one write each, and none that is held back for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.one_write import OneWrite
from tests.free_ports import free_port

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
BODY = {"type": "http.response.body", "body": b"hello"}


async def hello(_: Scope, __: Receive, send: Send) -> None:
    await send(HEAD)
    await send(BODY)


async def in_pieces(_: Scope, __: Receive, send: Send) -> None:
    await send({**HEAD, "headers": []})
    for piece in (b"he", b"llo"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def broken(_: Scope, __: Receive, send: Send) -> None:
    await send(HEAD)
    raise RuntimeError("after the head")


async def never_begun(_: Scope, __: Receive, ___: Send) -> None:
    raise RuntimeError("before the head")


def counted(app: ASGIApp, writes: list[bytes]) -> ASGIApp:
    """The app behind uvicorn's transport with its writes written down."""

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            cycle = send.__self__  # type: ignore[attr-defined]
            cycle.transport = Watched(cycle.transport, writes)
        await app(scope, receive, send)

    return watched


class Watched:
    def __init__(self, transport: asyncio.Transport, writes: list[bytes]) -> None:
        self._transport, self._writes = transport, writes

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        self._transport.write(data)


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[int]:
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="critical", lifespan="off", http="httptools", loop="none")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        yield port
    finally:
        server.should_exit = True
        await task


async def exchange(port: int, *requests: str) -> bytes:
    """Everything that comes back over one connection; the last request closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for request in requests:
            writer.write(request.encode())
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def get(method: str = "GET", *, last: bool = True) -> str:
    return f"{method} / HTTP/1.1\r\nhost: x\r\n{'connection: close' if last else 'x: y'}\r\n\r\n"


async def test_an_answer_is_one_write() -> None:
    writes: list[bytes] = []
    async with serving(counted(OneWrite(hello), writes)) as port:
        answer = await exchange(port, get())
    assert answer == b"".join(writes)
    assert len(writes) == 1
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\nhello")


async def test_without_it_uvicorn_writes_twice() -> None:
    writes: list[bytes] = []
    async with serving(counted(hello, writes)) as port:
        await exchange(port, get())
    assert len(writes) == 2


@pytest.mark.parametrize("app", [hello, in_pieces])
async def test_answers_over_one_connection_are_what_they_are_without_it(app: ASGIApp) -> None:
    requests = [get(last=False), get("HEAD", last=False), get("POST")]
    answers = []
    for one in (app, OneWrite(app)):
        async with serving(one) as port:
            answers.append(await exchange(port, *requests))
    without_date = [[line for line in one.split(b"\r\n") if not line.startswith(b"date:")] for one in answers]
    assert without_date[0] == without_date[1]
    assert answers[1].count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(("app", "begin"), [(broken, b"HTTP/1.1 200"), (never_begun, b"HTTP/1.1 500")])
async def test_an_app_that_fails_leaves_nothing_held(app: ASGIApp, begin: bytes) -> None:
    async with serving(OneWrite(app)) as port:
        answer = await exchange(port, get())
    assert answer.startswith(begin)


async def test_a_server_without_a_transport_is_left_alone() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    await OneWrite(hello)({"type": "http"}, receive, send)
    assert sent == [HEAD, BODY]
