"""Lists under diversity, popularity damping and quotas: against a plain reference, and what holds of every list."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.recommend import rank, recommend, retrieve
from recsys.selection import controlled, select
from recsys.types import CandidateSet, Controls, QueryBatch, Ragged, Slates, World
from tests.worlds import Ask, batch_of, controlled_asks, likes, names, random_asks

N, CATEGORIES = 24, 4
# Cosines of these are 0, 1/2 or 1 without rounding, so that ties are ties here as there.
SHAPES = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 2, 0, 0], [1, 1, 1, 1], [-1, 1, -1, 1], [0, 0, 0, 4]], np.float32)


@dataclass(frozen=True)
class Request:
    """One request on its own: its candidates' items with their scores, and what is asked of the list."""

    items: Sequence[int]
    scores: Sequence[float]
    count: int
    diversity: float
    damping: float
    quotas: dict[int, int]
    explored: int = -1


@dataclass(frozen=True, eq=False)
class Shop:
    """What selection reads of a world."""

    vector: np.ndarray
    popularity: np.ndarray
    categories: list[list[int]]

    def world(self) -> Any:
        bundle = SimpleNamespace(
            spectral=SimpleNamespace(vector=self.vector),
            item_category=Ragged.of([np.array(one, np.int32) for one in self.categories], np.int32),
            category_name=tuple("abcdefgh"[:CATEGORIES]),
        )
        return SimpleNamespace(bundle=bundle, item_stats=SimpleNamespace(popularity=self.popularity))


def lists_of(shop: Shop, requests: Sequence[Request]) -> tuple[list[list[int]], list[int]]:
    """The items of each list, and which explored items have room."""
    indptr = np.cumsum([0, *(len(one.items) for one in requests)]).astype(np.int64)
    item = np.array([i for one in requests for i in one.items], np.int32)
    score = np.array([s for one in requests for s in one.scores], np.float64)
    none = np.zeros(len(item), np.float32)
    candidates = CandidateSet(indptr, item, none.astype(np.uint16), none, none[None])
    controls = Controls(
        np.array([one.diversity for one in requests], np.float32),
        np.array([one.damping for one in requests], np.float32),
        Ragged.of([np.array(list(one.quotas)) for one in requests], np.int32),
        Ragged.of([np.array(list(one.quotas.values())) for one in requests], np.int32),
    )
    cells, bounds = select(indptr, score, np.array([one.count for one in requests], np.int32))
    explored = np.array([one.explored for one in requests], np.int32)
    cells, bounds, explored = controlled(shop.world(), controls, candidates, score, cells, bounds, explored)
    return [item[cells[a:b]].tolist() for a, b in pairwise(bounds)], explored.tolist()


def reference(shop: Shop, asked: Request) -> list[int]:
    """The definition, word by word: every candidate is looked at for every place."""
    items, scores = list(asked.items), np.array(asked.scores, np.float64)
    finite = np.isfinite(scores)
    relevance = np.zeros(len(items))
    if finite.any():
        low, high = scores[finite].min(), scores[finite].max()
        relevance[finite] = (scores[finite] - low) / (high - low if high > low else 1)
    popularity = shop.popularity[items]
    less = np.array([(popularity < one).sum() / max(len(items) - 1, 1) for one in popularity])
    if asked.damping > 0:
        relevance *= 1 - np.float32(asked.damping) * less
    key = [(not finite[i], -relevance[i], -scores[i] if finite[i] else 0, i) for i in range(len(items))]
    left, room = sorted(range(len(items)), key=lambda i: key[i]), dict(asked.quotas)
    diversity, shown = np.float32(asked.diversity), []

    def worth(i: int) -> float:
        like = max([0.0, *(likeness(shop, items[i], items[j]) for j in shown)])
        return float((1 - diversity) * relevance[i] - diversity * like)

    while len(shown) < asked.count:
        fitting = [i for i in left if all(room.get(c, 1) > 0 for c in shop.categories[items[i]])]
        sound = [i for i in fitting if finite[i]] or fitting
        if not sound:
            break
        best = max(sound, key=worth)  # the first of equal ones
        left.remove(best)
        shown.append(best)
        for c in shop.categories[items[best]]:
            if c in room:
                room[c] -= 1
    return [items[i] for i in shown]


def likeness(shop: Shop, one: int, other: int) -> float:
    a, b = shop.vector[one], shop.vector[other]
    if not a.any():
        return 1.0
    return float(a @ b / np.linalg.norm(a) / (np.linalg.norm(b) or 1))


STRENGTHS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
SCORES = st.one_of(st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf]), st.integers(-8, 8).map(float))
shops = st.builds(
    lambda shapes, popularity, categories: Shop(SHAPES[shapes], np.array(popularity, np.float32), categories),
    st.lists(st.integers(0, len(SHAPES) - 1), min_size=N, max_size=N),
    st.lists(st.integers(0, 5), min_size=N, max_size=N),
    st.lists(st.lists(st.integers(0, CATEGORIES - 1), max_size=3, unique=True), min_size=N, max_size=N),
)
requests = st.lists(st.tuples(st.integers(0, N - 1), SCORES), max_size=N, unique_by=lambda one: one[0]).flatmap(
    lambda cells: st.builds(
        Request,
        st.just([item for item, _ in cells]),
        st.just([score for _, score in cells]),
        count=st.integers(0, N + 2),
        diversity=STRENGTHS,
        damping=STRENGTHS,
        quotas=st.dictionaries(st.integers(0, CATEGORIES - 1), st.integers(1, 4)),
    )
)


@settings(max_examples=200)
@given(shop=shops, asked=st.lists(requests, max_size=4))
def test_lists_are_those_of_the_definition_whoever_else_is_in_the_batch(shop: Shop, asked: list[Request]) -> None:
    lists, _ = lists_of(shop, asked)
    assert lists == [reference(shop, one) for one in asked]


@pytest.mark.parametrize("diversity", [0.1, 0.3, 0.7, 1.0])
def test_long_lists_over_vectors_of_every_kind_are_those_of_the_definition(diversity: float) -> None:
    rng = np.random.default_rng(round(diversity * 10))
    shop = Shop(
        rng.normal(0.3, 1, (300, 64)).astype(np.float32),
        rng.integers(0, 1000, 300).astype(np.float32),
        [rng.choice(CATEGORIES, rng.integers(0, 3), replace=False).tolist() for _ in range(300)],
    )
    asked = Request(rng.permutation(300)[:200].tolist(), rng.normal(size=200).tolist(), 120, diversity, 0.3, {0: 9})
    assert lists_of(shop, [asked])[0] == [reference(shop, asked)]


# --- small known answers ---

ALIKE = Shop(
    np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.float32),
    np.array([9, 5, 1, 0], np.float32),
    [[0], [0], [1], [0, 1]],
)


def shown(**asked: Any) -> list[int]:
    given = {"items": [0, 1, 2, 3], "scores": [1.0, 0.9, 0.5, 0.0], "count": 4, "diversity": 0, "damping": 0}
    return lists_of(ALIKE, [Request(**({**given, "quotas": {}} | asked))])[0][0]


def test_item_unlike_the_first_passes_the_one_that_is_like_it_as_diversity_grows() -> None:
    assert shown() == [0, 1, 2, 3]
    assert shown(diversity=0.2) == [0, 1, 2, 3]
    assert shown(diversity=0.5) == [0, 2, 1, 3]


def test_item_without_a_vector_is_never_shown_for_being_different() -> None:
    assert shown(diversity=1, scores=[1.0, 0.9, 0.5, 0.4])[:2] == [0, 2]
    assert shown(diversity=1, items=[0, 3], scores=[1.0, 0.9]) == [0, 3]


def test_vectors_too_short_for_their_product_are_unlike_each_other() -> None:
    """Their lengths are above 0 and the product of these is 0 as float32: once a division by zero."""
    tiny = replace(ALIKE, vector=ALIKE.vector * np.float32(1e-13))
    assert lists_of(tiny, [Request([0, 1, 2], [3.0, 2.0, 1.0], 3, 0.5, 0, {})])[0] == [[0, 1, 2]]


def test_damping_lowers_the_popular_first() -> None:
    assert shown(damping=0.25, count=2) == [0, 1]
    assert shown(damping=1, count=2) == [2, 1]


def test_quota_is_a_maximum_that_ends_the_list() -> None:
    assert shown(quotas={0: 1}) == [0, 2]
    assert shown(quotas={0: 2}) == [0, 1, 2]
    assert shown(quotas={1: 1}) == [0, 1, 2]
    assert shown(quotas={0: 1}, count=1) == [0]


def test_quotas_alone_leave_the_order_of_the_scores() -> None:
    assert shown(quotas={0: 4, 1: 4}) == shown()


def test_broken_scores_come_last_under_every_control() -> None:
    assert shown(scores=[np.nan, 0.1, np.inf, 0.2], diversity=0.5, damping=0.5) == [3, 1, 2, 0]
    assert shown(scores=[np.nan] * 4, diversity=0.5)[0] == 0


def test_explored_item_has_room_where_the_last_one_gives_it_way() -> None:
    def room(quotas: dict[int, int], count: int) -> int:
        return lists_of(ALIKE, [Request([0, 1, 2, 3], [1.0, 0.9, 0.5, 0.0], count, 0, 0, quotas, explored=3)])[1][0]

    assert room({0: 2}, 2) == 3
    assert room({0: 1}, 2) == -1
    assert room({0: 2}, 3) == -1
    assert room({0: 9, 1: 9}, 3) == 3


# --- through `recommend` ---


def test_no_list_holds_more_of_a_category_than_its_quota_and_it_ends_only_where_nothing_fits(world: World) -> None:
    asks = controlled_asks(world, np.random.default_rng(3), 80)
    batch = batch_of(world, asks)
    slates, found = recommend(world, batch), retrieve(world, batch).candidates
    fewer = 0
    for row, ask in enumerate(asks):
        items = slates.item[slates.indptr[row] : slates.indptr[row + 1]].tolist()
        held = [c for item in items for c in world.bundle.categories_of(item)]
        room = {name: most - held.count(name) for name, most in ask.quotas}
        assert min(room.values(), default=0) >= 0
        assert len(set(items)) == len(items) <= ask.count
        if len(items) < ask.count:
            others = set(found.item[found.indptr[row] : found.indptr[row + 1]].tolist()) - set(items)
            full = {name for name, left in room.items() if left == 0}
            assert all(full & set(world.bundle.categories_of(item)) for item in others)
            fewer += bool(others)
    assert fewer > 3


def bits(slates: Slates, row: int) -> tuple[bytes, bytes]:
    own = slice(slates.indptr[row], slates.indptr[row + 1])
    return slates.item[own].tobytes(), slates.score[own].tobytes()


def test_request_without_controls_gets_the_same_bits_beside_one_with_them(world: World) -> None:
    rng = np.random.default_rng(4)
    plain, others = random_asks(world, rng, 30), controlled_asks(world, rng, 30)
    assert batch_of(world, plain).controls is None
    alone, beside = (recommend(world, batch_of(world, asks)) for asks in (plain, [*plain, *others]))
    for row in range(len(plain)):
        assert bits(beside, row) == bits(alone, row)


def test_scores_stay_those_of_the_ranker(world: World) -> None:
    batch = batch_of(world, [Ask(count=50, diversity=0.7)])
    slates, retrieved = recommend(world, batch), retrieve(world, batch)
    of = dict(zip(retrieved.candidates.item.tolist(), rank(world, batch, retrieved).score.tolist(), strict=True))
    assert slates.score.tolist() == [of[item] for item in slates.item.tolist()]
    assert slates.score.tolist() != sorted(slates.score.tolist(), reverse=True)


def test_longer_list_begins_with_the_shorter_one(world: World) -> None:
    ids = world.bundle.vocabulary.item_id.tolist()
    short, long = Ask(likes(*ids[:5]), count=10, diversity=0.4), Ask(likes(*ids[:5]), count=40, diversity=0.4)
    slates = recommend(world, batch_of(world, [short, long]))
    assert names(world, slates, 1)[:10] == names(world, slates, 0)


def test_catalogue_without_categories_has_diverse_lists_too(chain: World) -> None:
    asks = [Ask(session=["step-03"], diversity=0.5), Ask(session=["step-03"])]
    slates = recommend(chain, batch_of(chain, asks))
    assert names(chain, slates, 0)[0] == names(chain, slates, 1)[0] == "step-04"


def test_requests_without_controls_are_sent_to_ranking_without_any(world: World) -> None:
    batch = batch_of(world, controlled_asks(world, np.random.default_rng(5), 6))
    assert batch.without_filters().controls is None


def test_quotas_alone_leave_out_diversity_and_damping(world: World) -> None:
    ask = Ask(diversity=0.5, popularity_damping=0.5, quotas=[(world.bundle.category_name[0], 2)])
    batch: QueryBatch = batch_of(world, [ask]).with_quotas_alone()
    slates = recommend(world, batch)
    plain = batch_of(world, [replace(ask, diversity=0.0, popularity_damping=0.0)])
    assert bits(slates, 0) == bits(recommend(world, plain), 0)
    assert batch_of(world, [Ask()]).with_quotas_alone().controls is None
