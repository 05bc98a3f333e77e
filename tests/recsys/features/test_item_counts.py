"""Item counters: what the formulas say, and the same bits however the events are divided."""

import itertools
from dataclasses import fields

import numpy as np
import pytest

from recsys.features.item import by_falling
from recsys.features.item_counts import HALF_LIFE_S, RATE_PRIOR, ItemCounts
from recsys.types import ItemStats
from recsys.verbs import Verb, is_positive

START_S = 1_700_000_000


def some(n: int, seed: int, items: int = 30) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "item_key": rng.integers(1, items, n).astype(np.uint64) * np.uint64(10**17),
        "verb": rng.choice([0, *Verb, 200], n).astype(np.uint8),
        "ts_s": (START_S + rng.integers(0, 40 * 86_400, n)).astype(np.uint32),
    }


def part(events: dict[str, np.ndarray], start: int, end: int) -> dict[str, np.ndarray]:
    return {name: column[start:end] for name, column in events.items()}


def stats_of(counts: ItemCounts, key: np.ndarray, *, now_s: int, unavailable: list[int] = []) -> ItemStats:  # noqa: B006
    return counts.stats(key, now_s=now_s, version="v", unavailable=np.array(unavailable, np.uint64))


def test_counters_are_those_of_the_definition() -> None:
    events = some(2000, 1)
    counts = ItemCounts.empty()
    counts.apply(**events)
    assert counts.key.tolist() == sorted(set(events["item_key"].tolist()))
    for row, key in enumerate(counts.key):
        own = events["item_key"] == key
        liked = own & is_positive(events["verb"])
        last_s = int(events["ts_s"][liked].max())
        age_s = last_s - events["ts_s"][liked].astype(np.int64)
        assert counts.interactions[row] == own.sum()
        assert counts.positives[row] == liked.sum()
        assert counts.activity_s[row] == last_s
        for k, half_life_s in enumerate(HALF_LIFE_S):
            assert counts.activity[row, k] == pytest.approx(np.exp2(-age_s / half_life_s).sum(), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_events_give_the_same_bits_however_they_are_divided(seed: int) -> None:
    events, rng = some(1500, seed), np.random.default_rng(seed)
    whole, divided = ItemCounts.empty(), ItemCounts.empty()
    whole.apply(**events)
    bounds = [0, *sorted(rng.integers(0, 1500, 20).tolist()), 1500]
    for start, end in itertools.pairwise(bounds):
        divided.apply(**part(events, start, end))
    for field in fields(ItemCounts):
        assert getattr(whole, field.name).tobytes() == getattr(divided, field.name).tobytes(), field.name


def test_snapshot_has_a_row_for_each_item_of_the_bundle_known_or_not() -> None:
    events = some(800, 3)
    counts = ItemCounts.empty()
    counts.apply(**events)
    key = np.concatenate([counts.key[::2], np.array([5, 2**63], np.uint64)])
    key.sort()
    now_s = int(events["ts_s"].max()) + 86_400
    stats = stats_of(counts, key, now_s=now_s)
    liked = is_positive(events["verb"])
    total = np.isin(events["item_key"], key)
    mean = (liked & total).sum() / total.sum()
    for row, one in enumerate(key):
        own = events["item_key"] == one
        age_s = now_s - events["ts_s"][own & liked].astype(np.int64)
        assert stats.popularity[row] == (own & liked).sum()
        assert stats.trend[row] == pytest.approx(np.exp2(-age_s / HALF_LIFE_S[1]).sum(), rel=1e-6)
        expected = ((own & liked).sum() + RATE_PRIOR * mean) / (own.sum() + RATE_PRIOR)
        assert stats.positive_rate[row] == pytest.approx(expected, rel=1e-6)
    assert stats.order.tolist() == np.argsort(-stats.trend, kind="stable").tolist()
    assert stats.available.all()


def test_unavailable_items_are_in_no_order_and_the_others_keep_theirs() -> None:
    counts = ItemCounts.empty()
    counts.apply(**some(500, 4))
    key = counts.key
    all_of_them = stats_of(counts, key, now_s=START_S + 10**7)
    gone = [int(key[3]), int(key[7]), 12345]
    some_of_them = stats_of(counts, key, now_s=START_S + 10**7, unavailable=gone)
    assert np.flatnonzero(~some_of_them.available).tolist() == [3, 7]
    assert some_of_them.order.tolist() == [row for row in all_of_them.order.tolist() if row not in (3, 7)]
    assert some_of_them.trend.tobytes() == all_of_them.trend.tobytes()


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_items_by_falling_value_are_those_of_a_stable_sort_of_all(share: float) -> None:
    rng = np.random.default_rng(1)
    value = np.where(rng.random(500) < share, rng.integers(0, 20, 500), 0).astype(np.float32)
    order = by_falling(value)
    assert order.dtype == np.int32
    assert order.tolist() == np.argsort(-value, kind="stable").tolist()


def test_a_world_in_which_nothing_has_happened() -> None:
    stats = stats_of(ItemCounts.empty(), np.array([3, 9], np.uint64), now_s=START_S)
    assert stats.popularity.tolist() == stats.trend.tolist() == stats.positive_rate.tolist() == [0, 0]
    assert stats.order.tolist() == [0, 1]
