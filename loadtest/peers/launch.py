"""Starts a peer in an environment of its own, and ends whatever it has started."""

import http.client
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
import redis

from loadtest.compute import ONE_THREAD
from loadtest.peers.job import PEERS, VARIABLE, Job, Peer
from service.errors import StackError
from service.item_snapshot import snapshot_key
from service.settings import Settings
from service.stack import processes
from service.state_keys import live_key, live_name
from service.world import registry

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-peers"
PATH = "/v1/recommendations"
START_S = 180.0
_GRACE_S = 5.0
_WARM_REQUESTS = 50
_ELSEWHERE = ("RIFFLE_", "RAY_", "PYTHON")  # variables of Riffle's own stack, which are not a peer's


@dataclass(frozen=True)
class Running:
    """A peer that answers.

    Attributes:
        url: Where, without a path. log: What its processes print.
    """

    url: str
    log: Path
    leader: processes.Recorded
    folder: Path

    def processes(self) -> list[psutil.Process]:
        """All of its processes that run now, for their CPU time and memory; the store is not among them."""
        return _members(self.leader, self.folder)


@contextmanager
def started(
    name: str,
    settings: Settings,
    bundle_id: str,
    redis_url: str,
    port: int,
    *,
    workers: int = 2,
    python: Path | None = None,
) -> Iterator[Running]:
    """A peer, while the context lasts; it answers when the context begins, from every worker. Nothing of it stays.

    Args:
        name: One of PEERS.
        settings: Riffle's; of these it takes where the registry is, and how lists are made.
        bundle_id: Or "champion".
        port: Of HTTP; what else it listens on is below `port + 60`.
        python: The interpreter to run it; None for that of `make .venv-peers/.done`.
    Raises:
        StackError: no such peer, environment or store, no worker, the port is taken, or it did not come up.
        RegistryError: no such bundle.
    """
    interpreter = _interpreter(name, python)
    if workers < 1:
        raise StackError(f"a peer needs at least one worker; {workers} were asked for")
    bundle = registry(settings).path(bundle_id).name
    _check_free(port)
    folder = Path(tempfile.mkdtemp(prefix="riffle-peer-", dir="/tmp"))  # short, for the sockets in it
    try:
        job = _job(PEERS[name], settings, bundle, redis_url, folder, port=port, workers=workers)
        job.ready.mkdir()
        log = folder / "log"
        command = [str(interpreter), "-P", "-m", PEERS[name].module]
        leader = processes.spawn(command, log=log, environ=_environ(job))
        try:
            running = Running(f"http://127.0.0.1:{port}", log, leader, folder)
            _wait_until_ready(name, running, job)
            yield running
        finally:
            _end(name, leader, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _interpreter(name: str, python: Path | None) -> Path:
    if name not in PEERS:
        raise StackError(f"there is no peer {name!r}; choose one of {', '.join(PEERS)}")
    found = python or ENVIRONMENT / "bin" / "python"
    if not found.exists():
        raise StackError(f"{found} does not exist; `make .venv-peers/.done` makes the environment of the peers")
    return found


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is not an owner
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(f"port {port} is taken: {error}; choose another for the peer") from error


def _job(peer: Peer, settings: Settings, bundle: str, redis_url: str, folder: Path, *, port: int, workers: int) -> Job:
    """The same item stats for all processes of the peer: those that the store has now."""
    try:
        with redis.Redis.from_url(redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
            namespace = live_name(client.get(live_key()))
            found = client.get(snapshot_key(namespace))
    except (redis.RedisError, OSError) as error:
        raise StackError(f"the store does not answer: {error}; `riffle doctor` looks for causes") from error
    snapshot = folder / "item-snapshot"
    if found:
        snapshot.write_bytes(found)
    return Job(
        settings=msgspec.structs.replace(settings, home=str(settings.home_path)),
        bundle=bundle,
        redis_url=redis_url,
        namespace=namespace,
        snapshot=str(snapshot) if found else "",
        folder=str(folder),
        port=port,
        workers=workers,
        batching=peer.batching,
        staged=peer.staged,
        throughput=peer.throughput,
    )


def _environ(job: Job) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_ELSEWHERE)}
    return {**kept, **ONE_THREAD, **job.environment(), "PYTHONPATH": str(ROOT), "TMPDIR": job.folder}


def _wait_until_ready(name: str, running: Running, job: Job) -> None:
    """Until each process that computes has warmed up and the peer answers; then some requests to warm up the rest."""
    began, last = time.monotonic(), "no answer"
    while True:
        if len(list(job.ready.iterdir())) >= job.recommenders:
            with suppress(OSError, http.client.HTTPException):
                status, body = ask(running.url, "riffle:warm-up", 20)
                if status == 200:
                    break
                last = f"status {status}: {body[:300].decode('utf-8', 'replace')}"
        late = time.monotonic() - began > START_S
        if late or not processes.alive(running.leader):
            printed = processes.tail(running.log, lines=20)
            raise StackError(f"{name} did not start ({last}); what it printed ends:\n{printed}")
        time.sleep(0.1)
    for _ in range(_WARM_REQUESTS):
        ask(running.url, "riffle:warm-up", 20)


def ask(url: str, user_id: str, count: int, *, timeout_s: float = 10.0) -> tuple[int, bytes]:
    """One request to a peer: the status and the body of its answer.

    Raises:
        OSError, HTTPException: there was none.
    """
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout_s)
    try:
        body = json.dumps({"user_id": user_id, "count": count})
        connection.request("POST", PATH, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _members(leader: processes.Recorded, folder: Path) -> list[psutil.Process]:
    """The session of the leader, and those who left it: they still have the job, which names the folder.

    BentoML's workers lead sessions of their own. Ray's processes stay, but overwrite their environment with a title.
    """
    found = {process.pid: process for process in processes.session(leader)}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid not in found and str(folder) in process.environ().get(VARIABLE, ""):
                found[process.pid] = process
    return list(found.values())


def _end(name: str, leader: processes.Recorded, folder: Path) -> None:
    for grace_s in (_GRACE_S, 0, 0):  # what was about to start another process as it was listed
        if not (left := _members(leader, folder)):
            return
        processes.end(left, grace_s)
    if survivors := _members(leader, folder):
        named = ", ".join(str(process.pid) for process in survivors)
        raise StackError(f"processes of {name} do not end: {named}; end them by hand with kill -9")
