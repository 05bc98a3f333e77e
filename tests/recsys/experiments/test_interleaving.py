"""A draft loses and repeats nothing, favours nobody, and is the same whenever it is made again."""

import numpy as np
import pytest

from loadtest.interleaving_visitors import by_a_b, by_interleaving
from recsys.datasets.dataset import Dataset
from recsys.experiments.interleaving import BOTH, Draft, interleave
from recsys.experiments.preferences import CREDITS, Preferences
from recsys.experiments.sequential import LEAST
from recsys.simulation.rivals import Rivals
from recsys.simulation.world import SimulatedWorld

ALPHA = 0.05


def some_lists(rng: np.random.Generator) -> tuple[list[str], list[str], int]:
    """Two lists that share more or fewer items, of any lengths, and how many items are wanted."""
    items = [str(one) for one in range(rng.integers(1, 60))]
    one, other = (
        [items[row] for row in rng.permutation(len(items))[: rng.integers(0, len(items) + 1)]] for _ in range(2)
    )
    if rng.random() < 0.3:
        other = one[:3] + [item for item in other if item not in one[:3]]
    return one, other, int(rng.integers(1, 40))


def drafts(number: int, seed: int) -> list[tuple[list[str], list[str], int, Draft]]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        one, other, count = some_lists(rng)
        made.append((one, other, count, interleave(one, other, count=count, seed=int(rng.integers(2**63)))))
    return made


def test_no_item_is_lost_or_there_twice() -> None:
    for one, other, count, draft in drafts(2000, 1):
        assert len({*draft.items}) == len(draft.items) == min(count, len({*one, *other}))
        assert len(draft.items) == len(draft.team) == len(draft.propensity)
        for side in (one, other):  # what is in the list, is there with all that its side puts before it
            shown = [side.index(item) for item in draft.items if item in side]
            credited = [
                side.index(item) for item, of in zip(draft.items, draft.team, strict=True) if of == (side is other)
            ]
            assert credited == sorted(credited)
            if credited and one is not other:
                assert {*range(max(credited) + 1)} <= {*shown}


def test_credit_is_of_the_side_that_has_the_item_and_each_has_as_many_but_for_a_last_place() -> None:
    for one, other, _, draft in drafts(2000, 2):
        for item, team in zip(draft.items, draft.team, strict=True):
            assert team == BOTH or item in (one, other)[team]
        teams = [team for team in draft.team if team != BOTH]
        assert all(first != second for first, second in zip(teams[::2], teams[1::2], strict=False))
        assert [share == 1.0 for share in draft.propensity] == [team == BOTH for team in draft.team]


def test_each_side_goes_first_half_of_the_time() -> None:
    firsts = np.zeros((3, 2))
    for seed in range(4000):
        draft = interleave(list("abcdef"), list("uvwxyz"), count=6, seed=seed)
        for round_ in range(3):
            firsts[round_, draft.team[2 * round_]] += 1
    assert (np.abs(firsts / 4000 - 0.5) < 4 * 0.5 / 4000**0.5).all()
    both = [interleave(list("ab"), list("xy"), count=4, seed=seed).team[::2] for seed in range(4000)]
    assert abs(np.mean([first == second for first, second in both]) - 0.5) < 0.04  # rounds do not depend on each other


def test_the_propensity_is_how_often_an_item_stands_in_its_place() -> None:
    one, other = list("abcdefg"), list("abxdyfz")
    seen: dict[tuple[int, str], int] = {}
    said: dict[tuple[int, str], float] = {}
    for seed in range(3000):
        draft = interleave(one, other, count=7, seed=seed)
        for cell in zip(enumerate(draft.items), draft.propensity, strict=True):
            seen[cell[0]] = seen.get(cell[0], 0) + 1
            assert said.setdefault(*cell) == cell[1]
    assert {cell: pytest.approx(times / 3000, abs=0.05) for cell, times in seen.items()} == said
    assert {place: sum(share for (at, _), share in said.items() if at == place) for place in range(7)} == dict.fromkeys(
        range(7), 1.0
    )


def test_what_both_would_put_down_is_no_credit_and_equal_lists_stay_as_they_are() -> None:
    draft = interleave(list("abcd"), list("abcd"), count=3, seed=9)
    assert draft == Draft(list("abc"), [BOTH] * 3, [1.0] * 3)
    draft = interleave(list("abc"), list("ab"), count=9, seed=9)
    assert (draft.items, draft.team) == (list("abc"), [BOTH] * 3)  # an item more is no better list
    assert interleave([], [], count=5, seed=0) == Draft([], [], [])


def test_a_draft_is_the_same_again_and_its_coins_are_fixed() -> None:
    """Lists on record are made again by this function: another coin would make all of them different."""
    made = [interleave(list("abcdef"), list("uvwxyz"), count=6, seed=seed).team[::2] for seed in (0, 1, 2**64 - 1)]
    assert made == [[0, 1, 0], [1, 0, 1], [1, 0, 1]]
    long = interleave([f"a{n}" for n in range(700)], [f"b{n}" for n in range(700)], count=1400, seed=3)
    assert len({*long.items}) == 1400


def test_who_clicks_without_looking_gives_both_sides_the_same_credit() -> None:
    """Randomised clicks on lists of equal worth, at places that are looked at ever less: no side wins."""
    rng = np.random.default_rng(4)
    looked = np.arange(1, 11) ** -0.7
    net = []
    for _ in range(6000):
        one, other = ([str(row) for row in rng.permutation(30)[:10]] for _ in range(2))
        draft = interleave(one, other, count=10, seed=int(rng.integers(2**63)))
        clicked = rng.random(10) < looked * 0.5
        net.append(
            sum((1 if team else -1) * click for team, click in zip(draft.team, clicked, strict=True) if team != BOTH)
        )
    assert np.std(net) > 0.5
    assert abs(np.mean(net)) < 4 * np.std(net) / len(net) ** 0.5


def test_of_equal_sides_none_wins_however_often_one_looks() -> None:
    rng, runs, wrong = np.random.default_rng(5), 400, 0
    for _ in range(runs):
        users = 3000
        engaged = rng.beta(0.5, 2.0, users)
        credit = rng.poisson(engaged * 1.5, (len(CREDITS), 2, users)).astype(float)
        whole = Preferences(("a", "b"), 1.0 + rng.poisson(3, users), credit)
        looks = np.unique(np.geomspace(2 * LEAST, users, 40).astype(int))
        wrong += any(
            whole.first(int(n)).preference("clicked", planned=1000, alpha=ALPHA).winner is not None for n in looks
        )
    assert wrong <= ALPHA * runs


def test_the_true_preference_is_inside_at_all_looks_and_its_figures_add_up() -> None:
    rng, runs, inside = np.random.default_rng(6), 200, 0
    for _ in range(runs):
        users = 2000
        lists = 1.0 + rng.poisson(3, users)
        credit = np.zeros((2, 2, users))
        credit[0] = [rng.poisson(0.3 * lists), rng.poisson(0.36 * lists)]
        whole = Preferences(("a", "b"), lists, credit)
        looks = [whole.first(n).preference("clicked", planned=1000, alpha=ALPHA) for n in range(300, users, 100)]
        inside += all(one.low <= 0.06 <= one.high for one in looks)
    assert inside >= (1 - ALPHA) * runs
    last = looks[-1]
    assert last.difference == pytest.approx((last.credit[1] - last.credit[0]) / whole.first(1900).lists.sum())
    assert last.low < last.fixed_low < last.difference < last.fixed_high < last.high
    assert whole.preference("converted", planned=1000, alpha=ALPHA).winner is None


def test_before_a_hundred_users_have_decided_nobody_wins() -> None:
    users = 5000
    credit = np.zeros((2, 2, users))
    credit[0, 1, : LEAST - 1] = 1.0
    few = Preferences(("a", "b"), np.ones(users), credit).preference("clicked", planned=1000, alpha=ALPHA)
    assert (few.winner, few.decided) == (None, LEAST - 1)
    nobody = Preferences(("a", "b"), np.zeros(0), np.zeros((2, 2, 0))).preference("clicked", planned=1, alpha=ALPHA)
    assert (nobody.winner, nobody.users) == (None, 0)


def test_the_known_better_ranker_wins_with_a_third_of_the_visitors_that_an_a_b_test_needs(
    synthetic_dataset: Dataset,
) -> None:
    rivals = Rivals(SimulatedWorld.over(synthetic_dataset, users=300, seed=1), (2.0, 1.0))
    never = (10**6, 1)
    drafted = [by_interleaving(rivals, seed, 1500) or never for seed in range(20)]
    divided = [by_a_b(rivals, seed, 4000) or never for seed in range(20)]
    assert {winner for _, winner in drafted} == {1} == {winner for _, winner in divided}
    medians = [float(np.median([visitors for visitors, _ in one])) for one in (drafted, divided)]
    assert medians[0] < medians[1] / 3, medians
    assert medians[0] < 1500
