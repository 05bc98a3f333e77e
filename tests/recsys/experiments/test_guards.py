"""Guards send back what is worse, and what is no worse they let pass."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys.experiments.guards import ALPHA, judge
from recsys.experiments.outcomes import METRICS, Outcomes, distance
from recsys.experiments.spread import FIRST_LOOK, coverage
from recsys.simulation.outcomes import CLICKS, simulated_outcomes

USERS = 6000


def outcomes(rng: np.random.Generator, **fields: Any) -> Outcomes:
    return simulated_outcomes(rng, **{"users": USERS, **fields})


FAULTS = {
    "a twentieth fewer clicks": ({"clicks": 0.285, "users": 60_000}, "lists clicked"),
    "20 ms": ({"slower_ms": 20.0}, "milliseconds of computation"),
    "one in forty slow": ({"slow": 0.025}, "lists slower than 25 ms"),
    "scores of no validation": ({"strange": 0.1}, "lists with scores out of range"),
    "one percent fails": ({"degraded": 0.01}, "degraded lists"),
    "a third of the items is lost": ({"lost_items": 1 / 3}, "different items"),
    "a tenth of its users never arrives": ({"lost_users": 0.1}, "users "),
    "lists that stay the same whatever their user does": ({"changed": 0.2}, "lists that changed"),
    "popular items to everybody": ({"popular": 0.8}, "share of the most shown items"),
    "fewer likes": ({"likes": 0.04, "users": 30_000}, "lists liked or bought from"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_by_its_guard(fault: str) -> None:
    fields, said = FAULTS[fault]
    verdict = judge(outcomes(np.random.default_rng(1), **fields), 0.5)
    assert any(sentence.startswith(said) for sentence in verdict.broken), verdict.seen
    assert set(verdict.broken) <= set(verdict.seen)


def test_what_is_no_worse_passes_in_all_but_alpha_of_rollouts() -> None:
    rng = np.random.default_rng(2)
    sent_back = 0
    for _ in range(150):
        whole = outcomes(rng, users=4000)
        for size in (500, 1000, 2000, 4000):  # whoever looks four times
            part = whole.first(size)
            if judge(part, 0.5).broken:
                sent_back += 1
                break
    assert sent_back <= 150 * ALPHA + 4


@pytest.mark.parametrize("share", [0.01, 0.05])
@pytest.mark.parametrize("clicks", [0.005, 0.02])
def test_a_small_share_of_rare_clicks_is_not_taken_for_a_loss(share: float, clicks: float) -> None:
    """With a hundred users of whom none has clicked yet, the variance of a side seems to be none."""
    rng = np.random.default_rng(6)
    looks, sent_back = np.unique(np.geomspace(300, 20_000, 25).astype(int)), 0
    for _ in range(40):
        whole = outcomes(rng, users=20_000, share=share)
        taste = rng.beta(4, 4, len(whole.variant)) * 2  # of both sides alike
        totals = whole.totals.copy()
        totals[:2] = rng.binomial(whole.lists.astype(int), np.clip(clicks * taste, 0, 1))
        whole = replace(whole, totals=totals)
        sent_back += any(judge(whole.first(int(size)), share, alpha=ALPHA / 5).broken for size in looks)
    assert sent_back <= 2


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_few_users_with_tastes_of_their_own_are_no_smaller_catalogue(share: float) -> None:
    rng = np.random.default_rng(8)
    whole = outcomes(rng, users=6000, share=share)
    items, owners = [], []
    for one in (0, 1):
        rows = np.flatnonzero(whole.variant == one)
        of = np.repeat(rows, whole.lists[rows].astype(int) * 10)
        own = rng.integers(1500, size=(len(whole.variant), 30))  # each user sees thirty items again and again
        owners.append(of)
        items.append(own[of, rng.integers(30, size=len(of))])
    found = replace(whole, items=tuple(items), owners=tuple(owners))
    if min(found.users()) >= FIRST_LOOK:
        seen = coverage(found, 1, alpha=ALPHA)
        assert 0.9 < seen.ratio < 1.1
        assert seen.low <= 1 <= seen.high
    assert not any("different items" in one for one in judge(found, share).broken)


def test_below_a_hundred_users_of_a_side_nothing_is_said_but_that() -> None:
    verdict = judge(outcomes(np.random.default_rng(9), users=3000, share=0.02, clicks=0.0, degraded=0.9), 0.02)
    assert verdict.users[1] < 100
    assert verdict.broken == ()
    assert any("below 100 users" in one for one in verdict.seen)


def test_a_better_bundle_passes() -> None:
    verdict = judge(outcomes(np.random.default_rng(3), clicks=0.33, users=20_000), 0.5)
    assert verdict.broken == ()
    assert verdict.users[0] + verdict.users[1] == 20_000
    assert len(verdict.seen) == len(METRICS) + 3


def test_before_anybody_came_nothing_is_broken() -> None:
    nothing = np.zeros(0)
    none = (np.zeros(0, int), np.zeros(0, int))
    empty = Outcomes(
        ("control", "canary"), nothing.astype(int), nothing, np.zeros((len(METRICS), 0)), nothing, none, none
    )
    verdict = judge(empty, 0.01)
    assert (verdict.broken, verdict.users, verdict.lists) == ((), (0, 0), (0, 0))


def test_everybody_at_once_has_nobody_to_be_compared_with() -> None:
    verdict = judge(outcomes(np.random.default_rng(4), share=1.0), 1.0)
    assert verdict.broken == ()
    assert verdict.users[0] == 0


def test_lists_are_as_far_apart_as_their_heads() -> None:
    assert distance(list("abcdef"), list("abcdef")) == 0
    assert distance(list("abc"), list("xyz")) == 1
    assert distance([], []) == 0
    assert distance([], ["a"]) == 1
    assert distance(list("a"), list("abcdefghij")) > 0.5  # what is missing is no agreement
    head, tail = distance(list("abcdef"), list("bacdef")), distance(list("abcdef"), list("abcdfe"))
    assert 0 < tail < head < 1
    assert math.isclose(distance(list("ab"), list("ba")), 1 / 1.9)


def test_nothing_is_settled_by_a_few_users_nor_without_clicks() -> None:
    few = judge(outcomes(np.random.default_rng(5), users=150), 0.5)
    assert few.broken == ()
    assert [one.partition(" may be")[0] for one in few.unsettled[:2]] == ["lists clicked", "different items"]
    assert "of its users may never arrive" in few.unsettled[2]
    whole = outcomes(np.random.default_rng(6), users=20_000)
    silent = judge(replace(whole, totals=np.zeros_like(whole.totals)), 0.5)
    assert silent.unsettled == ("lists clicked may be any number fewer, as far as is known; 5.0% are tolerated",)
    gone = judge(outcomes(np.random.default_rng(6), users=20_000, clicks=0.0), 0.5)
    assert gone.unsettled == ("lists clicked may be 100.0% fewer, as far as is known; 5.0% are tolerated",)
    assert judge(outcomes(np.random.default_rng(5), users=150), 0.5, margin=1.0).unsettled == ()


def test_a_bundle_that_is_no_worse_is_settled_and_one_that_is_worse_by_the_margin_is_not() -> None:
    looks = np.geomspace(400, 30_000, 12).astype(int)

    def settled(seed: int, **fields: float) -> int | None:
        whole = outcomes(np.random.default_rng(seed), users=30_000, **fields)
        return next((int(n) for n in looks if not judge(whole.first(int(n)), 0.5).unsettled), None)

    sound = [settled(seed) for seed in range(10)]
    assert all(one is not None and one > 1_000 for one in sound)
    assert sum(settled(seed, clicks=0.95 * CLICKS) is not None for seed in range(20, 40)) <= 3  # of 20, 1 is expected
    assert sum(settled(seed, lost_users=0.1) is not None for seed in range(40, 60)) <= 3
