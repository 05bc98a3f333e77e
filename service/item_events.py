"""Events as item counters see them: without who, in the order in which they count."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.datasets.dataset import Dataset
from recsys.verbs import MERGED
from recsys.vocabulary import item_keys
from recsys.withdrawn_events import EVENT, Withdrawn

NEVER = np.iinfo(np.int32).max
ARCHIVED = ("stream", "ms", "sequence", "item_id", "ts_ms", "verb", "type")  # columns that `of_archive` needs


class ItemEvents(NamedTuple):
    """Events of e places.

    Attributes:
        stream: uint8 [e]. sequence: uint64 [e]. ms: uint64 [e]. Position in the log; of an import the place in it,
            for a sequence, and nothing else.
        item_key: uint64 [e]. verb: uint8 [e]. ts_s: uint32 [e], UTC epoch seconds.
        erasure: int32 [e], the number of that which took the event; NEVER where none did.
    """

    stream: np.ndarray
    sequence: np.ndarray
    ms: np.ndarray
    item_key: np.ndarray
    verb: np.ndarray
    ts_s: np.ndarray
    erasure: np.ndarray

    @classmethod
    def of(
        cls, *, stream: Any, sequence: Any, ms: Any, item_key: Any, verb: Any, ts_s: Any, erasure: Any = None
    ) -> "ItemEvents":
        """From arrays or lists of any integers."""
        return cls(
            np.asarray(stream, np.uint8),
            np.asarray(sequence, np.uint64),
            np.asarray(ms, np.uint64),
            np.asarray(item_key, np.uint64),
            np.asarray(verb, np.uint8),
            np.asarray(ts_s, np.uint32),
            np.full(len(stream), NEVER, np.int32) if erasure is None else np.asarray(erasure, np.int32),
        )

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.ms)

    def take(self, chosen: np.ndarray | slice) -> "ItemEvents":
        """Some of them: bool [e], positions or a slice."""
        return ItemEvents(*(column[chosen] for column in self))

    def before(self, ms: int) -> "ItemEvents":
        """Those with a position in the log before a moment."""
        return self.take(self.ms < ms)

    def at(self, in_force: int) -> "ItemEvents":
        """Those that are there with so many erasures in force."""
        return self.take(self.erasure > in_force)

    def rows(self, dataset: str) -> pa.Table:
        """As an erasure takes them. dataset: Fingerprint of the import that they are of; or LOG."""
        columns = {name: column for name, column in self._asdict().items() if name in EVENT.names}
        return pa.table({"dataset": [dataset] * self.size, **columns}).select(EVENT.names).cast(EVENT)


def in_order(first: ItemEvents, then: ItemEvents) -> ItemEvents:
    """All of both by ascending position; where they have the same event, that of the first stays."""
    both = ItemEvents(*(np.concatenate(pair) for pair in zip(first, then, strict=True)))
    keys = both.stream, both.sequence, both.ms
    order = np.lexsort(keys)  # stable
    again = np.logical_and.reduce([key[order[1:]] == key[order[:-1]] for key in keys])
    return both.take(order[np.concatenate([np.ones(min(len(order), 1), bool), ~again])])


def of_archive(rows: pa.Table) -> ItemEvents:
    """Rows of the event archive, with the columns ARCHIVED, in their order; without those that do not count."""
    counting = pc.and_(pc.greater(rows["verb"], 0), pc.not_equal(rows["type"], MERGED))
    rows = rows.filter(counting)
    item = pa.chunked_array(rows["item_id"]).combine_chunks().dictionary_encode()
    return ItemEvents.of(
        stream=rows["stream"].to_numpy(),
        sequence=rows["sequence"].to_numpy(),
        ms=rows["ms"].to_numpy(),
        item_key=item_keys(item.dictionary.to_pylist())[item.indices.to_numpy()],
        verb=rows["verb"].to_numpy(),
        ts_s=rows["ts_ms"].to_numpy() // 1000,
    )


def of_import(dataset: Dataset, user: np.ndarray | None = None) -> ItemEvents:
    """Those of an import in its order: of some users, by their rows in it, or all."""
    events = dataset.events
    place = np.arange(1, len(events) + 1) if dataset.place is None else dataset.place
    chosen = np.arange(len(events)) if user is None else np.flatnonzero(np.isin(events.user, user))
    nothing = np.zeros(len(chosen), np.uint8)
    return ItemEvents.of(
        stream=nothing,
        sequence=place[chosen],
        ms=nothing,
        item_key=item_keys(dataset.item_id)[events.item[chosen]],
        verb=events.verb[chosen],
        ts_s=events.ts_ms[chosen] // 1000,
    )


def of_withdrawn(kept: Withdrawn, dataset: str) -> ItemEvents:
    """What erasures took: of an import, by its fingerprint, or of LOG."""
    rows = kept.rows.filter(pc.equal(kept.rows["dataset"], dataset))
    return ItemEvents.of(**{name: rows[name].to_numpy() for name in ItemEvents._fields})
