"""A ranker taught by new users' answers finds what is in a world of known structure, and nothing where nothing is."""

import numpy as np
import pytest

from recsys.errors import DatasetError
from recsys.evaluation.ceiling import CEILING_AT, FOLDS, Ceiling, evaluate_ceiling
from recsys.training.log import Log
from recsys.training.train import Trained
from recsys.types import World
from recsys.verbs import Verb
from tests import worlds
from tests.worlds import START_S, dataset_of


@pytest.fixture(scope="module")
def points(chain: World, chain_trained: Trained) -> list[Ceiling]:
    return evaluate_ceiling(chain, Log.of(worlds.chain()), since_s=chain_trained.window[1], seed=1)


def test_where_each_step_says_the_next_the_taught_ranker_is_far_ahead_of_popularity(points: list[Ceiling]) -> None:
    """Of the next five steps a perfect list has each at its place: (1 + .63 + .5 + .43 + .39) / 5 = .59."""
    assert [point.known for point in points] == list(CEILING_AT)
    for point in points:
        assert point.over_popularity.low > 0.2
        assert 0.3 < point.value.mean <= 0.6


def test_where_users_choose_at_random_the_taught_ranker_is_not_ahead(chain: World, chain_trained: Trained) -> None:
    """The folds keep a user's own answers from the ranker that answers them; else it would be ahead here."""
    rng, items = np.random.default_rng(3), list(worlds.chain().item_id)
    start_s = chain_trained.window[1]
    events = [
        (f"random {user}", item, Verb.LIKE, start_s + 100 * user + place)
        for user in range(40)
        for place, item in enumerate(rng.choice(items, 10, replace=False))
    ]
    log = Log.of(dataset_of(events, {item: [] for item in items}))
    for point in evaluate_ceiling(chain, log, since_s=start_s, seed=1):
        assert point.users == 40
        assert point.over_popularity.low < 0.02


def test_same_seed_gives_the_same_ceiling(chain: World, chain_trained: Trained, points: list[Ceiling]) -> None:
    told: list[int] = []
    since_s = chain_trained.window[1]
    again = evaluate_ceiling(chain, Log.of(worlds.chain()), since_s=since_s, seed=1, progress=told.append)
    assert again == points
    assert sum(told) == len(CEILING_AT)


def test_fewer_new_users_than_folds_are_refused(chain: World) -> None:
    few = [
        (f"u{user}", item, Verb.LIKE, START_S + place) for user in range(FOLDS - 1) for place, item in enumerate("ab")
    ]
    log = Log.of(dataset_of(few, {item: [] for item in "abc"}))
    with pytest.raises(DatasetError, match="fewer than 5 users who are new"):
        evaluate_ceiling(chain, log, since_s=START_S, seed=1)
