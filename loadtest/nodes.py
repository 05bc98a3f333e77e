"""Several Ray nodes on this machine: how gateways spread, what a lost node costs, how often a bundle is in memory.

    python -m loadtest.nodes [--nodes 2] [--gateways 4] [--rate 50] [--out FILE]

It serves the champion of the home (`riffle train` makes one) from a head that it starts, joins further nodes, each with
a home and ports of its own beside it, deploys as many gateways, and asks for lists through the HAProxy of the head and
of a joined node, while it kills another joined node with everything on it. All is ended afterwards. What it cannot
show: a network between machines, and a page cache of each: these nodes share one.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil

from loadtest import machine
from service.settings import Settings, load
from service.stack import processes

_PORTS = ("http_port", "dashboard_port", "ray_port", "haproxy_stats_port", "haproxy_metrics_port", "metrics_port")
_HOST = "127.0.0.{}"  # each node has an address of its own
_REPLACED_S = 120.0
_BEFORE_S, _AFTER_S = 5.0, 10.0


@dataclass
class Asking:
    """One client that asks an HAProxy again and again; what came of it, by second since it began."""

    url: str
    every_s: float
    outcomes: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(15)

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(self.every_s):
            at = time.monotonic() - self._began
            self.outcomes.append((at, ask(self.url, f"user-{number % 500}")))
            number += 1

    def seconds_since_began(self) -> float:
        return time.monotonic() - self._began

    def counts(self, first_s: float, last_s: float) -> dict[str, int]:
        return dict(Counter(outcome for at, outcome in self.outcomes if first_s <= at < last_s))


def ask(url: str, user_id: str) -> str:
    """ "answered", "degraded", or how it failed."""
    body = json.dumps({"user_id": user_id, "count": 5}).encode()
    request = urllib.request.Request(f"{url}/v1/recommendations", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return "degraded" if json.load(response)["degraded"] else "answered"
    except (OSError, ValueError) as error:
        return f"failed: {getattr(error, 'code', type(error).__name__)}"


class Nodes:
    """A head, and nodes that have joined it; each is a home and its ports."""

    def __init__(self, settings: Settings, gateways: int) -> None:
        self._gateways = gateways
        self.head = msgspec.structs.replace(
            settings, gateways=1, gateways_max=gateways, node_host=_HOST.format(2), http_host="0.0.0.0"
        )
        self.joined: list[Settings] = []

    def start(self) -> None:
        riffle(self.head, "serve")

    def join(self) -> None:
        """One more node."""
        number = len(self.joined) + 1
        home = self.head.home_path.with_name(f"{self.head.home_path.name}-node-{number}")
        token = home / "run" / "ray-token"
        token.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(self.head.home_path / "run" / "ray-token", token)
        ports = {name: getattr(self.head, name) + 10 * number for name in _PORTS}
        node = msgspec.structs.replace(self.head, home=str(home), node_host=_HOST.format(2 + number), **ports)
        self.joined.append(node)
        riffle(node, "join", f"{self.head.node_host}:{self.head.ray_port}", "--cpus", str(self._gateways))

    def deploy(self) -> None:
        """As many gateways as asked for, wherever Serve puts them."""
        riffle(msgspec.structs.replace(self.head, gateways=self._gateways), "serve")

    def kill(self, node: Settings) -> None:
        """A machine that is gone at once: nothing on it ends in order."""
        recorded = processes.load(node.home_path / "run" / "ray.json")
        for process in processes.session(recorded) if recorded else []:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def end(self) -> None:
        for one in (*self.joined, self.head):
            riffle(one, "down")
        for one in self.joined:
            shutil.rmtree(one.home_path, ignore_errors=True)

    def gateways(self) -> dict[str, list[psutil.Process]]:
        """The gateway processes of each node."""
        found = {}
        for name, one in (("head", self.head), *((f"node {n}", node) for n, node in enumerate(self.joined, 1))):
            recorded = processes.load(one.home_path / "run" / "ray.json")
            members = processes.session(recorded) if recorded else []
            found[name] = [process for process in members if is_gateway(process)]
        return found


def is_gateway(process: psutil.Process) -> bool:
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return title.startswith("ray::") and "Gateway" in title


def riffle(settings: Settings, *arguments: str) -> None:
    """The command, with these settings in its environment."""
    given = msgspec.to_builtins(settings)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RIFFLE_")}
    for name, value in given.items():
        environ[f"RIFFLE_{name.upper()}"] = json.dumps(value) if isinstance(value, dict) else str(value)
    done = subprocess.run([sys.executable, "-m", "service", *arguments], env=environ, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"riffle {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def mapped_mb(found: dict[str, list[psutil.Process]], folder: Path) -> dict[str, dict[str, float]]:
    """By node, of the bundle's files: megabytes that its gateways see (RSS, summed), and their share of them (PSS)."""
    sizes = {}
    for name, gateways in found.items():
        rss = pss = 0
        for process in gateways:
            for one in process.memory_maps(grouped=True):
                if one.path.startswith(f"{folder}/"):
                    rss, pss = rss + one.rss, pss + one.pss
        sizes[name] = {"gateways": len(gateways), "rss_mb": round(rss / 2**20, 1), "pss_mb": round(pss / 2**20, 1)}
    return sizes


def lose_a_node(nodes: Nodes, every_s: float) -> dict[str, Any]:
    """Kill the first joined node that has gateways, while clients ask through the head and another joined node."""
    spread = {name: len(found) for name, found in nodes.gateways().items()}
    name = next(one for one in spread if one != "head" and spread[one])
    lost = nodes.joined[int(name.removeprefix("node ")) - 1]
    doors = {"head": nodes.head} | {
        f"node {n}": node for n, node in enumerate(nodes.joined, 1) if node is not lost and spread[f"node {n}"]
    }
    clients = {door: Asking(f"http://127.0.0.1:{one.http_port}", every_s) for door, one in doors.items()}
    time.sleep(_BEFORE_S)
    killed_s = next(iter(clients.values())).seconds_since_began()
    nodes.kill(lost)
    began = time.monotonic()
    while sum(map(len, nodes.gateways().values())) < sum(spread.values()) and time.monotonic() - began < _REPLACED_S:
        time.sleep(0.2)
    replaced_s = time.monotonic() - began
    time.sleep(_AFTER_S)
    for client in clients.values():
        client.stop()
    return {
        "lost": name,
        "gateways_before": spread,
        "gateways_after": {one: len(found) for one, found in nodes.gateways().items()},
        "replaced_after_s": round(replaced_s, 1),
        "asked": {
            door: {
                "before": client.counts(0, killed_s),
                "until_replaced": client.counts(killed_s, killed_s + replaced_s),
                "afterwards": client.counts(killed_s + replaced_s, 1e9),
            }
            for door, client in clients.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2, help="that join the head")
    parser.add_argument("--gateways", type=int, default=4)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second and client, at most")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = load()
    settings = msgspec.structs.replace(settings, home=str(settings.home_path))
    nodes = Nodes(settings, given.gateways)
    try:
        nodes.start()
        for _ in range(given.nodes):
            nodes.join()
        nodes.deploy()
        result = {
            "commit": machine.commit(),
            "machine": machine.describe(),
            "versions": machine.versions(),
            "bundle_files": mapped_mb(nodes.gateways(), settings.home_path / "registry"),
            "node_loss": lose_a_node(nodes, 1 / given.rate),
        }
    finally:
        nodes.end()
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
