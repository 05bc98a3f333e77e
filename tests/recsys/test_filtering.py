"""What may be shown to whom, one item at a time by the definition, and the counts of what is ruled out."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.features.user import RING, UserStates
from recsys.filtering import Reason, eligible
from recsys.types import QueryBatch, World
from recsys.users import Users
from recsys.verbs import Verb
from tests.worlds import Ask, batch_of, likes, with_unavailable


def rule_out(world: World, batch: QueryBatch, states: UserStates | None = None) -> tuple[list[list[int]], np.ndarray]:
    """Rows of the items that may be shown to each request, and the counts of those that may not."""
    users = Users.of(world, batch if states is None else replace(batch, states=states))
    bits, removed = eligible(world, batch, users)
    flags = np.unpackbits(bits, axis=1, bitorder="little")
    assert not flags[:, len(world.bundle.vocabulary) :].any(), "bits beyond the last item"
    return [np.flatnonzero(one).tolist() for one in flags], removed


def by_definition(world: World, batch: QueryBatch) -> tuple[list[list[int]], list[list[int]]]:
    """The same, item by item."""
    states = batch.states
    left: list[list[int]] = []
    removed = []
    for row in range(len(batch)):
        ring = states.item_key[row, : states.length[row]].tolist()
        older = states.seen[row, : states.seen_count[row]].tolist()
        excluded = batch.excluded[row].tolist()
        wanted = set(batch.categories[row].tolist())
        counts = [0] * len(Reason)
        left.append([])
        for item, key in enumerate(world.bundle.vocabulary.key.tolist()):
            if not world.item_stats.available[item]:
                counts[Reason.UNAVAILABLE] += 1
            elif wanted and not wanted & set(world.bundle.item_category[item].tolist()):
                counts[Reason.CATEGORY] += 1
            elif key in ring or key >> 32 in older:
                counts[Reason.SEEN] += 1
            elif key in excluded:
                counts[Reason.EXCLUDED] += 1
            else:
                left[-1].append(item)
        removed.append(counts)
    return left, removed


@settings(max_examples=60)
@given(data=st.data())
def test_filters_keep_exactly_what_the_definition_keeps(world: World, data: st.DataObject) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    row = st.integers(0, 59)  # few items, so that they meet
    some_ids = st.lists(row.map(lambda i: ids[i]), max_size=20)
    asks = data.draw(
        st.lists(
            st.builds(
                Ask,
                history=some_ids.map(lambda one: likes(*one)) | st.just(likes(*ids[:20] * 5)),
                excluded=some_ids.map(lambda one: [*one, "nothing the bundle knows"]),
                categories=st.lists(st.sampled_from(world.bundle.category_name), max_size=2, unique=True),
            ),
            max_size=5,
        )
    )
    gone = data.draw(st.lists(row, max_size=20))
    scarce = with_unavailable(world, np.array(gone, np.int64))
    batch = batch_of(scarce, asks)
    found, removed = rule_out(scarce, batch)
    left, counts = by_definition(scarce, batch)
    assert found == left
    assert removed.reshape(len(asks), len(Reason)).tolist() == counts


def states_with(key: int, *, older: bool) -> UserStates:
    """One user who met this key alone; long ago, where `older`."""
    states = UserStates.empty(1, seen=1)
    if older:
        states.seen[0, 0], states.seen_count[0] = key >> 32, 1
    else:
        states.item_key[0, 0], states.length[0] = key, 1
    return states


def test_newest_interactions_are_recognised_by_their_whole_key(world: World) -> None:
    key = int(world.bundle.vocabulary.key[5])
    for bit in (0, 20, 40, 63):
        found, removed = rule_out(world, batch_of(world, [Ask()]), states_with(key ^ 1 << bit, older=False))
        assert 5 in found[0], bit
        assert not removed.any()


def test_older_ones_are_recognised_by_the_high_32_bits_of_their_key(world: World) -> None:
    key = int(world.bundle.vocabulary.key[5])
    batch = batch_of(world, [Ask()])
    found, removed = rule_out(world, batch, states_with(key ^ 1 << 20, older=True))
    assert 5 not in found[0]
    assert removed[0, Reason.SEEN] == 1
    found, removed = rule_out(world, batch, states_with(key ^ 1 << 40, older=True))
    assert 5 in found[0]
    assert not removed.any()


def test_all_items_that_share_a_fingerprint_go(tiny: World) -> None:
    """The ends of the catalogue included, and the item that only comes close stays."""
    shared = np.array([7 << 32, (7 << 32) + 1, (8 << 32), (9 << 32), (9 << 32) + 5], np.uint64)
    world = replace(tiny, bundle=replace(tiny.bundle, vocabulary=replace(tiny.bundle.vocabulary, key=shared)))
    everything = replace(world, item_stats=replace(world.item_stats, available=np.ones(5, bool)))
    for mark, left in ((7, [2, 3, 4]), (9, [0, 1, 2]), (6, [0, 1, 2, 3, 4]), (10, [0, 1, 2, 3, 4])):
        states = states_with(mark << 32, older=True)
        assert rule_out(everything, batch_of(everything, [Ask()]), states)[0] == [left]


def test_hidden_and_low_rated_items_are_seen_too(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    found, removed = rule_out(world, batch_of(world, [Ask([(ids[0], Verb.HIDE, 1), (ids[1], Verb.RATING, 2)])]))
    assert found == [list(range(2, len(ids)))]
    assert removed[0].tolist() == [0, 0, 2, 0]


def test_item_met_twice_is_counted_once_in_the_ring_and_beyond_it(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    batch = batch_of(world, [Ask(likes(ids[0], ids[0], *[ids[1]] * RING, ids[0]))])
    assert batch.states.seen_count.tolist() == [3]
    assert rule_out(world, batch)[1][0].tolist() == [0, 0, 2, 0]


def test_seen_items_of_one_user_stay_for_another(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    (first, second), _ = rule_out(world, batch_of(world, [Ask(likes(ids[3])), Ask(excluded=[ids[4]])]))
    assert (3 in first, 4 in first) == (False, True)
    assert (3 in second, 4 in second) == (True, False)


def test_first_reason_that_applies_is_the_one_counted(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    gone = with_unavailable(world, np.array([0, 1]))
    batch = batch_of(gone, [Ask(likes(ids[0], ids[2]), excluded=[ids[0], ids[1], ids[2], ids[3], ids[3]])])
    assert rule_out(gone, batch)[1][0].tolist() == [2, 0, 1, 1]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), reasons=st.sets(st.sampled_from(Reason)), item=st.integers(0, 399))
def test_lifted_reasons_let_one_item_in_where_no_other_rules_it_out(
    world: World, seed: int, reasons: set[Reason], item: int
) -> None:
    rng = np.random.default_rng(seed)
    ids, names = world.bundle.vocabulary.item_id.tolist(), world.bundle.category_name
    met = [ids[item], *(ids[one] for one in rng.integers(0, 400, 90))]
    own = {names[number] for number in world.bundle.item_category[item].tolist()}
    holds = {reason for reason in Reason if rng.random() < 0.5}
    ask = Ask(
        history=likes(*(met if Reason.SEEN in holds else [one for one in met if one != ids[item]])),
        excluded=[ids[item], ids[3]] if Reason.EXCLUDED in holds else [ids[3]] if item != 3 else [],
        categories=[name for name in names if name not in own][:2] if Reason.CATEGORY in holds else [],
    )
    gone = [item, 7] if Reason.UNAVAILABLE in holds else [7] if item != 7 else []
    some = with_unavailable(world, np.array(gone, np.int64))
    if Reason.CATEGORY in holds and not ask.categories:
        return
    batch = batch_of(some, [ask, Ask()])
    (before, beside), _ = rule_out(some, batch)
    (after, beside_after), _ = rule_out(some.lifting(item, sum(1 << one for one in reasons)), batch)
    assert (item in before) == (not holds)
    assert set(after) == set(before) | ({item} if holds <= reasons else set())
    lifted = {item} if Reason.UNAVAILABLE in reasons else set()
    assert set(beside_after) == set(beside) | lifted


def test_world_without_lifted_reasons_is_left_as_it_was(tiny: World) -> None:
    everything = tiny.available_count, tiny.popular.tolist(), tiny.available_bits.tolist()
    lifted = tiny.lifting(3, 1 << Reason.UNAVAILABLE)
    assert (lifted.available_count, sorted(lifted.popular.tolist())) == (5, [0, 1, 2, 3, 4])
    assert lifted.popular.tolist()[:3] == tiny.popular.tolist()[:3]
    assert (tiny.available_count, tiny.popular.tolist(), tiny.available_bits.tolist()) == everything
