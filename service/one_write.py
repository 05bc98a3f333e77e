"""An answer leaves in one write: uvicorn writes its head and its body apart, and HAProxy wakes up for either."""

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Held:
    """Stands for an asyncio transport and holds what is written until `flush` or `close`."""

    __slots__ = ("_parts", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport, self._parts = transport, list[bytes]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Take what `flush` will write."""
        self._parts.append(data)

    def flush(self) -> None:
        """Write what is held."""
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()

    def close(self) -> None:
        """Write what is held, and close the transport behind it."""
        self.flush()
        self._transport.close()


class OneWrite:
    """ASGI middleware, the outermost one: holds the head of an answer until its body is there.

    It reaches into uvicorn, whose `send` is a method of the object that has the transport. A server without that writes
    as it does otherwise.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle: Any = getattr(send, "__self__", None)
        if scope["type"] != "http" or not hasattr(cycle, "transport"):
            await self._app(scope, receive, send)
            return

        async def send_held(message: Message) -> None:
            if message["type"] == "http.response.start":
                cycle.transport = Held(cycle.transport)
                await send(message)
            else:
                await send(message)
                cycle.transport.flush()

        await self._app(scope, receive, send_held)
