"""What happened since the import takes its place among the imported events."""

import numpy as np
import pyarrow as pa

from recsys.datasets.dataset import Dataset
from recsys.datasets.extend import COLUMNS, extended
from recsys.training.log import Log
from recsys.verbs import Verb
from tests import worlds


def rows(*events: tuple[str, str, int, int]) -> pa.Table:
    """Of (user, item, ts_s, verb)."""
    user, item, ts_s, verb = zip(*events, strict=True) if events else ((), (), (), ())
    return pa.table(
        {
            "user_id": pa.array(user, pa.string()),
            "item_id": pa.array(item, pa.string()),
            "ts_ms": pa.array([1000 * one for one in ts_s], pa.int64()),
            "verb": pa.array(verb, pa.uint8()),
            "value": pa.array([None] * len(user), pa.float64()),
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
