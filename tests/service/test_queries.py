"""Requests resolved against a bundle, and the columns made of them."""

import numpy as np
import pytest

from recsys.features.user import UserStates
from recsys.types import World
from recsys.vocabulary import item_key
from service.errors import FieldError, Unprocessable
from service.queries import Query, batch_of, resolve
from service.schemas import CategoryFilter, Filter, Quota


def resolved(world: World, **given: object) -> Query:
    asked = {"count": 5, "session_ids": [], "excluded_ids": [], "filter_": None, "seed": 1, "now_s": 2}
    return resolve(world.bundle, **(asked | given))


def any_of(*names: str) -> Filter:
    return Filter(categories=CategoryFilter(any_of=list(names)))


def some_ids(world: World, *rows: int) -> list[str]:
    return [world.bundle.vocabulary.item_id[row] for row in rows]


def test_request_without_ids_resolves_to_empty_columns(world: World) -> None:
    query = resolved(world)
    assert (query.count, query.seed, query.now_s, query.unknown_ids) == (5, 1, 2, [])
    assert [column.dtype for column in (query.session, query.excluded, query.categories)] == [
        np.uint64,
        np.uint64,
        np.int32,
    ]
    assert not any(len(column) for column in (query.session, query.excluded, query.categories))


def test_known_ids_become_keys_in_their_order_and_unknown_ones_are_reported(world: World) -> None:
    first, second, third = some_ids(world, 9, 3, 7)
    query = resolved(world, session_ids=[first, "no-such", second, first], excluded_ids=["nor this", third])
    assert query.session.tolist() == [item_key(one) for one in (first, second, first)]
    assert query.excluded.tolist() == [item_key(third)]
    assert query.unknown_ids == ["no-such", "nor this"]


def test_categories_become_distinct_ascending_numbers(world: World) -> None:
    names = world.bundle.category_name
    query = resolved(world, filter_=any_of(names[3], names[0], names[3]))
    assert query.categories.tolist() == [0, 3]
    assert query.categories.dtype == np.int32


def test_each_unknown_category_is_an_error_that_points_at_it_and_names_those_there_are(world: World) -> None:
    names = world.bundle.category_name
    with pytest.raises(Unprocessable, match=names[0]) as refused:
        resolved(world, filter_=any_of("Drama?", names[0], "a/b~c"))
    assert refused.value.errors == (
        FieldError("/filter/categories/any/0", "unknown_category", "no item has category 'Drama?'"),
        FieldError("/filter/categories/any/2", "unknown_category", "no item has category 'a/b~c'"),
    )


def test_each_unknown_category_of_filter_and_quotas_is_pointed_at(world: World) -> None:
    first = world.bundle.category_name[0]
    quotas = [Quota(category=first, max=1), Quota(category="Drama?", max=2)]
    with pytest.raises(Unprocessable) as refused:
        resolved(world, filter_=any_of("Nonsense", first), quotas=quotas)
    assert [one.pointer for one in refused.value.errors] == ["/filter/categories/any/0", "/quotas/1/category"]


def test_controls_become_columns_and_none_where_no_request_has_any(world: World) -> None:
    names = world.bundle.category_name
    quotas = [Quota(category=names[3], max=7), Quota(category=names[1], max=2)]
    plain, diverse = resolved(world), resolved(world, diversity=0.5, popularity_damping=0.25)
    limited = resolved(world, quotas=quotas, filter_=any_of(names[2]))
    assert limited.categories.tolist() == [2]
    assert batch_of([plain, plain], UserStates.empty(2)).controls is None
    for one, other in ((plain, diverse), (diverse, limited), (limited, plain)):
        assert batch_of([one, other], UserStates.empty(2)).controls is not None
    controls = batch_of([plain, diverse, limited], UserStates.empty(3)).controls
    assert controls is not None
    assert controls.diversity.tolist() == [0, 0.5, 0]
    assert controls.popularity_damping.tolist() == [0, 0.25, 0]
    assert [controls.quota_category[row].tolist() for row in range(3)] == [[], [], [3, 1]]
    assert [controls.quota_most[row].tolist() for row in range(3)] == [[], [], [7, 2]]
    assert controls.quota_category.values.dtype == controls.quota_most.values.dtype == np.int32


def test_catalogue_without_categories_says_so(chain: World) -> None:
    with pytest.raises(Unprocessable, match="this catalogue has: none"):
        resolved(chain, filter_=any_of("Drama"))


def test_rows_of_a_batch_are_the_queries_in_their_order(world: World) -> None:
    first, second = some_ids(world, 0, 1)
    queries = [
        resolved(world, count=3, session_ids=[first, second], seed=(1 << 62) - 1, now_s=10),
        resolved(world, count=500, excluded_ids=[second], filter_=any_of(world.bundle.category_name[2]), now_s=11),
    ]
    batch = batch_of(queries, UserStates.empty(2))
    assert len(batch) == len(batch.states) == 2
    assert batch.count.tolist() == [3, 500]
    assert batch.seed.tolist() == [(1 << 62) - 1, 1]
    assert batch.now_s.tolist() == [10, 11]
    assert [batch.session[row].tolist() for row in (0, 1)] == [[item_key(first), item_key(second)], []]
    assert [batch.excluded[row].tolist() for row in (0, 1)] == [[], [item_key(second)]]
    assert [batch.categories[row].tolist() for row in (0, 1)] == [[], [2]]
