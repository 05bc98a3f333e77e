"""Reactions have the stated chances, and estimators find the truth in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recsys.simulation.behaviour import Behaviour, Reactions
from tests.recsys.simulation.significance import assert_shares

B, K = 40_000, 10
BEHAVIOUR = Behaviour(hide=0.3)  # hides are rare by default: too rare for a chi-square test
TRUTH = np.linspace(0.95, 0.2, K)
Z = 3.9  # two-sided 1e-4


def react(attraction: np.ndarray, seed: int = 1) -> Reactions:
    return BEHAVIOUR.react(np.random.default_rng(seed), attraction)


def test_every_reaction_has_its_chance_at_every_place() -> None:
    attraction = np.random.default_rng(2).permutation(TRUTH)
    shown = react(np.tile(attraction, (B, 1)))
    click = BEHAVIOUR.examination(K) * attraction
    assert_shares(shown.click.sum(axis=0), B, click)
    assert_shares(shown.like.sum(axis=0), B, click * BEHAVIOUR.like * attraction)
    assert_shares(shown.purchase.sum(axis=0), B, click * BEHAVIOUR.purchase * attraction)
    hide = BEHAVIOUR.examination(K) * (1 - attraction) ** 2 * BEHAVIOUR.hide
    assert_shares(shown.hide.sum(axis=0), B, hide)


def test_likes_and_purchases_follow_clicks_and_hides_never_do() -> None:
    shown = react(np.tile(TRUTH, (B, 1)))
    assert not (shown.like & ~shown.click).any()
    assert not (shown.purchase & ~shown.click).any()
    assert not (shown.hide & shown.click).any()


def test_what_does_not_attract_is_never_clicked_and_what_attracts_surely_always_at_the_first_place() -> None:
    assert not react(np.zeros((1000, K))).click.any()
    assert react(np.ones((1000, K))).click[:, 0].all()


def test_position_bias_is_recovered_from_clicks_on_shuffled_lists() -> None:
    """Shuffled, every place holds the same items: clicks by place are attention times a constant (Joachims 2017)."""
    rng = np.random.default_rng(3)
    clicks = react(rng.permuted(np.tile(TRUTH, (B, 1)), axis=1)).click.sum(axis=0)
    x, y = np.log(np.arange(1, K + 1)), np.log(clicks / B)
    weight = clicks / (1 - clicks / B)  # 1 / variance of the log of a share
    x = x - np.average(x, weights=weight)
    slope = (weight * x * y).sum() / (weight * x * x).sum()
    assert abs(slope + BEHAVIOUR.attention) < Z / np.sqrt((weight * x * x).sum())


def test_clicks_weighted_by_inverse_examination_recover_the_attraction_of_every_item() -> None:
    rng = np.random.default_rng(4)
    order = rng.permuted(np.tile(np.arange(K), (B, 1)), axis=1)
    weighted = react(TRUTH[order]).click / BEHAVIOUR.examination(K)
    of_item = np.take_along_axis(weighted, np.argsort(order, axis=1), axis=1)
    z = (of_item.mean(axis=0) - TRUTH) / (of_item.std(axis=0) / np.sqrt(B))
    assert (np.abs(z) < 4.5).all()  # 1e-4 over the ten
    naive = react(np.tile(TRUTH, (B, 1))).click.mean(axis=0)
    assert (naive[1:] < 0.7 * TRUTH[1:]).all()  # without the weights the lower places look worse than they are


def test_expected_clicks_are_the_mean_of_clicks() -> None:
    clicks = react(np.tile(TRUTH, (B, 1))).click.sum(axis=1)
    error = clicks.mean() - float(BEHAVIOUR.expected_clicks(TRUTH))
    assert abs(error) < Z * clicks.std() / np.sqrt(B)
    np.testing.assert_allclose(BEHAVIOUR.expected_clicks(np.tile(TRUTH, (3, 1))), BEHAVIOUR.expected_clicks(TRUTH))


def test_same_visitor_does_the_same_with_what_two_lists_share() -> None:
    one, other = np.tile(TRUTH, (1, 1)), np.tile(TRUTH, (1, 1))
    other[0, 4:] = 0.5
    for seed in range(50):
        first, second = react(one, seed), react(other, seed)
        for name in ("click", "like", "purchase", "hide"):
            np.testing.assert_array_equal(getattr(first, name)[0, :4], getattr(second, name)[0, :4])


@given(arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1)), st.randoms(use_true_random=False))
def test_no_order_of_the_same_items_has_more_expected_clicks_than_the_most_attractive_first(
    attraction: np.ndarray, chance: object
) -> None:
    shuffled = attraction.copy()
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    best = BEHAVIOUR.expected_clicks(np.sort(attraction)[::-1])
    assert BEHAVIOUR.expected_clicks(shuffled) <= best + 1e-12


def test_attention_is_whole_at_the_first_place_and_falls() -> None:
    looked = Behaviour().examination(20)
    assert looked[0] == 1
    assert (np.diff(looked) < 0).all()
    assert looked[9] == pytest.approx(0.2, abs=0.001)
