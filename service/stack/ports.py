"""The ports of the stack: which are taken, by whom, and which setting moves them."""

import socket
from collections.abc import Iterable

import msgspec
import psutil

from service.errors import StackError
from service.settings import Settings

# The replica range is not here: Serve itself walks past the ports in it that are taken.
RAY_PORTS = ("http_port", "dashboard_port", "ray_port", "haproxy_stats_port", "haproxy_metrics_port", "metrics_port")


class Taken(msgspec.Struct, frozen=True):
    """A port of the stack that cannot be bound. `owner` and `pid` are empty when the system does not tell."""

    setting: str
    port: int
    owner: str = ""
    pid: int | None = None

    def __str__(self) -> str:
        by = f"{self.owner} (pid {self.pid})" if self.pid else "a process of another user"
        return f"port {self.port} ({self.setting}) is taken by {by}"

    @property
    def remedy(self) -> str:
        """What to set to go around it."""
        return f"end that process, or choose another port: RIFFLE_{self.setting.upper()}={free_port()}"


def names(settings: Settings) -> tuple[str, ...]:
    """The settings that name a port which this stack binds; the embedded Valkey's only when it is used."""
    return RAY_PORTS if settings.redis_url else (*RAY_PORTS, "valkey_port")


def taken(settings: Settings, only: Iterable[str] | None = None) -> list[Taken]:
    """The ports of `settings` that cannot be bound now; `only` restricts to these settings.

    The owner is named where the system permits it (on macOS and for other users' processes it may not).
    """
    wanted = names(settings) if only is None else only
    busy = {name: getattr(settings, name) for name in wanted if not _bindable(getattr(settings, name))}
    owners = _listeners() if busy else {}
    return [Taken(name, port, *owners.get(port, ("", None))) for name, port in busy.items()]


def check(settings: Settings, only: Iterable[str] | None = None) -> None:
    """Refuse ports that are taken, or that two settings share.

    Raises:
        StackError: naming the port, its owner if known, and the variable that moves it.
    """
    named: dict[int, str] = {}
    for name in names(settings):
        port = getattr(settings, name)
        if port in named:
            remedy = f"RIFFLE_{name.upper()}={free_port()}"
            raise StackError(f"{named[port]} and {name} are both {port}; set {remedy} to separate them")
        named[port] = name
    if busy := taken(settings, only):
        raise StackError("; ".join(f"{port}: {port.remedy}" for port in busy))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _bindable(port: int) -> bool:
    # Both addresses: Linux refuses the wildcard when any address is taken, macOS only the very same address.
    for address in ("127.0.0.1", ""):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is not an owner
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def _listeners() -> dict[int, tuple[str, int | None]]:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return {}
    owners: dict[int, tuple[str, int | None]] = {}
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.pid:
            try:
                owners[connection.laddr.port] = (psutil.Process(connection.pid).name(), connection.pid)
            except psutil.NoSuchProcess:
                continue
    return owners
