"""What digests cost within `recommend`, on the champion and the states of the imported data.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv/bin/python -m loadtest.digests

Needs no running service. With and without digests in turn differ by less than what turns differ among themselves, so
the digests are timed where they are called.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from loadtest.compute import batches
from recsys import digests
from recsys.features.codec import pack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import recommend
from recsys.training.log import Log
from recsys.types import QueryBatch, World
from service.imports import imported
from service.settings import load
from service.world import load_world

BATCHES = (1, 4, 8, 32)
USERS = 256
REQUESTS = 64  # different ones, so that each finds the caches as another one left them
ROUNDS = 60


@contextmanager
def timed(took_s: list[float]) -> Iterator[None]:
    """Durations of all calls that make digests go into `took_s`."""

    def stopwatch(make: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def call(*given: Any) -> np.ndarray:
            began = time.perf_counter()
            made = make(*given)
            took_s.append(time.perf_counter() - began)
            return made

        return call

    kept = digests.of_retrieval, digests.of_ranking
    digests.of_retrieval, digests.of_ranking = map(stopwatch, kept)
    try:
        yield
    finally:
        digests.of_retrieval, digests.of_ranking = kept


def measure(world: World, made: list[QueryBatch]) -> dict[str, float]:
    """Microseconds a request takes, those of its digests, and their share: medians over batches."""
    b = len(made[0])
    of_digests: list[float] = []
    of_all: list[float] = []
    with timed(of_digests):
        for _ in range(ROUNDS):
            for batch in made:
                began = time.perf_counter()
                recommend(world, batch)
                of_all.append(time.perf_counter() - began)
    digest_us = float(np.median(np.array(of_digests).reshape(-1, 2).sum(axis=1))) / b * 1e6
    all_us = float(np.median(of_all)) / b * 1e6
    return {"recommend_us": round(all_us, 1), "digests_us": round(digest_us, 2), "share": round(digest_us / all_us, 4)}


def main() -> None:
    """Print, as one JSON object, the cost by batch size."""
    settings = load()
    world, dataset = load_world(settings), imported(settings)
    users = np.arange(min(USERS, len(dataset.user_id)), dtype=np.int32)
    packed = pack(Log.of(dataset).states_at(users, np.full(len(users), np.iinfo(np.int64).max)), SCHEMA_HASH)
    report = {}
    for b in BATCHES:
        made = batches(world, list(packed), b)[: max(1, REQUESTS // b)]
        for batch in made:
            recommend(world, batch)
        report[str(b)] = measure(world, made)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
