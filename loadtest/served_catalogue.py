"""What a large catalogue costs the service that is up: start of a replica, memory, recall, processor time per request.

    RIFFLE_HOME=.riffle-large python -m loadtest.served_catalogue

For a bundle of `loadtest.large_catalogue`. Its first users like what it says they like: their events are sent and
applied first. Then, in this order: loading and warming up in a process like a replica; a gateway replica is ended and
the time is taken until Serve has another one running; PSS of every process, in which a mapped page counts once per
node; recall@200 of both indexes beside exact search, for the vectors of those users; `recommend` in batches of 16; wrk,
and the processor time of the whole stack meanwhile. One JSON file in results/, one line printed.
"""

import argparse
import json
import logging
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import redis

from loadtest import machine, wrk
from loadtest.compute import batches, measure
from loadtest.deployed import PATH, RESULTS, Deployed, deployed
from loadtest.large_catalogue import LIKED
from loadtest.target import child, load_of
from recsys.errors import RecsysError
from recsys.retrieval.index import Index
from recsys.types import World
from recsys.users import Users
from service.errors import ServiceError, StackError
from service.event_backlog import backlog
from service.settings import Settings, load
from service.stack import application, processes
from service.state_keys import live_key, live_name, state_key
from service.world import load_world, registry

USERS = 512
BATCH = 16
K = 200
_EVENTS = 1_000  # of a request
_APPLIED_S = 120.0
_RUNNING_S = 180.0
_PATIENT_MS = 10_000  # a request that a shorter deadline makes popular, or sheds, is cheap and no answer
_PER_BILLION = 1e9 / 86_400  # requests a second that are a billion a day
_REPLICA = "ray::ServeReplica:riffle:Gateway"


def prove(settings: Settings, *, duration_s: int, connections: int) -> dict[str, Any]:
    """All figures of the stack that is up.

    Raises:
        ServiceError, RecsysError: nothing is up, its bundle has no invented users, no wrk.
    """
    wrk.find()
    stack = deployed(settings)
    world = load_world(settings, stack.bundle)
    user_ids = _send_likes(settings, stack, world)
    _say("loading and warming up in process")
    alone = child(["loadtest.replica_start"], stack.bundle.encode(), _RUNNING_S)
    _say("ending a replica")
    restarted_s = _restarted_s(settings)
    with redis.Redis.from_url(stack.redis_url, socket_timeout=5) as client:
        namespace = live_name(client.get(live_key()))
        states = client.mget([state_key(namespace, user_id) for user_id in user_ids])
    if None in states:
        raise StackError(f"{states.count(None)} of {len(states)} users have no state; `riffle status` shows what waits")
    _say("recall")
    recall = _recall(world, states)
    _say("recommend in process")
    compute = measure(world, states, BATCH, seconds=max(2.0, duration_s / 4))
    _say(f"wrk, {duration_s} s")
    before_mb = _memory(settings)
    load_ = _under_load(settings, user_ids, duration_s, connections)
    return {
        **machine.facts(),
        "bundle": stack.bundle,
        "items": len(world.bundle.vocabulary),
        "factors": world.bundle.recipe.factors,
        "spectral_factors": world.bundle.recipe.spectral_factors,
        "neighbours": world.bundle.recipe.neighbours,
        "gateways": stack.settings.gateways,
        "files_mb": round(sum(one.stat().st_size for one in _files(settings, stack.bundle)) / 2**20, 1),
        "replica": {**alone, "restarted_s": restarted_s},
        "recall_at_200": recall,
        "compute_batch_of_16": compute,
        "load": load_,
        "memory": {"before_load": before_mb, "after_load": _memory(settings)},
    }


def line(result: dict[str, Any]) -> str:
    """The figures of the goal as one sentence."""
    load_, memory = result["load"], result["memory"]["after_load"]["total_mb"]
    recall = " and ".join(f"{value:.3f} ({name})" for name, value in result["recall_at_200"].items())
    return (
        f"{result['items']:,} items: a replica starts in {result['replica']['restarted_s']:.1f} s, "
        f"recall@200 {recall}, "
        f"recommend {result['compute_batch_of_16']['cpu_ms_per_request']:.3f} ms in batches of {BATCH}, the whole "
        f"service {load_['cpu_ms_per_request']:.2f} ms a request or {load_['cores_per_billion_a_day']:.1f} cores per "
        f"billion a day at {load_['rps']:,.0f} requests/s, {memory['pss'] or memory['rss']:,.0f} MB of PSS"
    )


def _send_likes(settings: Settings, stack: Deployed, world: World) -> list[str]:
    """Send the events of the first users and wait until they are applied; their ids. Again is no second time."""
    path = registry(settings).path(stack.bundle) / LIKED
    if not path.exists():
        raise StackError(f"bundle {stack.bundle} has no {LIKED}; make and promote one by loadtest.large_catalogue")
    liked = np.load(path, allow_pickle=False)[:USERS]
    now_s = int(time.time())
    item_id = world.bundle.vocabulary.item_id
    rows = [
        {
            "event_id": f"{stack.bundle}-{user}-{step}",
            "type": "like",
            "user_id": f"invented-{user}",
            "item_id": item_id[row],
            "ts": datetime.fromtimestamp(now_s - 60 * (liked.shape[1] - step), UTC).isoformat(),
        }
        for user, own in enumerate(liked.tolist())
        for step, row in enumerate(own)
    ]
    _say(f"sending {len(rows):,} events")
    if not _known(stack):
        for first in range(0, len(rows), _EVENTS):
            application.ask(settings, "/v1/events", {"events": rows[first : first + _EVENTS]})
    began = time.monotonic()
    while backlog(stack.redis_url).waiting:
        if time.monotonic() - began > _APPLIED_S:
            raise StackError(f"events still wait after {_APPLIED_S:.0f} s; `riffle status` shows how many")
        time.sleep(0.2)
    return [f"invented-{user}" for user in range(len(liked))]


def _known(stack: Deployed) -> bool:
    """Whether the users have states already."""
    with redis.Redis.from_url(stack.redis_url, socket_timeout=5) as client:
        return bool(client.exists(state_key(live_name(client.get(live_key())), f"invented-{USERS - 1}")))


def _restarted_s(settings: Settings) -> float:
    """Seconds from the moment that Serve starts another gateway replica, since one was ended, until it runs."""
    from service.stack import ray_head
    from service.stack.ray_environment import environment

    os.environ.update(environment(settings))
    import ray
    from ray import serve

    def states() -> dict[str, int]:
        deployments = serve.status().applications[application.NAME].deployments
        gateway = next(one for name, one in deployments.items() if name.startswith("Gateway"))
        return {str(state): number for state, number in gateway.replica_states.items()}

    replicas = [one for one in machine.stack_processes(settings) if one.name().startswith(_REPLICA)]
    if not replicas:
        raise StackError(
            "no gateway replica was found among the processes of the stack; `riffle status` shows what runs"
        )
    ray.init(address=ray_head.address(settings), namespace="serve", log_to_driver=False, logging_level=logging.ERROR)
    try:
        before = states()
        processes.end(replicas[:1], 0.0)
        began, started = time.monotonic(), None
        while True:
            now = states()
            if started is None and now != before:
                started = time.monotonic()
            if started is not None and now == before:
                return round(time.monotonic() - started, 2)
            if time.monotonic() - began > _RUNNING_S:
                raise StackError(f"no other replica ran {_RUNNING_S:.0f} s after one was ended: {now}")
            time.sleep(0.05)
    finally:
        ray.shutdown()


def _recall(world: World, states: list[bytes | None]) -> dict[str, float]:
    """Share of the K best items that each index finds as it is set, in the mean over the users' vectors."""
    users = [Users.of(world, batch) for batch in batches(world, states, BATCH)]
    bundle = world.bundle
    return {
        name: round(_found(index, table, np.concatenate([getattr(one, field) for one in users])), 4)
        for name, index, table, field in (
            ("als", bundle.index, bundle.factors, "vector"),
            ("spectral", bundle.spectral_index, bundle.spectral.vector, "spectral"),
        )
    }


def _found(index: Index, table: np.ndarray, vectors: np.ndarray) -> float:
    everything = np.full((len(table) + 7) // 8, 255, np.uint8)
    shares = []
    for vector in vectors[np.any(vectors != 0, axis=1)]:
        best = np.argpartition(-(table @ vector), K - 1)[:K]
        shares.append(len(np.intersect1d(index.search(vector, K, everything)[0], best)) / K)
    return float(np.mean(shares))


def _under_load(settings: Settings, user_ids: list[str], duration_s: int, connections: int) -> dict[str, Any]:
    url = application.url(settings) + PATH
    with load_of(user_ids, connections=connections, seed=0, deadline_ms=_PATIENT_MS) as given:
        wrk.measure(url, connections=connections, duration_s=max(2, duration_s // 4), bodies=given.bodies)
        used_s, stolen_s = _used_s(settings), machine.stolen_s()
        measured = wrk.measure(url, connections=connections, duration_s=duration_s, bodies=given.bodies)
        used_s = _used_s(settings) - used_s
    if not measured.requests or measured.non_2xx or measured.socket_errors:
        raise StackError(
            f"{measured.non_2xx} of {measured.requests} requests were refused, {measured.socket_errors} got no answer, "
            "so that processor time a request says nothing; `riffle doctor` looks for causes"
        )
    cpu_s = used_s / measured.requests
    return {
        "connections": connections,
        "rps": round(measured.rps, 1),
        "p50_ms": measured.p50_ms,
        "p99_ms": measured.p99_ms,
        "cpu_ms_per_request": round(cpu_s * 1e3, 4),
        "cores_per_billion_a_day": round(cpu_s * _PER_BILLION, 2),
        "stolen_s": round(machine.stolen_s() - stolen_s, 2),
    }


def _used_s(settings: Settings) -> float:
    return sum(machine.cpu_s(machine.stack_processes(settings)).values())


def _memory(settings: Settings) -> dict[str, Any]:
    return machine.memory(machine.stack_processes(settings))


def _files(settings: Settings, bundle_id: str) -> list[Path]:
    return [one for one in registry(settings).path(bundle_id).rglob("*") if one.is_file()]


def _say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure what is up."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--duration", type=int, default=30, help="seconds of wrk")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    options = parser.parse_args()
    if options.duration < 1 or options.connections < 1:
        parser.error("--duration and --connections must be at least 1")
    try:
        result = prove(load(), duration_s=options.duration, connections=options.connections)
    except (RecsysError, ServiceError) as error:
        print(f"served_catalogue: {error}", file=sys.stderr)
        return 1
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{result['time'][:10]}-served-{result['items']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(f"{line(result)}\n\nWritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
