"""A Ray of its own with `ray_docs` on it, until the process is ended; all that it starts stays in its session."""

import logging
import os
import secrets
import signal
from pathlib import Path

import msgspec

from loadtest.peers import job
from loadtest.peers.job import Job
from service.stack.ray_environment import environment

# Of the variables of Riffle's head: those that keep two heads on one machine apart, and the machine closed to others;
# and the niceness, 15 by default, with which workers would lose the processor to the load generator.
_SHARED = (
    "RAY_USAGE_STATS_ENABLED",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
    "RAY_AUTH_MODE",
    "RAY_worker_niceness",
    "DASHBOARD_METRIC_PORT",
    "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT",
    "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_MAXCONN",  # with more than the file limit carries HAProxy does not start
)
_FILES = {
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
    "RAY_SERVE_HAPROXY_LOG_TARGET": "log.sock",  # nobody listens there; the default is the machine's syslog
}
# At most 5 s by default, which a busy machine exceeds: then Serve kills its proxy and gives up.
_PATIENCE = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
_THROUGHPUT = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"}


def variables(mine: Job) -> dict[str, str]:
    """What Ray reads when it is imported; the rest is at its defaults."""
    ports = msgspec.structs.replace(
        mine.settings,
        http_port=mine.port,
        haproxy_stats_port=mine.port + 2,
        haproxy_metrics_port=mine.port + 3,
        replica_port_min=mine.port + 10,
    )
    shared = {name: value for name, value in environment(ports).items() if name in _SHARED}
    last = str(mine.port + 59)
    shared |= {"RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": last, "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": last}
    files = {name: str(Path(mine.folder) / "h" / file) for name, file in _FILES.items()}
    flags = _THROUGHPUT if mine.throughput else {}
    return shared | files | _PATIENCE | flags | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


def main() -> None:
    """Start Ray, Serve and the application, and wait for SIGTERM."""
    mine = job.of_environment()
    os.environ.update(variables(mine))
    (Path(mine.folder) / "h").mkdir(mode=0o700)
    import ray  # here: it reads its variables when it is imported
    from ray import serve
    from ray.serve.config import HTTPOptions

    from loadtest.peers.ray_docs import DEPLOYMENTS, REPLICA_CPUS, application

    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, round(DEPLOYMENTS * mine.replicas * REPLICA_CPUS)),
        num_gpus=0,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=mine.port + 1,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(Path(mine.folder) / "ray"),
    )
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=mine.port))
    serve.run(application(mine), name="peer", route_prefix="/")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
