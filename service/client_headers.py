"""Headers of clients that Ray Serve would obey: taken away before Serve reads them."""

import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# `x-request-timeout-seconds: 0` would switch a timeout off; the others steer Serve's routing.
OBEYED = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve_multiplexed_model_id",
        b"x-session-id",
    }
)
_NO_WATCH: tuple[bytes, bytes] = (b"x-request-disconnect-disabled", b"?1")


class ClientHeaders:
    """ASGI middleware in front of Serve's own handling.

    It also switches Serve's watch for disconnecting clients off: answers take milliseconds, the watch costs a task a
    request, and a micro-batch does not stop for one of its rows.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [pair for pair in scope["headers"] if pair[0] not in OBEYED]
        if not any(name == b"x-request-id" for name, _ in headers):
            headers.append((b"x-request-id", secrets.token_hex(16).encode()))  # else Serve makes a UUID
        scope["headers"] = [*headers, _NO_WATCH]

        async def send_once(message: Message) -> None:
            """The edge has set x-request-id, Serve adds it again."""
            if message["type"] == "http.response.start":
                message["headers"] = list(
                    {bytes(name): (name, value) for name, value in reversed(message["headers"])}.values()
                )
            await send(message)

        await self._app(scope, receive, send_once)
