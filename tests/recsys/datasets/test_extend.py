"""What happened since the import takes its place among the imported events."""

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from recsys.datasets.dataset import Dataset
from recsys.datasets.extend import COLUMNS, extended
from recsys.erased_users import user_digest
from recsys.training.log import Log
from recsys.verbs import MERGED, Verb
from tests import worlds
from tests.worlds import START_S


def rows(
    *events: tuple[str, str, int, int],
    given_by: Mapping[int, str] | None = None,
    position: Mapping[int, int] | None = None,
) -> pa.Table:
    """Of (user, item, ts_s, verb), in the order of arrival; those of verb 0 are impressions.

    Args:
        given_by: Who gave those that were merged, by their place. position: Of those that have one, by their place.
    """
    user, item, ts_s, verb = zip(*events, strict=True) if events else ((), (), (), ())
    givers = {} if given_by is None else {place: user_digest(one) for place, one in given_by.items()}
    return pa.table(
        {
            "ms": pa.array(range(1, len(user) + 1), pa.uint64()),
            "sequence": pa.array([0] * len(user), pa.uint64()),
            "type": pa.array(
                [MERGED if place in givers else "click" if one else "impression" for place, one in enumerate(verb)],
                pa.string(),
            ),
            "properties": pa.array(
                [json.dumps({"from": givers[place]} if place in givers else {}) for place in range(len(user))],
                pa.string(),
            ),
            "user_id": pa.array(user, pa.string()),
            "item_id": pa.array(item, pa.string()),
            "ts_ms": pa.array([1000 * one for one in ts_s], pa.int64()),
            "verb": pa.array(verb, pa.uint8()),
            "value": pa.array([None] * len(user), pa.float64()),
            "position": pa.array([(position or {}).get(place) for place in range(len(user))], pa.int32()),
        }
    ).select(COLUMNS)


def told(dataset: Dataset) -> list[tuple[str, str, int]]:
    events = dataset.events
    return [
        (dataset.user_id[user], dataset.item_id[item], int(ts_ms))
        for user, item, ts_ms in zip(events.user, events.item, events.ts_ms, strict=True)
    ]


def test_archived_events_stand_among_the_imported_ones_by_time() -> None:
    dataset = worlds.two_tastes()
    end_s, first = int(dataset.events.ts_ms[-1]) // 1000, dataset.user_id[0]
    added = extended(
        dataset,
        rows(
            ("somebody new", "left-03", end_s + 60, Verb.CLICK),
            (first, "right-01", end_s - 3600, Verb.LIKE),
        ),
    )
    assert np.all(np.diff(added.events.ts_ms) >= 0)
    expected = [
        *told(dataset),
        ("somebody new", "left-03", 1000 * (end_s + 60)),
        (first, "right-01", 1000 * (end_s - 3600)),
    ]
    assert sorted(told(added)) == sorted(expected)
    assert added.user_id == [*dataset.user_id, "somebody new"]
    assert added.fingerprint == dataset.fingerprint
    assert len(Log.of(added)) == len(Log.of(dataset)) + 2


def test_impressions_and_unknown_items_are_left_out() -> None:
    dataset = worlds.two_tastes()
    for one in (rows(), rows(("ann", "left-03", 1, 0)), rows(("ann", "no such item", 1, Verb.LIKE))):
        assert extended(dataset, one) is dataset


def test_impressions_with_a_position_stand_beside_the_events_by_time() -> None:
    dataset = worlds.two_tastes()
    first, last_s = dataset.user_id[0], int(dataset.events.ts_ms[-1]) // 1000
    events = [
        (first, "left-05", last_s + 30, 0),
        ("only looked", "left-03", last_s + 10, 0),
        (first, "left-05", last_s + 40, Verb.CLICK),
        (first, "no such item", last_s + 20, 0),
        (first, "left-06", last_s + 20, 0),
    ]
    added = extended(dataset, rows(*events, position={0: 2, 1: 9, 2: 2, 3: 1}))
    shown = added.impressions
    assert shown is not None
    assert [added.user_id[user] for user in shown.user] == ["only looked", first]
    assert [added.item_id[item] for item in shown.item] == ["left-03", "left-05"]
    assert shown.position.tolist() == [9, 2]
    assert shown.ts_ms.tolist() == [1000 * (last_s + 10), 1000 * (last_s + 30)]
    assert {column.dtype.name for column in (shown.user, shown.item, shown.position)} == {"int32"}
    assert sorted(told(added)) == sorted([*told(dataset), (first, "left-05", 1000 * (last_s + 40))])
    assert added.events.position[-1] == 2
    assert added.events.position[:-1].sum() == 0
    again = extended(added, rows(("only looked", "left-04", last_s + 20, 0), position={0: 4}))
    assert again.impressions is not None
    assert again.impressions.position.tolist() == [9, 4, 2]


def test_impressions_change_no_state_no_item_stats_and_no_model() -> None:
    dataset = worlds.two_tastes()
    end_s = int(dataset.events.ts_ms[-1]) // 1000
    seen = [(user, item, end_s - 60 * n, 0) for n, user in enumerate(dataset.user_id) for item in dataset.item_id[:9]]
    added = extended(dataset, rows(*seen, position=dict.fromkeys(range(len(seen)), 1)))
    assert added.impressions is not None
    assert len(added.impressions) == len(seen)
    for name in ("user", "item", "ts_ms", "verb", "value", "position"):
        np.testing.assert_array_equal(getattr(added.events, name), getattr(dataset.events, name))
    assert added.user_id == dataset.user_id


def since_import(*events: tuple[str, str, int, int], given_by: Mapping[int, str]) -> list[str]:
    """`user item` of what was added, in the order of time."""
    found = told(extended(worlds.two_tastes(), rows(*events, given_by=given_by)))
    return [f"{user} {item}" for user, item, ts_ms in found if ts_ms < 1000 * START_S]


def test_what_was_given_to_another_user_is_that_users_alone() -> None:
    events = [
        ("visitor", "left-01", 100, Verb.CLICK),
        ("visitor", "left-02", 200, Verb.CLICK),
        ("ann", "left-01", 100, Verb.CLICK),
        ("bob", "left-01", 100, Verb.CLICK),
        ("visitor", "left-03", 300, Verb.CLICK),
    ]
    assert since_import(*events, given_by={2: "visitor"}) == [
        "ann left-01",
        "bob left-01",
        "visitor left-02",
        "visitor left-03",
    ]


def test_what_was_given_on_or_back_is_the_last_ones() -> None:
    click = Verb.CLICK
    on = [(user, "left-01", 100, click) for user in ("visitor", "ann", "bob")]
    assert since_import(*on, given_by={1: "visitor", 2: "ann"}) == ["bob left-01"]
    back = [(user, "left-01", 100, click) for user in ("visitor", "ann", "visitor")]
    assert since_import(*back, given_by={1: "visitor", 2: "ann"}) == ["visitor left-01"]


def test_what_an_import_has_can_be_given_away_and_an_unknown_giver_changes_nothing() -> None:
    dataset = worlds.two_tastes()
    user, item, ts_ms = told(dataset)[0]
    given = [("ann", item, ts_ms // 1000, Verb.LIKE)]
    added = told(extended(dataset, rows(*given, given_by={0: user})))
    assert sorted(added) == sorted([*told(dataset)[1:], ("ann", item, ts_ms)])
    assert len(told(extended(dataset, rows(*given, given_by={0: "nobody"})))) == len(dataset.events) + 1
