"""HAProxy with our rule, for real: who is refused by it, and that Serve's own configuration takes it."""

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from service.arrival import HEADER, ROOM_HEADER, waited_s
from service.schemas import Problem
from service.stack import proxy_admission
from service.stack.proxy_admission import with_shedding, with_trust
from service.stack.ray_head import _haproxy_binary
from tests.free_ports import free_port

CONFIG = """
global
    maxconn 200
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend http_frontend
    bind 127.0.0.1:{port}
    acl is_gateway path_beg /
    use_backend gateway if is_gateway
backend gateway
    server one 127.0.0.1:{behind}
"""


TRACE = ("traceparent", "tracestate")


class Held(BaseHTTPRequestHandler):
    """Answers a list when it is let go; everything else at once."""

    go = threading.Event()
    came = threading.Semaphore(0)
    waited_s: ClassVar[list[float]] = []
    room: ClassVar[str] = ""
    traces: ClassVar[list[list[str]]] = []

    def do_POST(self) -> None:
        self.traces.append([self.headers[name] for name in TRACE if self.headers[name]])
        self.rfile.read(int(self.headers["content-length"]))
        self.waited_s.append(waited_s((self.headers[HEADER.decode()] or "").encode()))
        if self.path == "/v1/recommendations":
            self.came.release()
            self.go.wait(5)
        self.send_response(200)
        self.send_header("content-length", "0")
        if self.room:
            self.send_header(ROOM_HEADER.decode(), self.room)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port(tmp_path: Path, trusted: str) -> Iterator[int]:
    """HAProxy in front of one gateway that may have four lists under way."""
    Held.go, Held.came, Held.room = threading.Event(), threading.Semaphore(0), ""
    behind = ThreadingHTTPServer(("127.0.0.1", 0), Held)
    thread = threading.Thread(target=behind.serve_forever)
    thread.start()
    port, path = free_port(), tmp_path / "haproxy.cfg"
    path.write_text(CONFIG.format(port=port, behind=behind.server_port), "utf-8")
    command = [
        sys.executable,
        "-I",
        "-S",
        proxy_admission.__file__,
        _haproxy_binary(),
        "4",
        trusted,
        "-db",
        "-f",
        str(path),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            while True:
                assert process.poll() is None, process.stderr and process.stderr.read()
                try:
                    assert ask(port, "/v1/events", "{}") == (200, b"", None)
                    break
                except OSError:
                    pass
            yield port
        finally:
            Held.go.set()
            process.kill()
            behind.shutdown()
            behind.server_close()
            thread.join()


@pytest.fixture
def trusted() -> str:
    """Whose traceparent is honoured."""
    return ""


def ask(port: int, path: str, body: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, str | None]:
    """Status, body and Retry-After."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"} | (headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("retry-after")
    finally:
        connection.close()


def hold(port: int, body: str, requests: int) -> list[threading.Thread]:
    """So many requests for lists, all of which have reached the gateway."""
    threads = [threading.Thread(target=ask, args=(port, "/v1/recommendations", body)) for _ in range(requests)]
    for thread in threads:
        thread.start()
        assert Held.came.acquire(timeout=5)
    return threads


def test_low_priority_is_refused_first_then_the_rest_high_last_and_events_never(port: int) -> None:
    low, normal, high = ('{"user_id":"1","priority": "low"}', '{"user_id":"1"}', '{"user_id":"1","priority":"high"}')
    held = hold(port, normal, 2)
    assert ask(port, "/v1/recommendations", low)[0] == 429
    held += hold(port, normal, 2)
    status, body, retry_after = ask(port, "/v1/recommendations", normal)
    assert (status, retry_after) == (429, "1")
    held += hold(port, high, 2)
    assert ask(port, "/v1/recommendations", high)[0] == 429
    assert ask(port, "/v1/events", "{}")[0] == 200
    Held.go.set()
    for thread in held:
        thread.join()
    assert ask(port, "/v1/recommendations", low)[0] == 200
    problem = json.loads(body)
    assert problem.keys() <= set(Problem.__struct_fields__)
    assert (problem["status"], problem["type"]) == (429, "urn:riffle:problem:overloaded")


def test_gateway_says_how_many_lists_it_has_room_for_and_the_client_does_not_see_it(port: int) -> None:
    Held.go.set()
    Held.room = "2"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/v1/recommendations", "{}", {"content-type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader(ROOM_HEADER.decode())) == (200, None)
    connection.close()
    Held.go.clear()
    while Held.came.acquire(blocking=False):
        pass
    held = hold(port, "{}", 2)
    assert ask(port, "/v1/recommendations", "{}")[0] == 429
    Held.room = "7"
    Held.go.set()
    for thread in held:
        thread.join()
    Held.go.clear()
    held = hold(port, "{}", 7)
    assert ask(port, "/v1/recommendations", "{}")[0] == 429
    Held.go.set()
    for thread in held:
        thread.join()


def test_gateway_is_told_since_when_a_list_waits_whatever_the_client_says(port: int) -> None:
    Held.go.set()
    Held.waited_s.clear()
    assert ask(port, "/v1/recommendations", "{}", {HEADER.decode(): "1"})[0] == 200
    (waited,) = Held.waited_s
    assert 0 < waited < 1


@pytest.mark.parametrize(
    ("trusted", "reaches"),
    [("", False), ("10.0.0.0/8,fd00::/8", False), ("127.0.0.0/8", True), ("10.0.0.0/8,127.0.0.1/32", True)],
)
def test_trace_of_a_caller_reaches_the_gateway_from_whom_is_trusted_alone(port: int, reaches: bool) -> None:
    Held.traces.clear()
    sent = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1"}
    assert ask(port, "/v1/events", "{}", sent)[0] == 200
    assert Held.traces == [list(sent.values()) if reaches else []]


def test_a_configuration_without_a_route_stays_as_it_is() -> None:
    config = CONFIG.replace("    use_backend gateway if is_gateway\n", "")
    assert with_trust(with_shedding(config, 64), "") == config


RENDER = """
import sys
from ray.serve.config import HTTPOptions
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
folder, *ports = sys.argv[1:]
server = ServerConfig("a", "127.0.0.1", 30000)
backend = BackendConfig(name="HTTP-riffle", path_prefix="/", app_name="riffle", servers=[server])
options = HTTPOptions(port=int(ports[0]))
config = HAProxyConfig(socket_path=folder + "/s", http_options=options, metrics_port=int(ports[1]))
HAProxyApi(config, {"HTTP-riffle": backend}, config_file_path=folder + "/haproxy.cfg")._generate_config_file_internal()
"""


def test_the_configuration_of_the_installed_serve_takes_the_rule(tmp_path: Path) -> None:
    ports = [str(free_port()), str(free_port())]
    subprocess.run([sys.executable, "-c", RENDER, str(tmp_path), *ports], check=True, capture_output=True)
    path = tmp_path / "haproxy.cfg"
    changed = with_trust(with_shedding(path.read_text("utf-8"), 64), "10.0.0.0/8,fd00::/8")
    assert changed.index("acl riffle_lists") < changed.index("use_backend HTTP-riffle")
    assert changed.index("http-request del-header traceparent") < changed.index("use_backend HTTP-riffle")
    path.write_text(changed, "utf-8")
    done = subprocess.run([_haproxy_binary(), "-c", "-f", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_operators_binary_is_taken_and_our_own_script_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", "/opt/haproxy")
    assert _haproxy_binary() == "/opt/haproxy"
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", "/srv/riffle/run/haproxy.sh")
    assert os.access(_haproxy_binary(), os.X_OK)
