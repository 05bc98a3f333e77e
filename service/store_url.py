"""Where the store is: one server, or the nodes of a Redis Cluster from which the others are learnt.

`redis+cluster://user:password@host:6379,host:6379` (`rediss+cluster://`: with TLS) is a cluster; everything else is
what redis-py takes.
"""

from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
SCHEMES = ("redis", "rediss", "unix", *CLUSTER_SCHEMES)
_PORT = 6379


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_cluster(url: str) -> bool:
    """Whether a URL names a cluster."""
    return url.partition("://")[0] in CLUSTER_SCHEMES


def check_url(url: str) -> None:
    """Look whether a URL can be one of a store.

    Raises:
        ValueError: it cannot; says why, without its password.
    """
    if url.partition("://")[0] not in SCHEMES or "://" not in url:
        *others, last = (f"{one}://" for one in SCHEMES)
        raise ValueError(f"redis_url does not start with {', '.join(others)} or {last}")
    if is_cluster(url):
        seeds(url)


def seeds(url: str) -> list[Address]:
    """The nodes that a cluster's URL names.

    Raises:
        ValueError: it names none, or a port that is none, or another database than 0.
    """
    parts = urlsplit(url)
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError(f"redis_url asks for database {parts.path.strip('/')}; a cluster has database 0 alone")
    return [_address(one) for one in parts.netloc.rpartition("@")[2].split(",")]


def node_url(url: str, address: Address) -> str:
    """The URL of one node of a cluster: its address, with the user, password, TLS and options of the cluster's URL."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    scheme = parts.scheme.removesuffix("+cluster")
    return SplitResult(scheme, f"{user}{at}{address}", "/0", parts.query, "").geturl()


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    host, port = (host, port) if colon else (text, str(_PORT))
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(
            f"redis_url names {text!r}, which is no host:port; a cluster is redis+cluster://host:port,host:port"
        )
    return Address(host, int(port))
