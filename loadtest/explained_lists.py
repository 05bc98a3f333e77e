"""What explanations cost: lists of 20 with and without them, alone, and plain lists beside a stream of explained ones.

    python -m loadtest.explained_lists --lists 500

In one process: the gateway with its stages, the champion of this home, and the states that the last import gives its
users; no store and no HTTP. Prints a table; the JSON file in results/ is that table.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from loadtest import machine
from loadtest.deployed import RESULTS
from recsys.datasets.dataset import Dataset
from recsys.features.apply import states_of
from recsys.features.codec import pack
from recsys.features.matrix import SCHEMA_HASH
from recsys.types import World
from recsys.vocabulary import item_keys
from service.decisions import Decision
from service.gateway import Gateway
from service.imports import imported
from service.lookup import States
from service.schemas import RecommendationRequest, Return
from service.settings import Settings, load
from service.stages import ColocatedStages
from service.warm_up import warm_up, warm_up_gateway
from service.world import load_world

COUNT = 20
PLAIN_EVERY_S = 0.02  # of the plain lists beside explained ones: 50 a second
_ENOUGH_MS = 10_000  # a deadline that does not pass: what takes longer than it should is to be seen


class _KnownStates:
    """Gives states that are in memory, as a lookup gives those of the store."""

    def __init__(self, states: dict[str, bytes]) -> None:
        self._states = states

    async def fetch(self, user_ids: Sequence[str]) -> States:
        return [self._states.get(one) for one in user_ids], [None] * len(user_ids)


class _Nowhere:
    """Takes no records."""

    def put(self, decision: Decision) -> None:
        del decision


def states_by_user(dataset: Dataset) -> dict[str, bytes]:
    """The packed state of each user after all events."""
    events = dataset.events
    number = np.arange(1, len(events) + 1, dtype=np.uint64)
    columns = {
        "item_key": item_keys(dataset.item_id)[events.item],
        "verb": events.verb,
        "ts_s": (events.ts_ms // 1000).astype(np.uint32),
        "event_id": np.stack([np.zeros(len(events), np.uint64), number], axis=1),
    }
    packed: list[bytes] = []
    for _, states in states_of(len(dataset.user_id), events.user.astype(np.int64), **columns):
        packed += pack(states, SCHEMA_HASH)
    return dict(zip(dataset.user_id, packed, strict=True))


async def measure(
    world: World, states: dict[str, bytes], settings: Settings, *, lists: int, seed: int
) -> dict[str, Any]:
    """All of it."""
    stages, nowhere = ColocatedStages(_KnownStates(states)), _Nowhere()  # type: ignore[arg-type]
    warm_up(world, max_batch=settings.max_batch)
    await warm_up_gateway(lambda: world, stages, nowhere, settings)  # type: ignore[arg-type]
    gateway = Gateway(world, stages, nowhere, settings)  # type: ignore[arg-type]
    users = np.random.default_rng(seed).choice(list(states), lists).tolist()
    explained = await _one_by_one(gateway, users, explain=True)
    return {
        **machine.facts(),
        "bundle": world.bundle.id,
        "items": len(world.bundle.vocabulary),
        "load_average": os.getloadavg()[0],
        "plain": await _one_by_one(gateway, users, explain=False),
        "explained": explained,
        "plain_at_a_steady_rate": await _steady(gateway, users),
        "plain_beside_explained": await _beside(gateway, users),
    }


async def _one_by_one(gateway: Gateway, users: list[str], *, explain: bool) -> dict[str, Any]:
    took_ms, cpu_ms, without = [], [], 0
    for user in users:
        began, cpu_began = time.perf_counter(), time.process_time()
        body = await gateway.recommend(_request(user, explain=explain))
        took_ms.append((time.perf_counter() - began) * 1000)
        cpu_ms.append((time.process_time() - cpu_began) * 1000)
        without += explain and "explanation" not in body
    cpu = {f"cpu_{name}": value for name, value in _percentiles(cpu_ms).items() if name != "lists"}
    return {**_percentiles(took_ms), **cpu, "unexplained": without}


async def _steady(gateway: Gateway, users: list[str]) -> dict[str, Any]:
    """Plain lists, each asked for when it is due; latency from then on."""
    began = time.perf_counter()

    async def ask(number: int, user: str) -> float:
        due = began + number * PLAIN_EVERY_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await gateway.recommend(_request(user, explain=False))
        return (time.perf_counter() - due) * 1000

    return _percentiles(await asyncio.gather(*(ask(number, user) for number, user in enumerate(users))))


async def _beside(gateway: Gateway, users: list[str]) -> dict[str, Any]:
    """The same, while one client asks for one explained list after the other."""
    made = 0

    async def explain_on_and_on() -> None:
        nonlocal made
        while True:
            await gateway.recommend(_request(users[made % len(users)], explain=True))
            made += 1

    client = asyncio.create_task(explain_on_and_on())
    found = await _steady(gateway, users)
    client.cancel()
    return {**found, "explained_meanwhile": made}


def _request(user: str, *, explain: bool) -> RecommendationRequest:
    return RecommendationRequest(user_id=user, count=COUNT, return_=Return(explain=explain), deadline_ms=_ENOUGH_MS)


def _percentiles(took_ms: list[float]) -> dict[str, Any]:
    p50, p99 = np.percentile(took_ms, [50, 99])
    return {"lists": len(took_ms), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = ["| lists of 20 | p50 ms | p99 ms | p50 ms of CPU | p99 ms of CPU |", "|---|---|---|---|---|"]
    for name in ("plain", "explained", "plain_at_a_steady_rate", "plain_beside_explained"):
        one = found[name]
        times = [one.get(of, "") for of in ("p50_ms", "p99_ms", "cpu_p50_ms", "cpu_p99_ms")]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(map(str, times))} |")
    tail = f"{found['items']:,} items; on {found['machine']['cores']} cores with a load average of "
    return "\n".join(
        [*lines, "", f"{tail}{found['load_average']:.1f} before (other processes wait for the same cores)."]
    )


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    given = parser.parse_args()
    if given.lists < 1:
        parser.error("--lists must be at least 1")
    settings = load()
    world, states = load_world(settings), states_by_user(imported(settings))
    found = asyncio.run(measure(world, states, settings, lists=given.lists, seed=given.seed))
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / f"{datetime.now(UTC):%Y-%m-%d}-explained-lists.json"
    path.write_text(json.dumps(found, indent=1), "utf-8")
    print(markdown(found))


if __name__ == "__main__":
    main()
