"""The compute alone, in process: `recommend` on the champion, with the states that the store holds.

A process of its own, started with ONE_THREAD in its environment, as a replica is.
"""

import json
import sys
import time

import msgspec
import numpy as np
import redis

from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import recommend
from recsys.types import QueryBatch, World
from service.queries import batch_of, resolve
from service.settings import load
from service.state_keys import live_key, live_name, state_key
from service.world import load_world

BATCHES = (1, 8, 32)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
COUNT = 20
_WARM_UP = 20  # batches; the first ones touch the mapped pages


class Job(msgspec.Struct, frozen=True):
    """What to measure: `seconds` for each batch size. On standard input, because the URL may hold a password."""

    bundle: str
    redis_url: str
    user_ids: list[str]
    seconds: float = 2.0


def batches(world: World, states: list[bytes | None], b: int) -> list[QueryBatch]:
    """Micro-batches of `b` requests over all states, in their order."""
    now_s = int(time.time())
    made = []
    for start in range(0, len(states) - b + 1, b):
        unpacked, _ = unpack(states[start : start + b], SCHEMA_HASH)
        queries = [
            resolve(world.bundle, count=COUNT, session_ids=[], excluded_ids=[], filter_=None, seed=seed, now_s=now_s)
            for seed in range(start, start + b)
        ]
        made.append(batch_of(queries, unpacked))
    return made


def measure(world: World, states: list[bytes | None], b: int, *, seconds: float) -> dict[str, float]:
    """Mean CPU time of one request in a batch of `b`, and the median and 99th percentile of a batch's duration."""
    made = batches(world, states, b)
    for number in range(_WARM_UP):
        recommend(world, made[number % len(made)])
    lasted: list[float] = []
    cpu_began, began = time.process_time(), time.perf_counter()
    while (at := time.perf_counter()) - began < seconds:
        recommend(world, made[len(lasted) % len(made)])
        lasted.append(time.perf_counter() - at)
    cpu_s = (time.process_time() - cpu_began) / (len(lasted) * b)
    p50, p99 = np.percentile(lasted, [50, 99]) * 1e3
    return {"cpu_ms_per_request": round(cpu_s * 1e3, 4), "batch_p50_ms": round(p50, 3), "batch_p99_ms": round(p99, 3)}


def main() -> None:
    """Read a Job from standard input; print, as one JSON object, what a request costs in batches of each size."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    world = load_world(load(), job.bundle)
    with redis.Redis.from_url(job.redis_url, socket_timeout=5) as client:
        namespace = live_name(client.get(live_key()))
        states = client.mget([state_key(namespace, user_id) for user_id in job.user_ids])
    report = {str(b): measure(world, states, b, seconds=job.seconds) for b in BATCHES}
    known = sum(state is not None for state in states) / len(states)
    print(json.dumps({"batch": report, "users_with_state": round(known, 3)}))


if __name__ == "__main__":
    main()
