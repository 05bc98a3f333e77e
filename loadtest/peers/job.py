"""The peers, and what each of their processes is told: through the environment, as frameworks start the workers."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from service.settings import Settings

VARIABLE = "PEER_JOB"


class Peer(NamedTuple):
    """How a peer is started: its module, and what its job says beside the rest; see Job."""

    module: str
    batching: bool = False
    staged: bool = False
    throughput: bool = False


PEERS = {
    "fastapi_uvicorn": Peer("loadtest.peers.fastapi_uvicorn"),
    "bento": Peer("loadtest.peers.bento"),
    "bento_batching": Peer("loadtest.peers.bento", batching=True),
    "lit": Peer("loadtest.peers.lit"),
    "lit_batching": Peer("loadtest.peers.lit", batching=True),
    "ray_docs": Peer("loadtest.peers.ray_serve", staged=True),
    "ray_docs_throughput": Peer("loadtest.peers.ray_serve", staged=True, throughput=True),
}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to serve, and how.

    Attributes:
        settings: Of Riffle: candidates, diversity, explore, and where the registry is.
        bundle: The bundle's id. redis_url: Where the states are; may hold a password.
        namespace: The live one of the states. snapshot: File of the item snapshot, empty where there is none.
        folder: Private and short; for logs, sockets, and a file in `ready/` by each process that can answer.
        port: Of HTTP; the ports from `port + 1` to `port + 59` are the peer's too.
        workers: Processes that compute. batching: Whether the framework makes batches.
        staged: Whether the stages are deployments of their own. throughput: Whether Ray Serve has its throughput flags.
    """

    settings: Settings
    bundle: str
    redis_url: str
    namespace: str
    snapshot: str
    folder: str
    port: int
    workers: int = 2
    batching: bool = False
    staged: bool = False
    throughput: bool = False

    @property
    def ready(self) -> Path:
        """Where each process leaves a file once it can answer."""
        return Path(self.folder) / "ready"

    @property
    def recommenders(self) -> int:
        """Processes that compute; where stages are deployments, two of these do."""
        return 2 * self.replicas if self.staged else self.workers

    @property
    def replicas(self) -> int:
        """Of each stage that is a deployment: one for every two workers."""
        return max(1, self.workers // 2)

    def environment(self) -> dict[str, str]:
        """What `of_environment` reads."""
        return {VARIABLE: msgspec.json.encode(self).decode()}


def of_environment(environ: Mapping[str, str] | None = None) -> Job:
    """The job of this process.

    Raises:
        RuntimeError: it has none, or one that does not decode.
    """
    environ = os.environ if environ is None else environ
    try:
        return msgspec.json.decode(environ[VARIABLE], type=Job)
    except (KeyError, msgspec.DecodeError) as error:
        raise RuntimeError(f"{VARIABLE} does not hold a job: {error}; start peers by loadtest.peers.launch") from error
