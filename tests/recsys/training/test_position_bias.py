"""The examination curve: recovered from simulated clicks, compared on real ones, careful where there are few."""

import numpy as np
import pyarrow.csv
import pytest

from recsys.training.position_bias import DEEPEST, LEAST_PROPENSITY, MAX_STEPS, PositionBias
from tests.real_data import real_data

POSITIONS, ITEMS = 8, 60
CURVE = 1 / np.arange(1, POSITIONS + 1) ** 0.7  # ends at 0.23

Shown = tuple[np.ndarray, np.ndarray, np.ndarray]  # position, item, click


def simulated(impressions: int, *, leaning: float, curve: np.ndarray = CURVE, seed: int = 1) -> Shown:
    """Lists of distinct items, clicked as the position-based model says.

    Args:
        leaning: How much better items are shown further up; 0 is by chance.
    """
    rng = np.random.default_rng(seed)
    gamma = rng.beta(1, 6, ITEMS)
    lists = impressions // len(curve)
    score = leaning * np.log(gamma) + rng.gumbel(size=(lists, ITEMS))
    item = np.argsort(-score, axis=1)[:, : len(curve)]
    click = rng.random(item.shape) < curve * gamma[item]
    return np.tile(np.arange(1, len(curve) + 1), lists), item.ravel(), click.ravel()


@pytest.mark.parametrize("leaning", [0.0, 0.5, 1.0])
def test_known_curve_is_recovered_whether_or_not_better_items_stand_further_up(leaning: float) -> None:
    found = PositionBias.fit(*simulated(400_000, leaning=leaning))
    np.testing.assert_allclose(found.propensity, CURVE, rtol=0.08)
    assert found.steps < 10


def test_click_rate_alone_would_take_the_order_of_a_good_list_for_examination() -> None:
    position, item, click = simulated(400_000, leaning=4.0)
    rate = np.bincount(position, click)[1:] / np.bincount(position)[1:]
    found = PositionBias.fit(position, item, click)
    assert (rate / rate[0])[-1] < 0.8 * CURVE[-1]
    assert found.propensity[-1] == pytest.approx(CURVE[-1], rel=0.12)


def test_positions_drawn_by_chance_give_the_ratio_of_click_rates() -> None:
    position, _, click = simulated(100_000, leaning=0)
    one_item = np.zeros(len(position), np.int64)
    rate = np.bincount(position, click)[1:] / np.bincount(position)[1:]
    found = PositionBias.fit(position, one_item, click, prior=1e-9)
    np.testing.assert_allclose(found.propensity, rate / rate.max(), rtol=1e-5)


def test_item_that_was_shown_at_one_position_says_nothing() -> None:
    position, item, click = simulated(50_000, leaning=0.5)
    fixed = np.full(5_000, ITEMS)  # always third, and often clicked
    with_fixed = PositionBias.fit(
        np.concatenate([position, np.full(5_000, 3)]),
        np.concatenate([item, fixed]),
        np.concatenate([click, np.arange(5_000) % 2 == 0]),
    )
    without = PositionBias.fit(position, item, click)
    np.testing.assert_array_equal(with_fixed.propensity, without.propensity)
    assert with_fixed.compared == without.compared == click.sum()
    assert with_fixed.clicks[2] == without.clicks[2] + 2_500


def test_few_clicks_teach_little_and_none_teaches_nothing() -> None:
    position, item = np.tile([1, 2], 50), np.repeat(np.arange(50), 2)
    click = np.zeros(100, bool)
    assert PositionBias.fit(position, item, click).propensity.tolist() == [1, 1]
    click[[0, 2, 4]] = True  # all at the first position
    assert 0.7 < PositionBias.fit(position, item, click).propensity[1] < 0.9


def test_propensity_has_a_lower_bound_and_deep_positions_share_one() -> None:
    position, item = np.tile([1, DEEPEST, DEEPEST + 50], 1000), np.tile(np.arange(1000) % 5, 3)
    found = PositionBias.fit(position, item, position == 1)
    assert len(found.propensity) == DEEPEST
    assert found.propensity[-1] == LEAST_PROPENSITY
    assert found.impressions[-1] == 2000
    weights = found.weight(np.array([0, 1, DEEPEST, DEEPEST + 50, 9999], np.int32))
    np.testing.assert_allclose(weights, [1, 1, *[1 / LEAST_PROPENSITY] * 3], rtol=1e-6)
    assert weights.dtype == np.float32
    assert found.steps < MAX_STEPS


def test_personal_order_makes_the_curve_too_steep_by_up_to_two_fifths() -> None:
    """What the model cannot know, measured: who sees an item further up wants it more than others do."""
    rng, users, curve = np.random.default_rng(2), 4000, 1 / np.arange(1, 11)
    liking = rng.normal(size=100) + rng.normal(size=(users, 100))
    found = []
    for own in (0, 1):  # lists for nobody in particular, and for each user
        score = (liking if own else liking.mean(axis=0)) + rng.normal(size=(10, users, 100))
        item = np.argsort(-score, axis=2)[:, :, :10]
        wanted = 1 / (1 + np.exp(3 - liking[np.arange(users)[None, :, None], item]))
        click = rng.random(item.shape) < curve * wanted
        position = np.broadcast_to(np.arange(1, 11), item.shape)
        found.append(PositionBias.fit(position.ravel(), item.ravel(), click.ravel()).propensity)
    np.testing.assert_allclose(found[0], curve, rtol=0.12)
    unbounded = found[1] > LEAST_PROPENSITY
    ratio = (found[1] / curve)[unbounded]
    assert (np.diff(ratio) < 0).all()
    assert 0.6 < ratio[-1] < 0.7
    assert unbounded.sum() == 6


def test_curve_of_a_learning_policy_agrees_with_that_of_positions_drawn_by_chance() -> None:
    """Open Bandit (Saito et al., 2020): Bernoulli Thompson sampling against the random policy of the same campaign.

    The samples have 46 to 69 clicks a log, so this could refute a curve that is wrong by half, not one by a tenth.
    """
    for campaign in ("men", "women"):
        log_ratio, spread = np.zeros(2), np.zeros((2, 2))
        for sign, policy in ((1, "bts"), (-1, "random")):
            table = pyarrow.csv.read_csv(real_data(f"open-bandit/{policy}_{campaign}.csv.gz"))
            shown = [table[name].to_numpy() for name in ("position", "item_id", "click")]
            log_ratio += sign * relative(*shown)
            rng = np.random.default_rng(1)
            draws = [rng.integers(0, len(shown[0]), len(shown[0])) for _ in range(300)]
            spread += np.cov(np.stack([relative(*(one[rows] for one in shown)) for rows in draws], axis=1))
        distance = log_ratio @ np.linalg.solve(spread, log_ratio)
        assert distance < 5.99, campaign  # 95 % of chi-squared with 2 degrees of freedom


def relative(position: np.ndarray, item: np.ndarray, click: np.ndarray) -> np.ndarray:
    """Logarithms of the examination of the last two of three positions beside the first."""
    theta = np.log(PositionBias.fit(position, item, click.astype(bool), prior=1e-3).propensity)
    return theta[1:] - theta[0]


def test_dense_logs_give_what_expectation_maximisation_gives_in_a_tenth_of_its_steps() -> None:
    """The EM of Wang et al. (WSDM 2018), section 4.1, with an item as the context."""
    position, item, click = simulated(80_000, leaning=0.5)
    cell = (position - 1, item)
    shown, clicked = np.zeros((2, POSITIONS, ITEMS))
    np.add.at(shown, cell, 1)
    np.add.at(clicked, cell, click)
    theta, gamma, steps, moved = np.full((POSITIONS, 1), 0.5), np.full((1, ITEMS), 0.5), 0, 1.0
    while moved > 1e-6:
        neither = (shown - clicked) / (1 - theta * gamma)
        examined = (clicked + neither * theta * (1 - gamma)).sum(axis=1, keepdims=True)
        wanted = (clicked + neither * gamma * (1 - theta)).sum(axis=0, keepdims=True)
        after = examined / shown.sum(axis=1, keepdims=True)
        moved = np.abs(np.log(after / theta)).max()
        theta, gamma, steps = after, wanted / shown.sum(axis=0), steps + 1
    found = PositionBias.fit(position, item, click)
    np.testing.assert_allclose(found.propensity, (theta / theta.max())[:, 0], atol=0.01)
    assert found.steps < steps / 10
