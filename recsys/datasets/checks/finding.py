"""What one check of a data set found, with the events that show it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np

from recsys.datasets.dataset import Dataset
from recsys.verbs import Verb

Level = Literal["ok", "warning", "failure"]  # a failure refuses training
SHOWN = 5  # rows of a finding: enough to find them in a file, few enough to be read

_VERB_NAMES = {verb.value: verb.name.lower() for verb in Verb}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """One event of a data set.

    Attributes:
        place: Among all that were imported, by time, from 1.
        user_id, item_id: "number 7" where the data set has no user or item 7.
        timestamp: RFC 3339, UTC; "7 ms" where no calendar has it.
        verb: Its name; "verb 9" where it has none.
        value: None where there is none; "inf" and "-inf", which JSON does not have, as text.
    """

    place: int
    user_id: str
    item_id: str
    timestamp: str
    verb: str
    value: float | str | None

    def cells(self) -> list[str]:
        """The row for whatever draws tables; COLUMNS are its header."""
        value = "" if self.value is None else f"{self.value}"
        return [f"{self.place}", self.user_id, self.item_id, self.timestamp, self.verb, value]


COLUMNS = list(Row.__annotations__)


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it found.

    Attributes:
        sentence: What was found, with its numbers. It names no user: a bundle keeps it, and bundles hold no user
            (decision 0016).
        numbers: The same for a program; shares are 0 to 1.
        rows: Up to SHOWN events, where it is events that are wrong.
    """

    name: str
    level: Level
    sentence: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()


def rows_at(dataset: Dataset, index: np.ndarray) -> tuple[Row, ...]:
    """The first SHOWN of these events. index: int [n] into the events, or bool [e]."""
    chosen = np.flatnonzero(index) if index.dtype == bool else index
    return tuple(_row(dataset, int(one)) for one in chosen[:SHOWN])


def verb_name(verb: int) -> str:
    """Of a verb; those of one's own have no name in the data, but a number."""
    return _VERB_NAMES.get(verb, f"verb {verb}")


def _row(dataset: Dataset, index: int) -> Row:
    events = dataset.events
    value = float(events.value[index])
    shown: float | str | None = value if np.isfinite(value) else str(value)
    return Row(
        place=index + 1 if dataset.place is None else int(dataset.place[index]),
        user_id=_id(dataset.user_id, int(events.user[index])),
        item_id=_id(dataset.item_id, int(events.item[index])),
        timestamp=moment(int(events.ts_ms[index])),
        verb=verb_name(int(events.verb[index])),
        value=None if np.isnan(value) else shown,
    )


def _id(ids: list[str], number: int) -> str:
    return ids[number] if 0 <= number < len(ids) else f"number {number}"


def moment(ts_ms: int) -> str:
    """RFC 3339, UTC; the number where no calendar has it."""
    try:
        return (_EPOCH + timedelta(milliseconds=ts_ms)).isoformat(
            timespec="milliseconds" if ts_ms % 1000 else "seconds"
        )
    except OverflowError:
        return f"{ts_ms} ms"
