"""Filters against one item at a time, by the definition, and the counts of what they remove."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.features.user import UserStates
from recsys.filtering import Reason, keep
from recsys.types import CandidateSet, QueryBatch, Ragged, Source, World
from recsys.verbs import Verb
from tests.worlds import Ask, batch_of, likes, with_unavailable

LOW_32 = 0xFFFF_FFFF


def cells_of(lists: list[list[int]]) -> CandidateSet:
    """Candidates in this order, each with a source and scores of its own."""
    items = Ragged.of([np.array(one) for one in lists], np.int32)
    m = len(items.values)
    return CandidateSet(
        indptr=items.indptr,
        item=items.values,
        sources=(np.arange(m) % 15 + 1).astype(np.uint8),
        retrieval_score=np.linspace(1, 0, m, dtype=np.float32),
        source_score=np.arange(len(Source) * m, dtype=np.float32).reshape(len(Source), m),
    )


def by_definition(
    world: World, batch: QueryBatch, states: UserStates, found: CandidateSet
) -> tuple[list[int], list[list[int]]]:
    """Cells that are left and what was removed of each request, by reason."""
    left: list[int] = []
    removed = []
    for row in range(len(batch)):
        ring = states.item_key[row, : states.length[row]].tolist()
        seen = {key & LOW_32 for key in ring} | set(states.seen[row, : states.seen_count[row]].tolist())
        excluded = {key & LOW_32 for key in batch.excluded[row].tolist()}
        wanted = set(batch.categories[row].tolist())
        room = max(world.candidates, int(batch.count[row]) * 3 // 2)
        counts = [0] * len(Reason)
        for cell in range(found.indptr[row], found.indptr[row + 1]):
            item = int(found.item[cell])
            mark = int(world.bundle.vocabulary.key[item]) & LOW_32
            if mark in seen:
                counts[Reason.SEEN] += 1
            elif mark in excluded:
                counts[Reason.EXCLUDED] += 1
            elif not world.item_stats.available[item]:
                counts[Reason.UNAVAILABLE] += 1
            elif wanted and not wanted & set(world.bundle.item_category[item].tolist()):
                counts[Reason.CATEGORY] += 1
            elif room == 0:
                counts[Reason.OVER_LIMIT] += 1
            else:
                room -= 1
                left.append(cell)
        removed.append(counts)
    return left, removed


@settings(max_examples=60, deadline=None)
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
                excluded=some_ids,
                categories=st.lists(st.sampled_from(world.bundle.category_name), max_size=2, unique=True),
                count=st.sampled_from([1, 4, 20]),
            ),
            max_size=5,
        )
    )
    gone = data.draw(st.lists(row, max_size=20))
    small = replace(with_unavailable(world, np.array(gone, np.int64)), candidates=data.draw(st.sampled_from([3, 200])))
    batch = batch_of(small, asks)
    found = cells_of([data.draw(st.lists(row, unique=True)) for _ in asks])
    kept, removed = keep(small, batch, batch.states, found)
    left, counts = by_definition(small, batch, batch.states, found)
    assert removed.reshape(len(asks), len(Reason)).tolist() == counts
    for name in ("item", "sources", "retrieval_score"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(found, name)[left], err_msg=name)
    np.testing.assert_array_equal(kept.source_score, found.source_score[:, left])
    assert len(kept.indptr) == len(asks) + 1
    sizes = np.diff(kept.indptr)
    assert (sizes + removed.sum(axis=1) == np.diff(found.indptr)).all()


def states_with(world: World, key: int) -> UserStates:
    states = batch_of(world, [Ask(likes("some-other-item"))]).states
    states.item_key[0, 0] = key
    return states


def test_item_whose_fingerprint_differs_only_above_the_low_14_bits_stays(world: World) -> None:
    key = int(world.bundle.vocabulary.key[5])
    batch = batch_of(world, [Ask()])
    _, removed = keep(world, batch, states_with(world, key ^ 1 << 20), cells_of([[5]]))
    assert not removed.any()


def test_item_that_shares_all_32_bits_with_a_seen_one_goes(world: World) -> None:
    key = int(world.bundle.vocabulary.key[5])
    batch = batch_of(world, [Ask()])
    _, removed = keep(world, batch, states_with(world, key ^ 1 << 40), cells_of([[5]]))
    assert removed[0, Reason.SEEN] == 1


def test_hidden_and_low_rated_items_are_seen_too(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    batch = batch_of(world, [Ask([(ids[0], Verb.HIDE, 1), (ids[1], Verb.RATING, 2)])])
    kept, removed = keep(world, batch, batch.states, cells_of([[0, 1, 2]]))
    assert kept.item.tolist() == [2]
    assert removed[0].tolist() == [2, 0, 0, 0, 0]


def test_seen_items_of_one_user_stay_for_another(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    batch = batch_of(world, [Ask(likes(ids[3])), Ask(excluded=[ids[4]])])
    kept, _ = keep(world, batch, batch.states, cells_of([[3, 4], [3, 4]]))
    assert kept.item.tolist() == [4, 3]


def test_first_reason_that_applies_is_the_one_counted(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    gone = with_unavailable(world, np.array([0, 1]))
    batch = batch_of(gone, [Ask(likes(ids[0]), excluded=[ids[0], ids[1]])])
    _, removed = keep(gone, batch, batch.states, cells_of([[0, 1]]))
    assert removed[0].tolist() == [1, 1, 0, 0, 0]
