"""The hash of a data set tells what is in it, and nothing about how it is kept."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from recsys.datasets.content import content_hash, counts
from recsys.datasets.dataset import Dataset, Events
from recsys.datasets.impressions import Impressions
from recsys.datasets.leave_out import without_users
from tests import worlds

TASTES = worlds.two_tastes()
SHOWN = Impressions(
    np.array([0, 1], np.int32), np.array([2, 3], np.int32), np.array([10, 20], np.int64), np.array([1, 2], np.int32)
)


def with_event(name: str, value: float) -> Dataset:
    """With another value in a column of the fifth event."""
    column = getattr(TASTES.events, name).copy()
    column[4] = value
    return replace(TASTES, events=replace(TASTES.events, **{name: column}))


OTHERS: dict[str, Callable[[], Dataset]] = {
    "user": lambda: with_event("user", (TASTES.events.user[4] + 1) % 60),
    "item": lambda: with_event("item", (TASTES.events.item[4] + 1) % 40),
    "time": lambda: with_event("ts_ms", TASTES.events.ts_ms[4] + 1),
    "verb": lambda: with_event("verb", 1),
    "value": lambda: with_event("value", 1.0),
    "position": lambda: with_event("position", 3),
    "title": lambda: replace(TASTES, item_title=["another", *TASTES.item_title[1:]]),
    "item id": lambda: replace(TASTES, item_id=["another", *TASTES.item_id[1:]]),
    "user id": lambda: replace(TASTES, user_id=["another", *TASTES.user_id[1:]]),
    "category": lambda: replace(TASTES, item_category=1 - TASTES.item_category),
    "timing": lambda: replace(TASTES, timing="order"),
    "impressions": lambda: replace(TASTES, impressions=SHOWN),
    "a user less": lambda: without_users(TASTES, {"user-00"}),
}


@pytest.mark.parametrize("what", OTHERS)
def test_every_part_of_a_data_set_is_in_its_hash(what: str) -> None:
    assert content_hash(OTHERS[what]()) != content_hash(TASTES)


def test_positions_of_impressions_are_in_the_hash() -> None:
    shown = replace(SHOWN, position=SHOWN.position + 1)
    assert content_hash(replace(TASTES, impressions=shown)) != content_hash(replace(TASTES, impressions=SHOWN))


def test_numbers_of_users_and_the_order_among_them_make_no_difference() -> None:
    rng = np.random.default_rng(1)
    number = rng.permutation(60)
    order = np.argsort(rng.permutation(60)[TASTES.events.user], kind="stable")  # whole users, each in order
    columns = {name: getattr(TASTES.events, name)[order] for name in Events.__annotations__}
    columns["user"] = number.astype(np.int32)[columns["user"]]
    users = [""] * 60
    for old, new in enumerate(number.tolist()):
        users[new] = TASTES.user_id[old]
    assert content_hash(replace(TASTES, user_id=users, events=Events(**columns))) == content_hash(TASTES)


def test_order_of_what_one_user_did_in_the_same_moment_is_in_the_hash() -> None:
    def done(items: list[int]) -> Dataset:
        events = TASTES.events
        two = Events(
            user=np.zeros(2, np.int32),
            item=np.array(items, np.int32),
            ts_ms=np.array([5, 5], np.int64),
            verb=events.verb[:2],
            value=events.value[:2],
            position=events.position[:2],
        )
        return replace(TASTES, events=two)

    assert content_hash(done([1, 2])) != content_hash(done([2, 1]))


def test_counts_are_those_of_the_data_set() -> None:
    shown = replace(TASTES, impressions=SHOWN)
    assert counts(shown) == {"users": 60, "items": 41, "events": 720, "impressions": 2}
    assert counts(TASTES)["impressions"] == 0
