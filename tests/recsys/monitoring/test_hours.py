"""What one hour says: outcomes weighed by examination, robots, stale inputs."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.monitoring.bins import Bins
from recsys.monitoring.hours import BUSY, Hour, Outcomes, examined, series_of, weighed_ndcg
from recsys.monitoring.measured import COUNT, HEAD, measure
from recsys.monitoring.reference import first_of_hour
from recsys.monitoring.series import Key, Series, bins_of, shelf_of
from recsys.simulation.behaviour import Behaviour
from recsys.types import World
from tests.worlds import batch_of, random_asks

B = 24


@pytest.fixture(scope="module")
def hour(world: World) -> Hour:
    batch = batch_of(world, random_asks(world, np.random.default_rng(3), B))
    nothing = np.zeros(0, np.int64)
    return Hour(
        start_s=1_800_000_000,
        requests=np.ones(B, np.int64),
        measured=measure(world, batch, diversity=0.05),
        placement=np.array(["default"] * B),
        outcomes=Outcomes(np.zeros((B, HEAD), bool), np.full(B, HEAD)),
        item_age_s=np.full(B, np.nan),
        state_age_s=np.zeros(B),
        event_user=nothing,
        event_item=nothing,
        event_verb=nothing.astype(np.uint8),
        rising=None,
    )


def said(world: World, hour: Hour) -> dict[Key, Series]:
    assert hour.measured is not None
    bins: dict[str, Bins] = bins_of(hour.measured)
    return {one.key: one for one in series_of(hour, world.bundle, bins, shelf_of(world.bundle), examined(()))}


def test_every_value_is_a_share_and_those_of_bins_add_up_to_one(world: World, hour: Hour) -> None:
    found = said(world, hour)
    for key, one in found.items():
        assert np.nanmin(one.values, initial=0) >= 0, key
        assert np.nanmax(one.values, initial=0) <= 1 + 1e-9, key
        assert one.values.shape == (len(one.row), len(one.components)), key
        if key.kind in ("feature", "score", "users"):
            np.testing.assert_allclose(one.values.sum(axis=1), 1, err_msg=str(key))
    assert len({key.segment for key in found}) == 4


def test_terms_are_the_same_for_all_whatever_was_asked(world: World) -> None:
    asks = random_asks(world, np.random.default_rng(4), 6)
    other = [replace(one, count=500, categories=[], quotas=(), diversity=1.0) for one in asks]
    plain = [replace(one, count=COUNT, categories=[]) for one in asks]
    one, two = (measure(world, batch_of(world, of), diversity=0.05) for of in (other, plain))
    for name in ("matrix", "sources", "score", "lists", "known", "indptr"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes(), name


def test_score_that_is_not_a_number_is_missing_and_no_crash(world: World) -> None:
    ranker = world.bundle.ranker
    assert ranker is not None
    trees = replace(ranker.trees, leaf=np.full_like(ranker.trees.leaf, np.nan))
    broken = World(replace(world.bundle, ranker=replace(ranker, trees=trees)), world.item_stats)
    batch = batch_of(world, random_asks(world, np.random.default_rng(3), 4))
    assert np.isnan(measure(broken, batch, diversity=0.0).score).all()


def test_placements_are_apart_where_there_are_several(world: World, hour: Hour) -> None:
    names = np.array(["home", "cart"] * (B // 2))
    found = said(world, replace(hour, placement=names))
    assert len(found["feature", "cross_als", "placement home"].values) == B // 2  # type: ignore[index]
    assert not any(key.segment.startswith("placement") for key in said(world, hour))


def test_lists_beyond_one_a_minute_are_traffic(world: World, hour: Hour) -> None:
    busy = said(world, replace(hour, requests=np.array([BUSY, BUSY + 60])))
    assert busy["traffic", "lists", "all"].values.tolist() == [[60 / (2 * BUSY + 60)]]  # type: ignore[index]


def test_inputs_of_unknown_age_say_nothing(world: World, hour: Hour) -> None:
    found = said(world, hour)
    assert np.isnan(found["freshness", "item_stats", "all"].values).all()  # type: ignore[index]
    assert not found["freshness", "user_states", "all"].values.any()  # type: ignore[index]


def test_weighed_ndcg_is_what_the_list_would_get_if_all_places_were_looked_at() -> None:
    """Unbiased under the position-based model: the mean over many reactions is that of certain examination."""
    attraction = np.array([0.1, 0.3, 0.05, 0.4, 0.02, 0.1, 0.1, 0.0, 0.3, 0.1]) * 0.2
    rng, behaviour = np.random.default_rng(6), Behaviour()
    clicked = behaviour.react(rng, np.tile(attraction, (60_000, 1))).click
    discount = 1 / np.log2(np.arange(HEAD) + 2.0)
    expected = attraction @ discount / discount.sum()
    found = weighed_ndcg(clicked, np.full(len(clicked), HEAD), examined(())).mean()
    assert found == pytest.approx(expected, rel=0.03)


def test_list_that_shows_nothing_has_no_ndcg() -> None:
    assert np.isnan(weighed_ndcg(np.zeros((1, HEAD), bool), np.array([0]), examined(()))).all()


def test_first_question_of_each_user_and_hour_counts() -> None:
    user, now_s = np.array([1, 2, 1, 1]), np.array([10, 20, 30, 3_700])
    assert first_of_hour(user, now_s).tolist() == [0, 1, 3]
