"""What was left out stays out: of these users, in this time, and of nobody else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.datasets.dataset import Dataset
from recsys.datasets.junk import Junk, junk_rows, without_junk, without_users
from recsys.datasets.synthetic import synthetic
from recsys.erased_users import user_digest


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return synthetic(7)


def test_only_what_these_users_did_in_that_time_is_left_out(shop: Dataset) -> None:
    events = shop.events
    since_ms, until_ms = (int(np.quantile(events.ts_ms, share)) for share in (0.5, 0.8))
    within = (events.ts_ms >= since_ms) & (events.ts_ms <= until_ms)
    user = int(events.user[within][0])
    left = without_junk(shop, [Junk(since_ms, until_ms, blind=(user_digest(shop.user_id[user]),))])
    theirs = events.user == user
    assert (left.events.user == user).sum() == (theirs & ~within).sum() > 0
    assert len(left.events) == (~(theirs & within)).sum()
    assert left.place is not None
    assert left.place.tolist() == (1 + np.flatnonzero(~(theirs & within))).tolist()
    assert left.screened_since_ms == since_ms


def test_the_ends_of_the_time_are_in_it(shop: Dataset) -> None:
    at_ms = int(shop.events.ts_ms[1_000])
    everybody = tuple(map(user_digest, shop.user_id))
    rows = junk_rows(shop, [Junk(at_ms, at_ms, flooding=everybody)])
    assert rows.tolist() == (shop.events.ts_ms == at_ms).tolist()


def test_who_was_never_left_out_is_as_before(shop: Dataset) -> None:
    assert without_junk(shop, []) is shop
    assert without_junk(shop, [Junk(0, 2**50, flooding=(user_digest("nobody"),))]) is shop


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.sets(st.integers(0, 30), max_size=5)), max_size=4))
def test_two_looks_leave_out_what_each_does(shop: Dataset, looks: list[tuple[float, float, set[int]]]) -> None:
    junk = []
    for one, other, users in looks:
        since_ms, until_ms = (int(np.quantile(shop.events.ts_ms, share)) for share in sorted((one, other)))
        junk.append(Junk(since_ms, until_ms, blind=tuple(user_digest(shop.user_id[user]) for user in users)))
    step = shop
    for look in junk:
        step = without_junk(step, [look])
    whole = without_junk(shop, junk)
    assert step.events.ts_ms.tolist() == whole.events.ts_ms.tolist()
    assert step.events.user.tolist() == whole.events.user.tolist()


def test_who_is_forgotten_is_in_no_look_and_empty_looks_go() -> None:
    looks = (Junk(0, 1, flooding=("a",), blind=("b",)), Junk(2, 3, blind=("a",)))
    assert without_users(looks, frozenset("a")) == (Junk(0, 1, blind=("b",)),)
    assert without_users(looks, frozenset("c")) == looks


def test_ids_that_changed_their_number_are_found(shop: Dataset) -> None:
    """A look knows ids, not numbers: another import counts its users anew."""
    order = np.arange(len(shop.user_id))[::-1]
    turned = replace(
        shop,
        user_id=[shop.user_id[one] for one in order],
        events=replace(shop.events, user=np.argsort(order)[shop.events.user].astype(np.int32)),
    )
    look = Junk(0, 2**50, flooding=(user_digest(shop.user_id[3]),))
    assert junk_rows(turned, [look]).tolist() == junk_rows(shop, [look]).tolist()
