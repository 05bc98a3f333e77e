"""Collectors on real sockets: one that takes what it is sent, and some that no one should trust."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.free_ports import free_port


class Taking:
    """What a well-behaved collector was sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.metrics: dict[str, list[tuple[dict[str, str], float]]] = {}
        self.resources: list[dict[str, str]] = []

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for of in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append({one.key: one.value.string_value for one in of.resource.attributes})
                self.spans += [span for scope in of.scope_spans for span in scope.spans]
            return
        assert path == "/v1/metrics"
        for of_all in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.resources.append({one.key: one.value.string_value for one in of_all.resource.attributes})
            for metric in [one for scope in of_all.scope_metrics for one in scope.metrics]:
                points = metric.sum.data_points or metric.gauge.data_points
                self.metrics[metric.name] = [
                    (
                        {one.key: one.value.string_value for one in point.attributes},
                        point.as_double or float(point.as_int),
                    )
                    for point in points
                ]


@contextmanager
def taking() -> Iterator[tuple[str, Taking]]:
    """A collector that takes everything."""
    found = Taking()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def refusing() -> Iterator[str]:
    """Nobody listens."""
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def _talking(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Takes connections, and does with each what `talk` does until the context ends."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        def one(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                talk(connection, over)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def silent() -> Any:
    """Takes the connection and never says a word."""
    return _talking(lambda _, over: over.wait(60) and None)


def garbage() -> Any:
    """Answers what is no HTTP."""
    return _talking(lambda connection, _: connection.sendall(b"\x00\xff" * 5_000))


def endless() -> Any:
    """Says 200 and then goes on for ever."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        while not over.is_set():
            connection.sendall(b"x" * 65_536)

    return _talking(talk)


def dripping() -> Any:
    """Says 503 and then a byte now and again."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 503 No\r\nretry-after: 100000\r\ncontent-length: 100000\r\n\r\n")
        while not over.wait(0.05):
            connection.sendall(b"x")

    return _talking(talk)


def redirecting() -> Any:
    """Sends everybody elsewhere."""

    def talk(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")

    return _talking(talk)


HOSTILE = [refusing, silent, garbage, endless, dripping, redirecting]
