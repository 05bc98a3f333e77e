"""Guards send back what is worse, and what is no worse they let pass."""

import math

import numpy as np
import pytest

from recsys.experiments.guards import ALPHA, judge
from recsys.experiments.outcomes import METRICS, Outcomes, distance, distinct_in

USERS, LISTS = 6000, 8.0


def outcomes(
    rng: np.random.Generator,
    *,
    users: int = USERS,
    share: float = 0.5,
    clicks: float = 0.3,
    likes: float = 0.05,
    slower_ms: float = 0.0,
    degraded: float = 0.0,
    lost_items: float = 0.0,
    lost_users: float = 0.0,
) -> Outcomes:
    """Users who look at some lists of ten; `clicks` and what follows is what the bundle does; champion: .3, .05, 0."""
    variant = (rng.random(users) < share).astype(np.int64)
    kept = ~((variant == 1) & (rng.random(users) < lost_users))
    variant = variant[kept]
    taste = rng.beta(4, 4, len(variant)) * 2
    lists = 1.0 + rng.poisson(LISTS, len(variant))
    rate = np.where(variant == 1, clicks, 0.3) * taste
    liking = np.where(variant == 1, likes, 0.05) * taste
    clicked = rng.binomial(lists.astype(int), np.clip(rate, 0, 1))
    liked = rng.binomial(lists.astype(int), np.clip(liking, 0, 1))
    bad = rng.binomial(lists.astype(int), np.where(variant == 1, degraded, 0.0001))
    took = lists * rng.gamma(4, 2, len(variant)) + np.where(variant == 1, slower_ms, 0) * lists
    items = []
    for one in (0, 1):
        catalogue = int(1000 * (1 - (lost_items if one else 0)))
        shown = int(lists[variant == one].sum()) * 10
        items.append(np.minimum(rng.zipf(1.2, shown) - 1, 10**6) % catalogue)
    totals = np.array([clicked, liked, liked * 2.0, bad, took], float)
    return Outcomes(("control", "canary"), variant, lists, totals, rng.poisson(10 * taste).astype(float), tuple(items))


FAULTS = {
    "a twentieth fewer clicks": ({"clicks": 0.285, "users": 60_000}, "lists clicked"),
    "20 ms": ({"slower_ms": 20.0}, "milliseconds of a list"),
    "one percent fails": ({"degraded": 0.01}, "degraded lists"),
    "a third of the items is lost": ({"lost_items": 1 / 3}, "different items"),
    "a tenth of its users never arrives": ({"lost_users": 0.1}, "users "),
    "fewer likes": ({"likes": 0.04, "users": 30_000}, "lists liked or bought from"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_by_its_guard(fault: str) -> None:
    fields, said = FAULTS[fault]
    verdict = judge(outcomes(np.random.default_rng(1), **fields), 0.5)  # type: ignore[arg-type]
    assert any(sentence.startswith(said) for sentence in verdict.broken), verdict.seen
    assert set(verdict.broken) <= set(verdict.seen)


def test_what_is_no_worse_passes_in_all_but_alpha_of_rollouts() -> None:
    rng = np.random.default_rng(2)
    sent_back = 0
    for _ in range(150):
        users = rng.permutation(4000)
        whole = outcomes(rng, users=4000)
        for size in (500, 1000, 2000, 4000):  # whoever looks four times
            rows = np.sort(users[users < len(whole.variant)][:size])
            part = Outcomes(
                whole.names,
                whole.variant[rows],
                whole.lists[rows],
                whole.totals[:, rows],
                whole.before[rows],
                whole.items,
            )
            if judge(part, 0.5).broken:
                sent_back += 1
                break
    assert sent_back <= 150 * ALPHA + 4


def test_a_better_bundle_passes() -> None:
    verdict = judge(outcomes(np.random.default_rng(3), clicks=0.33, users=20_000), 0.5)
    assert verdict.broken == ()
    assert verdict.users[0] + verdict.users[1] == 20_000
    assert len(verdict.seen) == len(METRICS) + 2


def test_before_anybody_came_nothing_is_broken() -> None:
    nothing = np.zeros(0)
    empty = Outcomes(("control", "canary"), nothing.astype(int), nothing, np.zeros((5, 0)), nothing, (nothing, nothing))
    verdict = judge(empty, 0.01)
    assert (verdict.broken, verdict.users, verdict.lists) == ((), (0, 0), (0, 0))


def test_everybody_at_once_has_nobody_to_be_compared_with() -> None:
    verdict = judge(outcomes(np.random.default_rng(4), share=1.0), 1.0)
    assert verdict.broken == ()
    assert verdict.users[0] == 0


def test_distinct_items_are_those_expected_in_as_many_places() -> None:
    rng = np.random.default_rng(5)
    shown = rng.zipf(1.3, 5000) % 400
    drawn = np.mean([len(np.unique(rng.choice(shown, 1200, replace=False))) for _ in range(200)])
    assert distinct_in(shown, 1200) == pytest.approx(drawn, rel=0.02)
    assert distinct_in(shown, 5000) == pytest.approx(len(np.unique(shown)), rel=0.3)


def test_lists_are_as_far_apart_as_their_heads() -> None:
    assert distance(list("abcdef"), list("abcdef")) == 0
    assert distance(list("abc"), list("xyz")) == 1
    assert distance([], []) == 0
    assert distance([], ["a"]) == 1
    head, tail = distance(list("abcdef"), list("bacdef")), distance(list("abcdef"), list("abcdfe"))
    assert 0 < tail < head < 1
    assert math.isclose(distance(list("ab"), list("ba")), 1 / 1.9)
