"""What every peer computes: the lists of `recsys.recommend`, of the same bundle, states and item stats as Riffle's."""

import gc
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.peers import job
from loadtest.peers.job import Job
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import recommend
from recsys.types import QueryBatch, Slates, World
from service.encoding import ItemEncoder
from service.identifiers import recommendation_id
from service.item_snapshot import decode
from service.overlaid_world import OverlaidWorlds
from service.queries import batch_of, resolve
from service.settings import Settings
from service.state_keys import state_key
from service.warm_up import warm_up
from service.world import load_world

MAX_BATCH = 32  # as Riffle's `max_batch`

Items = list[dict[str, Any]]  # "item_id" and "score", best first


class Ask(NamedTuple):
    """One request as Riffle's gateway begins it: `seed` draws the new item at a list's end, `now_s` is UTC."""

    count: int
    seed: int
    now_s: int

    @classmethod
    def now(cls, count: int) -> "Ask":
        """At this moment, with a seed of its own."""
        time_ms = time.time_ns() // 1_000_000
        return cls(count, recommendation_id(time_ms).seed, time_ms // 1000)


class Pipeline:
    """The world that a peer serves, and what is done in it.

    Args:
        namespace: Of the states.
    """

    def __init__(self, world: World, settings: Settings, namespace: str) -> None:
        self.world, self._settings, self._namespace = world, settings, namespace
        self._item_id = ItemEncoder(world.bundle).item_id

    @classmethod
    def of_environment(cls) -> "Pipeline":
        """That of this process's job, warmed up as Riffle's replicas are; to be called once, where a worker starts.

        Raises:
            RegistryError, BundleError, StateError: the bundle or the snapshot cannot be had.
        """
        mine = job.of_environment()
        pipeline = cls(world_of(mine), mine.settings, mine.namespace)
        warm_up(pipeline.world, max_batch=MAX_BATCH)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)  # as in Riffle's gateways
        (mine.ready / str(os.getpid())).touch()
        return pipeline

    def key(self, user_id: str) -> str:
        """Where the user's packed state lies."""
        return state_key(self._namespace, user_id)

    def batch(self, asked: Sequence[Ask], packed: Sequence[bytes | None]) -> QueryBatch:
        """Requests and their users' packed states as one batch [b]; a state that cannot be decoded is a missing one."""
        states, _ = unpack(packed, SCHEMA_HASH)
        queries = [
            resolve(
                self.world.bundle,
                count=one.count,
                session_ids=[],
                excluded_ids=[],
                filter_=None,
                seed=one.seed,
                now_s=one.now_s,
                explore=self._settings.explore,
                diversity=self._settings.diversity,
            )
            for one in asked
        ]
        return batch_of(queries, states)

    def recommend(self, asked: Sequence[Ask], packed: Sequence[bytes | None]) -> list[Items]:
        """The list of each request."""
        return self.items(recommend(self.world, self.batch(asked, packed)))

    def items(self, slates: Slates) -> list[Items]:
        """What a peer answers with, for each row of slates [b]."""
        ids = [self._item_id(row) for row in slates.item.tolist()]
        cells = [{"item_id": one, "score": score} for one, score in zip(ids, slates.score.tolist(), strict=True)]
        bounds = slates.indptr.tolist()
        return [cells[start:end] for start, end in pairwise(bounds)]


def world_of(mine: Job) -> World:
    """The bundle of a job with the item stats of its snapshot, which stay: Riffle's go on following the store."""
    built = load_world(mine.settings, mine.bundle)
    world = OverlaidWorlds(built).of(decode(Path(mine.snapshot).read_bytes())) if mine.snapshot else built
    return replace(world, candidates=mine.settings.candidates)
