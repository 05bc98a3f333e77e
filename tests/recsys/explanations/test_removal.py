"""A state without one item is the state of somebody who never met it."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.explanations.removal import remove, repeated, without_history, without_items
from recsys.features.user import HALF_LIFE_S, UserStates, fingerprint
from recsys.recommend import recommend
from recsys.types import QueryBatch, World
from recsys.users import Users
from recsys.verbs import Verb
from tests.worlds import START_S, Ask, batch_of, controlled_asks, likes, states_after

Met = tuple[str, Verb, int]


def assert_alike(one: UserStates, other: UserStates) -> None:
    """All but activity to the bit; that to the rounding of float32 sums."""
    used = int(one.length[0])
    assert used == other.length[0]
    for name in ("item_key", "ts_s", "verb"):
        assert np.array_equal(getattr(one, name)[0, :used], getattr(other, name)[0, :used]), name
    assert (one.events[0], one.positives[0]) == (other.events[0], other.positives[0])
    as_of_s = max(int(one.activity_s[0]), int(other.activity_s[0]))
    assert np.allclose(activity(one, as_of_s), activity(other, as_of_s), atol=1e-4 * max(1, int(one.events[0])))


def activity(states: UserStates, as_of_s: int) -> np.ndarray:
    return states.activity[0] * np.exp2(-(as_of_s - int(states.activity_s[0])) / HALF_LIFE_S)


def history_of(places: Sequence[int], ids: Sequence[str], gaps_s: Sequence[int]) -> list[Met]:
    ts_s = START_S + np.cumsum(gaps_s)
    verbs = list(Verb)
    return [(ids[at], verbs[at % len(verbs)], int(t)) for at, t in zip(places, ts_s, strict=False)]


@given(
    places=st.lists(st.integers(0, 7), min_size=1, max_size=60),
    gaps_s=st.lists(st.integers(0, 90_000), min_size=60, max_size=60),
)
@settings(max_examples=80)
def test_state_without_an_item_is_that_of_who_never_met_it(world: World, places: list[int], gaps_s: list[int]) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    history = history_of(places, ids, gaps_s)
    gone = history[0][0]
    states = states_after(world, [history])
    key = world.bundle.vocabulary.key[[ids.index(gone)]]
    remove(states, key)
    never = states_after(world, [[one for one in history if one[0] != gone]])
    assert_alike(states, never)


def test_what_left_the_ring_is_forgotten_by_its_fingerprint(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    states = states_after(world, [likes(ids[0], ids[1], *ids[2:60], *ids[2:60])])
    key = world.bundle.vocabulary.key[[0]]
    assert fingerprint(key)[0] in states.seen[0, : states.seen_count[0]]
    before = int(states.seen_count[0])
    remove(states, key)
    assert states.seen_count[0] == before - 1
    assert fingerprint(key)[0] not in states.seen[0, : states.seen_count[0]]


def one_of(world: World, ask: Ask) -> QueryBatch:
    return batch_of(world, [ask])


def test_request_without_an_item_has_it_neither_in_state_nor_session_and_does_not_offer_it(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    batch = one_of(world, Ask(history=likes(*ids[:5]), session=[ids[2], ids[7], ids[2]], excluded=[ids[9]], count=400))
    key = world.bundle.vocabulary.key[[2, 7, 4]]
    fewer = without_items(batch, key)
    assert [fewer.session[row].tolist() for row in range(3)] == [
        [int(world.bundle.vocabulary.key[7])],
        [int(world.bundle.vocabulary.key[2])] * 2,
        world.bundle.vocabulary.key[[2, 7, 2]].tolist(),
    ]
    slates = recommend(world, fewer)
    for row, gone in enumerate((2, 7, 4)):
        assert gone not in slates.item[slates.indptr[row] : slates.indptr[row + 1]]
        assert gone not in Users.of(world, fewer).history.item[row]
    assert batch.states.length[0] == 5
    assert batch.session.lengths().tolist() == [3]


def test_request_without_history_knows_nothing_but_what_was_met(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    batch = one_of(world, Ask(history=likes(*ids[:90]), session=ids[90:95], count=400))
    nobody = without_history(batch, Users.of(world, batch).states)
    then, now = recommend(world, batch), recommend(world, nobody)
    assert (bool(then.personal[0]), bool(now.personal[0])) == (True, False)
    assert set(now.item.tolist()) == set(then.item.tolist())
    assert not set(now.item.tolist()) & set(range(95))


def test_repeated_requests_have_the_same_list_each(world: World) -> None:
    for ask in controlled_asks(world, np.random.default_rng(3), 10):
        batch = one_of(world, ask)
        once, thrice = recommend(world, batch), recommend(world, repeated(batch, 3))
        assert thrice.item.tolist() == once.item.tolist() * 3
        assert thrice.score.tolist() == once.score.tolist() * 3
