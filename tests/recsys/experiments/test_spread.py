"""How widely lists are spread: intervals that hold the truth whenever one looks, and faults that they see."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from recsys.experiments.outcomes import Outcomes
from recsys.experiments.spread import FIRST_LOOK, coverage, head_share
from recsys.simulation.outcomes import simulated_outcomes

ALPHA = 0.05


def test_of_equal_sides_the_interval_holds_one_at_all_looks_together() -> None:
    rng, runs, wrong = np.random.default_rng(1), 200, 0
    for _ in range(runs):
        whole = simulated_outcomes(rng, users=3600)
        looks = [coverage(whole.first(n), 1, alpha=ALPHA) for n in (600, 1100, 2000, 3600)]
        wrong += any(not one.low <= 1 <= one.high for one in looks)
        assert looks[0].users == FIRST_LOOK
    assert wrong <= ALPHA * runs


def test_between_two_looks_nothing_new_is_said() -> None:
    whole = simulated_outcomes(np.random.default_rng(2), users=3000)
    first, second = (coverage(whole.first(n), 1, alpha=ALPHA) for n in (1700, 1900))
    assert first.users == 800
    assert first == second
    assert first.low < first.ratio < first.high


def test_a_third_of_the_items_is_surely_missed_and_the_interval_narrows() -> None:
    whole = simulated_outcomes(np.random.default_rng(3), users=8000, lost_items=1 / 3)
    looks = [coverage(whole.first(n), 1, alpha=ALPHA) for n in (900, 8000)]
    assert looks[1].high < 0.75 < 1
    assert looks[1].high - looks[1].low < looks[0].high - looks[0].low
    assert looks[1].ratio == pytest.approx(2 / 3, abs=0.03)


def test_before_there_are_users_enough_there_is_no_bound() -> None:
    few = coverage(simulated_outcomes(np.random.default_rng(4), users=300), 1, alpha=ALPHA)
    assert (few.low, few.high) == (0.0, math.inf)
    assert 0.5 < few.ratio < 1.5
    nobody = simulated_outcomes(np.random.default_rng(4), users=0)
    assert math.isnan(coverage(nobody, 1, alpha=ALPHA).ratio)


def test_items_that_one_user_alone_was_shown_make_the_variance() -> None:
    """Every user of both sides has a list of items that nobody else has: each counts its items squared."""
    n = 2 * FIRST_LOOK
    variant = np.arange(n) % 2
    owners = tuple(np.repeat(np.flatnonzero(variant == one), 4) for one in (0, 1))
    items = tuple(np.arange(len(one)) + 10_000 * side for side, one in enumerate(owners))
    some = simulated_outcomes(np.random.default_rng(5), users=n)
    whole = Outcomes(some.names, variant, some.lists, some.totals, some.before, items, owners)
    found = coverage(whole, 1, alpha=ALPHA)
    deviation = math.sqrt(2 * FIRST_LOOK * 4**2) / (4 * FIRST_LOOK)
    part = ALPHA * 6 / math.pi**2
    assert found.ratio == 1
    assert math.log(found.high) == pytest.approx(norm.ppf(1 - part / 2) * deviation)


def test_what_everybody_is_shown_anyway_takes_more_of_the_lists() -> None:
    rng = np.random.default_rng(6)
    same = head_share(simulated_outcomes(rng, users=4000), 1, planned=5000, alpha=ALPHA)
    assert same.low < 0 < same.high
    assert 0.3 < same.control < 0.7
    more = head_share(simulated_outcomes(rng, users=4000, popular=0.8), 1, planned=5000, alpha=ALPHA)
    assert more.low > 0.2
    nobody = head_share(simulated_outcomes(rng, users=0), 1, planned=5000, alpha=ALPHA)
    assert (nobody.low, nobody.high) == (-math.inf, math.inf)


def test_the_head_is_settled_by_the_first_hundred_users_who_count_no_further() -> None:
    whole = simulated_outcomes(np.random.default_rng(7), users=3000)
    later = np.flatnonzero(whole.variant == 0)[100:]
    other = whole.items[0].copy()
    other[np.isin(whole.owners[0], later)] = 999_999  # whatever they are shown, it is not of the head
    found = head_share(replace(whole, items=(other, whole.items[1])), 1, planned=5000, alpha=ALPHA)
    assert found.control == 0
    assert found.low > 0
