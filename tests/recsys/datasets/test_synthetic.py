"""The synthetic world is deterministic, says that it is synthetic, and has the structure it promises."""

import numpy as np

from recsys.datasets.synthetic import DAY_MS, END_MS, synthetic


def test_one_seed_gives_one_world_and_another_seed_another() -> None:
    first, again, other = synthetic(7), synthetic(7), synthetic(8)
    np.testing.assert_array_equal(first.events.item, again.events.item)
    np.testing.assert_array_equal(first.events.ts_ms, again.events.ts_ms)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_world_says_that_it_is_synthetic() -> None:
    world = synthetic(7, users=5, items=12, sessions=2)
    assert world.synthetic
    assert world.name == "synthetic"
    assert "synthetic" in world.title.lower()


def test_default_world_has_about_sixty_thousand_sorted_events_in_two_hundred_days() -> None:
    world = synthetic(7)
    events = world.events
    assert 57_000 < len(events) < 63_000
    assert (np.diff(events.ts_ms) >= 0).all()
    assert events.ts_ms[0] >= END_MS - 200 * DAY_MS
    assert events.ts_ms[-1] < END_MS
    assert (len(world.user_id), len(world.item_id)) == (600, 1200)
    assert len(set(world.item_title)) == 1200
    assert events.item.max() < 1200
    assert len(world.item_category_indptr) == 1201
    assert np.isnan(events.value[events.verb != 5]).all()


def test_popularity_is_skewed_and_the_item_before_says_more_than_popularity() -> None:
    events = synthetic(7).events
    count = np.sort(np.bincount(events.item, minlength=1200))[::-1]
    assert count[:120].sum() > 0.25 * count.sum()
    by_user = np.argsort(events.user, kind="stable")
    user, item = events.user[by_user], events.item[by_user].astype(np.int64)
    same = user[1:] == user[:-1]
    pairs, times = np.unique(item[:-1][same] * 1200 + item[1:][same], return_counts=True)
    commonest = np.zeros(1200, dtype=np.int64)
    np.maximum.at(commonest, pairs // 1200, times)
    assert commonest.sum() / same.sum() > 5 * count[0] / count.sum()
