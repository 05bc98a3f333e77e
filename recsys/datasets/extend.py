"""A data set and what happened since it was imported."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.dataset import Dataset, Events
from recsys.datasets.impressions import Impressions
from recsys.datasets.merged import given_away, givers, merged_rows, numbers_of

COLUMNS = ("ms", "sequence", "type", "user_id", "item_id", "ts_ms", "verb", "value", "position", "properties")


def extended(dataset: Dataset, rows: pa.Table) -> Dataset:
    """The data set with archived events in it, all by time; its fingerprint stays that of the import.

    Args:
        rows: COLUMNS of an event archive. Left out are events that leave states as they are, those of items that the
            catalogue does not have, and those that were given to another user. Impressions with a position stand
            beside the events.
    """
    number_of_item = {item: number for number, item in enumerate(dataset.item_id)}
    item = _numbers(rows["item_id"], number_of_item)
    position = rows["position"].fill_null(0).to_numpy().astype(np.int32)
    shown = pc.fill_null(pc.equal(rows["type"], "impression"), False).to_numpy() & (position > 0) & (item >= 0)
    wanted = (rows["verb"].to_numpy() > 0) & (item >= 0)
    if not (wanted | shown).any():
        return dataset
    number_of_user = {user: number for number, user in enumerate(dataset.user_id)}
    for user in rows.filter(pa.array(wanted | shown))["user_id"].unique().to_pylist():
        number_of_user.setdefault(user, len(number_of_user))
    impressions = _with_shown(
        dataset.impressions, rows.filter(pa.array(shown)), item[shown], position[shown], number_of_user
    )
    rows, item, position = rows.filter(pa.array(wanted)), item[wanted], position[wanted]
    added = Events(
        user=_numbers(rows["user_id"], number_of_user),
        item=item,
        ts_ms=rows["ts_ms"].to_numpy(),
        verb=rows["verb"].to_numpy(),
        value=rows["value"].to_numpy().astype(np.float32),
        position=position,
    )
    columns = ((getattr(dataset.events, name), getattr(added, name)) for name in Events.__annotations__)
    events = Events(*(np.concatenate(c) for c in columns))
    kept = np.flatnonzero(~_given_away(events, rows, list(number_of_user)))
    by_time = kept[np.argsort(events.ts_ms[kept], kind="stable")]
    events = Events(*(getattr(events, name)[by_time] for name in Events.__annotations__))
    return replace(dataset, user_id=list(number_of_user), events=events, place=None, impressions=impressions)


def _with_shown(
    before: Impressions | None, rows: pa.Table, item: np.ndarray, position: np.ndarray, number_of_user: dict[str, int]
) -> Impressions | None:
    if not len(rows):
        return before
    ts_ms = rows["ts_ms"].to_numpy()
    by_time = np.argsort(ts_ms, kind="stable")
    added = Impressions(_numbers(rows["user_id"], number_of_user), item, ts_ms, position).take(by_time)
    return added if before is None else before.joined(added)


def _given_away(events: Events, rows: pa.Table, users: list[str]) -> np.ndarray:
    """bool [e]; the last events are those of the rows."""
    merged = merged_rows(rows)
    if not len(merged):
        return np.zeros(len(events), bool)
    first = len(events) - len(rows)
    arrived = np.zeros((len(events), 2), np.uint64)
    arrived[first:] = np.stack([rows["ms"].to_numpy(), rows["sequence"].to_numpy()], axis=1)
    giver = numbers_of(givers(rows.take(merged)), users)
    return given_away(events.user, events.item, events.ts_ms // 1000, arrived, first + merged, giver)


def _numbers(ids: pa.ChunkedArray, number_of: dict[str, int]) -> np.ndarray:
    """The number of each id, -1 where it has none, int32 [e]."""
    found = ids.combine_chunks().dictionary_encode()
    numbers = np.array([number_of.get(one, -1) for one in found.dictionary.to_pylist()], np.int32)
    return numbers[found.indices.to_numpy()]
