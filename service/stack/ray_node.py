"""A machine that joins the Ray cluster of another one: a raylet, and HAProxy as soon as a gateway runs here.

Started, recorded and ended as the head is: `riffle down` of this home ends it. Serve's variables must be the same on
every machine, so this is not left to a bare `ray start`.
"""

import os
import socket
import sys
import time
from pathlib import Path

from service.errors import StackError
from service.settings import Settings
from service.stack import ports, processes, ray_head
from service.stack.ray_environment import environment, runtime_folder, token_file

PORTS = ("http_port", "haproxy_stats_port", "haproxy_metrics_port", "metrics_port")
_START_S = 90.0
_REACH_S = 3.0
_STARTED = "Ray runtime started."
_OBJECT_STORE_BYTES = 75 * 2**20  # Ray's minimum; nothing of ours goes through it


def start(settings: Settings, head: str, *, cpus: int) -> None:
    """Join the cluster whose head is at `head`, host:port; returns when Ray has started.

    Args:
        cpus: How many gateways may run here.
    Raises:
        StackError: Ray of this home runs already, there is no token, a port is taken, or the head does not answer.
    """
    if ray_head.has_leader(settings):
        raise StackError(f"Ray of {settings.home_path} runs already; run `riffle down` first")
    if not token_file(settings).exists():
        raise StackError(f"no token of the cluster; copy run/ray-token of the head's home to {token_file(settings)}")
    _reach(head)
    ray_head.stop(settings)
    ports.check(settings, only=PORTS)
    ray_head.make_runtime_folder(settings)
    log = settings.home_path / "logs" / "ray.log"
    seen = log.stat().st_size if log.exists() else 0
    worker_port = {"RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(settings.http_port)}
    leader = processes.spawn(
        _arguments(settings, head, cpus), log=log, environ={**os.environ, **environment(settings), **worker_port}
    )
    ray_head.record(settings, leader)
    try:
        _wait_until_started(leader, log, seen, head)
    except BaseException:
        ray_head.stop(settings)
        raise


def _reach(head: str) -> None:
    """Ray itself would look for a head for a minute and a half."""
    host, _, port = head.rpartition(":")
    if not host or not port.isdecimal():
        raise StackError(f"{head!r} is no host:port; it is node_host and ray_port of the head")
    try:
        with socket.create_connection((host, int(port)), timeout=_REACH_S):
            pass
    except (OSError, OverflowError) as error:
        raise StackError(
            f"no Ray answers at {head} ({error}); start the head with RIFFLE_NODE_HOST={host}, then join"
        ) from error


def _wait_until_started(leader: processes.Recorded, log: Path, seen: int, head: str) -> None:
    began = time.monotonic()
    while _STARTED not in log.read_bytes()[seen:].decode("utf-8", "replace"):
        if not processes.alive(leader) or time.monotonic() - began > _START_S:
            raise StackError(f"this machine did not join {head}; its log {log} ends:\n{processes.tail(log)}")
        time.sleep(0.1)


def _arguments(settings: Settings, head: str, cpus: int) -> list[str]:
    options = {
        "address": head,
        "node-ip-address": settings.node_host,
        "metrics-export-port": settings.metrics_port,
        "dashboard-agent-listen-port": 0,  # any: two nodes of one machine do not meet
        "min-worker-port": 0,
        "max-worker-port": 0,
        "num-cpus": cpus,
        "object-store-memory": _OBJECT_STORE_BYTES,
        "temp-dir": str(runtime_folder(settings) / "ray"),
    }
    # -P: a module of the working directory must not stand in for one of Ray's.
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    return [*command, *(f"--{name}={value}" for name, value in options.items())]
