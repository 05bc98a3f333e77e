"""Replicas warm up before they serve: every path runs, nothing is recorded, and a dead store is no obstacle."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any

import numpy as np
import pytest

from recsys.recommend import Ranked, Retrieved, rank, recommend, retrieve
from recsys.types import QueryBatch, Slates, World
from service import warm_up as module
from service.answers import Answer, popular_answer
from service.lookup import States
from service.pace import Pace
from service.settings import Settings
from service.stages import StageUnavailable
from service.warm_up import warm_up, warm_up_gateway
from tests.service.gateways import KeptDecisions


@dataclass
class NotedStages:
    """Stages without a store, which note batch sizes.

    Retrieval is not there `refusals` times, and has no item stats but those of version `known`, where that is given.
    """

    lookup_fails: str | None = None
    refusals: int = 0
    known: str | None = None
    batches: list[int] = field(default_factory=list)

    async def lookup(self, user_ids: Sequence[str]) -> States:
        return [None] * len(user_ids), [self.lookup_fails] * len(user_ids)

    async def retrieve(self, world: World, batch: QueryBatch, *, timeout_s: float) -> Retrieved:
        assert timeout_s > 0
        if self.refusals:
            self.refusals -= 1
            raise StageUnavailable("retrieval", "unavailable")
        if self.known not in (None, world.item_stats.version):
            raise StageUnavailable("retrieval", "other_item_stats")
        return retrieve(world, batch)

    async def rank(self, world: World, batch: QueryBatch, retrieved: Retrieved, *, timeout_s: float) -> Ranked:
        assert timeout_s > 0
        self.batches.append(len(batch))
        return rank(world, batch, retrieved)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rounds than a replica makes."""
    monkeypatch.setattr(module, "ROUNDS", 1)


class NotedRanker:
    """The world's ranker, and how large its inputs were."""

    def __init__(self, ranker: Any) -> None:
        self._ranker = ranker
        self.rows: list[int] = []

    def score(self, matrix: np.ndarray, *cells: np.ndarray) -> np.ndarray:
        self.rows.append(len(matrix))
        return self._ranker.score(matrix, *cells)


@pytest.mark.usefixtures("short")
def test_every_usual_batch_size_runs_through_the_ranker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = NotedRanker(world.bundle.ranker)
    sizes: list[int] = []

    def noted(world: World, batch: QueryBatch) -> Slates:
        sizes.append(len(batch))
        return recommend(world, batch)

    monkeypatch.setattr(module, "recommend", noted)
    warm_up(replace(world, bundle=replace(world.bundle, ranker=ranker)), max_batch=24)
    assert sorted(sizes) == [1, 2, 2, 4, 8, 16, 24]
    half = ranker.rows[sizes.index(1)] / 2  # users differ in how many candidates they have
    assert all(rows > half * size for size, rows in zip(sizes, ranker.rows, strict=True))
    sizes.clear()
    warm_up(world, True, max_batch=24)
    assert sorted(sizes) == [1, 2, 8, 24]  # beside what is served: once each


@pytest.mark.usefixtures("short")
def test_bundle_of_five_items_warms_up(tiny: World) -> None:
    warm_up(tiny, max_batch=2)


@pytest.mark.usefixtures("short")
async def test_gateway_warms_up_over_its_own_stages_and_records_nothing(world: World) -> None:
    stages, decisions = NotedStages(), KeptDecisions()
    assert await warm_up_gateway(lambda: world, stages, decisions, Settings(max_batch=8)) == []
    assert set(stages.batches) == {1, 4, 8}
    assert decisions.records == []


@pytest.mark.usefixtures("short")
async def test_what_answers_at_a_deadline_is_loaded_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def noted(*given: Any) -> Answer:
        made.append(popular_answer(*given))
        return made[-1]

    monkeypatch.setattr("service.warm_up.popular_answer", noted)
    await warm_up_gateway(lambda: world, NotedStages(), KeptDecisions(), Settings(max_batch=4))
    assert [len(one.slates.item) for one in made] == [20]


@pytest.mark.usefixtures("short")
async def test_dead_store_is_reported_and_keeps_no_replica_from_serving(world: World) -> None:
    stages = NotedStages(lookup_fails="unavailable")
    (degraded,) = await warm_up_gateway(lambda: world, stages, KeptDecisions(), Settings(max_batch=4))
    assert (degraded["stage"], degraded["cause"]) == ("features", "unavailable")


@pytest.mark.usefixtures("short")
async def test_stages_that_are_late_are_waited_for(world: World) -> None:
    stages = NotedStages(refusals=2)
    assert await warm_up_gateway(lambda: world, stages, KeptDecisions(), Settings(max_batch=4)) == []
    assert stages.refusals == 0


@pytest.mark.usefixtures("short")
async def test_stages_that_come_when_the_item_stats_are_newer_are_met_with_those(world: World) -> None:
    newer = replace(world, item_stats=replace(world.item_stats, version="newer"))
    moments = chain([world] * 2, repeat(newer))
    stages = NotedStages(known="newer")
    assert await warm_up_gateway(lambda: next(moments), stages, KeptDecisions(), Settings(max_batch=4)) == []
    assert stages.batches


async def test_stages_that_never_come_are_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAGES_WAIT_S", 0.3)
    with pytest.raises(TimeoutError):
        await warm_up_gateway(lambda: world, NotedStages(refusals=1_000), KeptDecisions(), Settings())


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("max_waiting", [1, 3, 4])
async def test_gateway_warms_up_with_the_shortest_queue_that_settings_allow(world: World, max_waiting: int) -> None:
    settings = Settings(max_waiting=max_waiting)
    assert await warm_up_gateway(lambda: world, NotedStages(), KeptDecisions(), settings) == []


@pytest.mark.usefixtures("short")
async def test_first_batches_that_take_seconds_let_no_replica_fail(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "takes_s", lambda _, size: 3.0 * size)
    settings = Settings(max_batch=4)
    assert await warm_up_gateway(lambda: world, NotedStages(), KeptDecisions(), settings) == []
