"""A data set and what happened since it was imported."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from recsys.datasets.dataset import Dataset, Events

COLUMNS = ("user_id", "item_id", "ts_ms", "verb", "value")


def extended(dataset: Dataset, rows: pa.Table) -> Dataset:
    """The data set with archived events in it, all by time; its fingerprint stays that of the import.

    Args:
        rows: COLUMNS of an event archive. Left out are events that leave states as they are, and those of items that
            the catalogue does not have.
    """
    number_of_item = {item: number for number, item in enumerate(dataset.item_id)}
    item = _numbers(rows["item_id"], number_of_item)
    wanted = (rows["verb"].to_numpy() > 0) & (item >= 0)
    if not wanted.any():
        return dataset
    rows, item = rows.filter(pa.array(wanted)), item[wanted]
    number_of_user = {user: number for number, user in enumerate(dataset.user_id)}
    for user in rows["user_id"].unique().to_pylist():
        number_of_user.setdefault(user, len(number_of_user))
    added = Events(
        user=_numbers(rows["user_id"], number_of_user),
        item=item,
        ts_ms=rows["ts_ms"].to_numpy(),
        verb=rows["verb"].to_numpy(),
        value=rows["value"].to_numpy().astype(np.float32),
    )
    by_time = np.argsort(np.concatenate([dataset.events.ts_ms, added.ts_ms]), kind="stable")
    columns = ((getattr(dataset.events, name), getattr(added, name)) for name in Events.__annotations__)
    events = Events(*(np.concatenate(c)[by_time] for c in columns))
    return replace(dataset, user_id=list(number_of_user), events=events, place=None)


def _numbers(ids: pa.ChunkedArray, number_of: dict[str, int]) -> np.ndarray:
    """The number of each id, -1 where it has none, int32 [e]."""
    found = ids.combine_chunks().dictionary_encode()
    numbers = np.array([number_of.get(one, -1) for one in found.dictionary.to_pylist()], np.int32)
    return numbers[found.indices.to_numpy()]
