"""Hours of a simulated service: what was asked and shown, what people did, and all of it as a data set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.datasets.dataset import Dataset, Events, ImportReport
from recsys.types import QueryBatch, World

SHOWN = 10  # places of a list


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """What was shown and what came of it, [l] each.

    Attributes:
        user: int64, people. challenger: bool, whether another bundle made it.
        items: int64 [l, SHOWN], rows of the catalogue; -1 beyond the end.
        clicks, likes: int64. expected: float64, clicks on average of such a list: what people want is known here.
    """

    user: np.ndarray
    challenger: np.ndarray
    items: np.ndarray
    clicks: np.ndarray
    likes: np.ndarray
    expected: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["Lists"]) -> "Lists":
        """One after the other; at least one."""
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in cls.__annotations__))


@dataclass(frozen=True, slots=True, eq=False)
class ServedHour:
    """What happened in an hour.

    Attributes:
        world: What answered; None: before any bundle. batch: Of the first list of each user whom it answered, or whom
            nothing did, as it was asked, [b]; None where there is no such user.
        clicked: bool [b, SHOWN]. shown: int64 [b].
        requests: int64 [users], lists of each user who came. lists: None where nobody came.
        user, item, verb, ts_s: [e], what users did by rising time; `item` in rows of the catalogue.
        position: int64 [e], from 1; 0 for what came of no list.
        item_age_s: How much older the item stats are than the newest event.
    """

    start_s: int
    world: World | None
    batch: QueryBatch | None
    clicked: np.ndarray
    shown: np.ndarray
    requests: np.ndarray
    lists: Lists | None
    user: np.ndarray
    item: np.ndarray
    verb: np.ndarray
    ts_s: np.ndarray
    position: np.ndarray
    item_age_s: float


def logged(dataset: Dataset, hours: Sequence[ServedHour], *, organic: bool = False) -> Dataset:
    """What happened in some hours, at least one, as a data set over the items of another.

    Args:
        organic: Without what came of lists.
    """
    names = ("user", "item", "verb", "ts_s", "position")
    user, item, verb, ts_s, position = (np.concatenate([getattr(one, name) for one in hours]) for name in names)
    if organic:
        user, item, verb, ts_s = (column[position == 0] for column in (user, item, verb, ts_s))
    order = np.argsort(ts_s, kind="stable")
    people, number = np.unique(user[order], return_inverse=True)
    events = Events(
        user=number.astype(np.int32),
        item=item[order].astype(np.int32),
        ts_ms=ts_s[order] * 1000,
        verb=verb[order],
        value=np.full(len(order), np.nan, np.float32),
        position=np.zeros(len(order), np.int32),
    )
    return Dataset(
        name="simulated", title="Simulated visits", synthetic=True, attribution="", fingerprint="0" * 64,
        user_id=[f"person-{one}" for one in people], item_id=dataset.item_id, item_title=dataset.item_title,
        categories=dataset.categories, item_category_indptr=dataset.item_category_indptr,
        item_category=dataset.item_category, events=events, report=ImportReport(rows_read=len(order)),
    )  # fmt: skip
