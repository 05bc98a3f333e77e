"""The environment variables of the local Ray: for `ray start` and, before `import ray`, for every driver.

Ray Serve reads them when it is imported, in the controller, in the proxies, in the replicas and in the
driver; all four must agree. `tests/service/test_stack.py` holds that the installed Ray knows every name.
"""

import hashlib
import os
import resource
from pathlib import Path

import service
from service.settings import Settings

HAPROXY_BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
LOOPBACK = "127.0.0.1"
_REPLICA_PORTS = 99  # [min, min + 99); the one after it is Serve's fallback proxy
_HAPROXY_FDS_RESERVED = 500  # listeners, threads, health checks


def runtime_folder(settings: Settings) -> Path:
    """The short folder for sockets, HAProxy's files and Ray's sessions of this home.

    Always under /tmp: a socket path has at most 104 bytes on macOS, Ray and HAProxy add up to 75 to this
    one, and a path that followed TMPDIR would be another one in another shell.
    """
    digest = hashlib.sha256(str(settings.home_path).encode()).hexdigest()[:8]
    return Path("/tmp") / f"riffle-{digest}"


def environment(settings: Settings) -> dict[str, str]:
    """All variables, to be set before `ray start` and before `import ray` in a driver."""
    folder = runtime_folder(settings)
    values: dict[str, object] = {
        # --- Ray ---
        "RAY_USAGE_STATS_ENABLED": 0,
        # 0 keeps the head on 127.0.0.1. With 1, Linux's default, GCS, raylet and workers listen on every
        # interface, and whoever reaches them and has the token runs code; other machines need it. Its name speaks of
        # other systems; it works on all.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": int(settings.node_host != LOOPBACK),
        # Serve's own port between replicas listens on every interface all the same; without the token it unpickles
        # what anybody sends.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": token_file(settings),
        "RAY_START_HOOK": "service.stack.ray_hooks.without_client_server",
        "RAY_prestart_worker_first_driver": 0,  # else one idle worker per logical CPU
        "RAY_num_workers_soft_limit": 1,  # idle workers kept
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": 0,  # stopping is stopping: no 30 s of draining to nowhere
        "DASHBOARD_METRIC_PORT": 0,  # any: two stacks on one machine do not meet
        "RAY_LOG_TO_DRIVER": 0,
        # Ray starts workers at niceness 15: they would lose the processor to anything else on the machine.
        "RAY_worker_niceness": 0,
        # --- one thread per replica: parallelism is more replicas ---
        "OMP_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        # --- Serve ---
        "RAY_SERVE_ENABLE_HA_PROXY": 1,
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": 1,
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "service.stack.ray_hooks:http_middlewares",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": settings.replica_port_min,
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": settings.replica_port_min + _REPLICA_PORTS,
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": settings.replica_port_min + _REPLICA_PORTS,
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": 5,  # HAProxy takes a replica out within 2 s
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": 2,
        # Its default, 0.1 s, keeps the controller at 6 % of a core while nothing happens.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": 0.3,
        "RAY_SERVE_KV_TIMEOUT_S": 5,  # none by default: the controller would hang with the GCS
        HAPROXY_BINARY: haproxy_script(settings),
        # --- HAProxy: its files in our folder, so that two stacks do not share an admin socket ---
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": folder / "h" / "haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": folder / "h" / "admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": folder / "h" / "metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder / "h",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": folder / "h" / "server-state",
        # Nobody listens there: its access log has full URLs, and the default is the machine's syslog.
        "RAY_SERVE_HAPROXY_LOG_TARGET": folder / "h" / "log.sock",
        # Metrics made from one log datagram per request, parsed in Python: 0.1 ms of a core for each request.
        # HAProxy's own Prometheus page stays, on its metrics port.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": 0,
        "RAY_SERVE_HAPROXY_STATS_PORT": settings.haproxy_stats_port,
        "RAY_SERVE_HAPROXY_METRICS_PORT": settings.haproxy_metrics_port,
        "RAY_SERVE_HAPROXY_NBTHREAD": max(1, min(4, (os.cpu_count() or 1) // 2)),
        "RAY_SERVE_HAPROXY_MAXCONN": _haproxy_connections(),
        "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": 1,
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": 10,
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": 12,  # above the longest deadline a request may name, 10 s
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": 20,
        "RAY_SERVE_HAPROXY_CLOSE_SPREAD_TIME_S": 5,
        # The requests of a replica that dies are sent again, whatever the method: every route must bear that.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_RETRIES": 2,
        # --- code ---
        "PYTHONPATH": _python_path(),
    }
    return {name: str(value) for name, value in values.items()}


def token_file(settings: Settings) -> Path:
    """Ray's shared secret, which its dashboard asks for once; `ray_head.start` makes it."""
    return settings.home_path / "run" / "ray-token"


def haproxy_script(settings: Settings) -> Path:
    """What Serve takes for HAProxy: `proxy_admission`, which becomes it; `ray_head` makes it.

    Not in `runtime_folder`: /tmp may be mounted noexec, as Docker's tmpfs is.
    """
    return settings.home_path / "run" / "haproxy.sh"


def _haproxy_connections() -> int:
    """As many client connections as the file limit carries, at most 8192; with more HAProxy does not start.

    It counts two files for a connection, and two for a splice pipe for every fourth one.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return 8192
    return max(256, min(8192, int((hard - _HAPROXY_FDS_RESERVED) / 2.5)))


def _python_path() -> str:
    """Where the workers find `service` and `recsys`, installed or not."""
    source = str(Path(service.__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([source, *(path for path in inherited if path and path != source)])
