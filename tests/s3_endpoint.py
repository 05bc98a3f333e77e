"""A real S3 endpoint on this machine (moto over HTTP), whose answers a test may spoil."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

Answer = Callable[[], Iterable[bytes]]
Spoil = Callable[[dict[str, Any], Callable[..., Any], Answer], Iterable[bytes]]


class _Quiet(MotoRequestHandler):
    def log(self, *_: object) -> None:
        return


class S3Endpoint:
    """Requests are answered one after the other: S3 itself is atomic, moto looks first and then writes.

    Attributes:
        url: For AWS_ENDPOINT_URL.
        spoil: Called with a request, `start_response` and what answers as S3 would; its answer counts. None: S3's.
    """

    def __init__(self) -> None:
        self.spoil: Spoil | None = None
        self._lock = threading.Lock()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def __call__(self, request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def answer() -> list[bytes]:
            with self._lock:
                return list(self._app(request, start_response))

        return self.spoil(request, start_response, answer) if self.spoil else answer()

    def stop(self) -> None:
        """End it; its port refuses connections from here on."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def refusal(start_response: Callable[..., Any], status: str, code: str) -> list[bytes]:
    """An error as S3 says it."""
    start_response(status, [("Content-Type", "application/xml")])
    return [f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} for a test</Message></Error>".encode()]
