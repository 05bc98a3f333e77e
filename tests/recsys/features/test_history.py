"""What users did in rows of one bundle, also what left the ring."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from recsys.bundle import Recipe
from recsys.features.history import History
from recsys.features.user import RING, UserStates, update
from recsys.recommend import recommend
from recsys.training.fit import fit
from recsys.training.log import Log
from recsys.types import World
from recsys.users import Users
from recsys.verbs import WEIGHT, Verb
from tests import worlds
from tests.worlds import START_S, batch_of, dataset_of, random_asks

ITEMS = 150


@pytest.fixture(scope="module")
def wide() -> World:
    """A catalogue that is larger than the ring; 30 users like all of it."""
    names = {f"item-{number}": [] for number in range(ITEMS)}
    events = [(f"u{u}", name, Verb.LIKE, START_S + 60 * n) for u in range(30) for n, name in enumerate(names)]
    data = dataset_of(events, names)
    bundle = fit(data, Log.of(data), worlds.SMALL, until_s=START_S + 10**6)
    return World(bundle, bundle.item_stats)


def reading(world: World, older: int) -> World:
    recipe: Recipe = msgspec.structs.replace(world.bundle.recipe, older=older)
    return replace(world, bundle=replace(world.bundle, recipe=recipe))


def state_of(world: World, rows: list[int], verb: Verb = Verb.LIKE) -> UserStates:
    states = UserStates.empty(1, seen=256)
    for step, row in enumerate(rows):
        update(
            states,
            np.zeros(1, np.int64),
            item_key=world.bundle.vocabulary.key[[row]],
            verb=np.array([verb], np.uint8),
            ts_s=np.array([START_S + step], np.uint32),
        )
    return states


def test_without_older_items_what_is_liked_is_the_ring(wide: World) -> None:
    history = History.of(state_of(wide, list(range(100))), wide)
    assert history.liked is history.item
    assert history.liked_weight is history.weight


@pytest.mark.parametrize("older", [8, 36, 200])
def test_older_items_follow_the_ring_the_newest_first(wide: World, older: int) -> None:
    history = History.of(state_of(wide, list(range(100))), reading(wide, older))
    left = list(range(100 - RING))[::-1][:older]
    assert history.liked.shape == history.liked_weight.shape == (1, RING + older)
    assert history.liked[0, :RING].tolist() == list(range(99, 99 - RING, -1))
    assert history.liked[0, RING : RING + len(left)].tolist() == left
    assert (history.liked[0, RING + len(left) :] == -1).all()
    assert (history.liked_weight[0] > 0).tolist() == (history.liked[0] >= 0).tolist()


def test_older_items_weigh_what_one_of_the_ring_does_on_average(wide: World) -> None:
    states = state_of(wide, list(range(50)))
    for step, row in enumerate(range(50, 100)):
        update(
            states,
            np.zeros(1, np.int64),
            item_key=wide.bundle.vocabulary.key[[row]],
            verb=np.array([Verb.LIKE if row % 2 else Verb.HIDE], np.uint8),
            ts_s=np.array([START_S + 50 + step], np.uint32),
        )
    history = History.of(states, reading(wide, 200))
    likes = int((history.weight > 0).sum())
    assert 0 < likes < RING
    older = history.liked_weight[0, RING:][history.liked[0, RING:] >= 0]
    assert older == pytest.approx(np.full(100 - RING, likes / RING * WEIGHT[Verb.LIKE]))


def test_who_likes_nothing_in_the_ring_is_taken_to_have_liked_nothing_before(wide: World) -> None:
    history = History.of(state_of(wide, list(range(100)), Verb.HIDE), reading(wide, 200))
    assert not history.liked_weight.any()


def test_an_item_that_came_again_counts_once(wide: World) -> None:
    rows = [*range(100), 0, 1, 2]
    history = History.of(state_of(wide, rows), reading(wide, 200))
    liked = history.liked[0][history.liked[0] >= 0].tolist()
    assert len(liked) == len(set(liked)) == 100


def test_vectors_are_made_from_all_that_is_liked_and_a_row_is_alone(wide: World) -> None:
    near = reading(wide, 0)
    far = reading(wide, 200)
    states = UserStates.concatenate([state_of(wide, list(range(100))), state_of(wide, [3, 4]), UserStates.empty(1)])
    asks = random_asks(wide, np.random.default_rng(1), 3)
    batch = replace(batch_of(wide, asks), states=states)
    one, other = Users.of(near, batch), Users.of(far, batch)
    assert not np.allclose(one.vector[0], other.vector[0])
    assert not np.allclose(one.spectral[0], other.spectral[0])
    assert np.allclose(one.vector[1:], other.vector[1:], atol=1e-5)
    assert np.allclose(one.spectral[1:], other.spectral[1:], atol=1e-5)
    together = recommend(far, batch)
    for row in range(3):
        alone = recommend(far, replace(batch_of(wide, [asks[row]]), states=states.take(np.array([row]))))
        cells = slice(together.indptr[row], together.indptr[row + 1])
        assert alone.item.tobytes() == together.item[cells].tobytes()
        assert alone.score.tobytes() == together.score[cells].tobytes()
