"""What was shown where: the only thing that tells how far down a list people look.

Impressions stand beside the events of a data set, not among them: what reads events (states, item stats, neighbours,
factors, questions) cannot take one for an interaction.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

MAX_POSITION = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Impressions:
    """Items as they were shown in lists, [i] each, by rising time.

    Attributes:
        user: int32, index into `Dataset.user_id`. item: int32, index into `Dataset.item_id`.
        ts_ms: int64, UTC epoch milliseconds.
        position: int32, rank in the list, 1 to MAX_POSITION.
    """

    user: np.ndarray
    item: np.ndarray
    ts_ms: np.ndarray
    position: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray | slice) -> "Impressions":
        """Some of them; their order must be that of time."""
        return Impressions(*(getattr(self, name)[rows] for name in self.__slots__))

    def until(self, ts_ms: int) -> "Impressions":
        """Those before a moment."""
        return self.take(slice(0, int(np.searchsorted(self.ts_ms, ts_ms))))

    def joined(self, other: "Impressions") -> "Impressions":
        """Both, by time."""
        columns = ((getattr(self, name), getattr(other, name)) for name in self.__slots__)
        both = Impressions(*(np.concatenate(pair) for pair in columns))
        return both.take(np.argsort(both.ts_ms, kind="stable"))

    def table(self) -> pa.Table:
        """As it is kept on disk."""
        return pa.table({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def of_table(cls, table: pa.Table) -> "Impressions":
        """From what `table` gave."""
        return cls(*(np.array(table[name]) for name in cls.__slots__))
