"""The item snapshot of any past moment, made from the import, the archive and the log."""

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from recsys.archive import Archive
from recsys.datasets.dataset import Dataset
from recsys.erased_users import ErasedUsers
from recsys.features.item_counts import ItemCounts
from recsys.verbs import MERGED
from recsys.vocabulary import item_keys
from service.archives import ERASED_USERS, archived_changes, catalogue_beside
from service.catalogue_entries import Change, changes_in, items_after
from service.event_log import stream_key
from service.item_snapshot import CATALOGUE, Snapshot
from service.item_updater import counts_for_items, in_order
from service.log_entries import Entry, text_of
from service.state_keys import SHARDS
from service.store_client import StoreClient


@dataclass(frozen=True, slots=True, eq=False)
class ItemHistory:
    """Everything that counts for items up to a moment of the store's clock, from which any earlier snapshot follows.

    Attributes:
        base: Names the import, and who was erased from it. until_ms: The moment.
        imported: Counters of the import alone.
        ms: uint64 [e], positions of the events of archive and log, ascending. item_key: uint64 [e]. verb: uint8 [e].
        ts_s: uint32 [e].
        changes: Of the catalogue, in its order.
    """

    base: str
    until_ms: int
    imported: ItemCounts
    ms: np.ndarray
    item_key: np.ndarray
    verb: np.ndarray
    ts_s: np.ndarray
    changes: list[Change]

    @classmethod
    def read(
        cls, client: StoreClient, dataset: Dataset | None, imported_s: int, archive: Archive, until_ms: int
    ) -> "ItemHistory":
        """Read it.

        Args:
            archive: Of events; that of the catalogue lies beside it.
            imported_s: When the last imported event is taken to have happened, at the earliest; UTC epoch seconds. Data
                of another decade would otherwise weigh nothing beside one click.
            until_ms: A moment that has passed.
        Raises:
            ArchiveError: a file cannot be read. RedisError: the store failed.
        """
        imported = ItemCounts.empty()
        if dataset is not None and len(dataset.events):
            imported.apply(**_imported(dataset, imported_s))
        changes = _changes(client, catalogue_beside(archive), until_ms)
        ms, item_key, verb, ts_s = _logged(client, archive, until_ms)
        erased = ErasedUsers(archive.root.with_name(ERASED_USERS)).read()
        return cls(_base(dataset, imported_s, erased), until_ms, imported, ms, item_key, verb, ts_s, changes)

    def at(self, horizon_ms: int) -> Snapshot:
        """The snapshot as of a moment, at most `until_ms`. Cost: 0.1 us an event."""
        counts = copy.deepcopy(self.imported)
        before = slice(int(np.searchsorted(self.ms, horizon_ms)))
        counts.apply(item_key=self.item_key[before], verb=self.verb[before], ts_s=self.ts_s[before])
        return Snapshot(self.base, horizon_ms, counts, items_after(self.changes, horizon_ms))


def _base(dataset: Dataset | None, imported_s: int, erased: dict[str, int]) -> str:
    """Without somebody's events the counts are others, so each erasure begins a line of versions."""
    named = f"{dataset.fingerprint if dataset else ''} {imported_s} {sorted(erased.items())}"
    return hashlib.blake2b(named.encode(), digest_size=4).hexdigest()


def _imported(dataset: Dataset, imported_s: int) -> dict[str, np.ndarray]:
    events = dataset.events
    ts_s = events.ts_ms // 1000
    later_s = max(imported_s - int(ts_s[-1]), 0)
    key = item_keys(dataset.item_id)[events.item]
    return {"item_key": key, "verb": events.verb, "ts_s": (ts_s + later_s).astype(np.uint32)}


def _logged(client: StoreClient, archive: Archive, horizon_ms: int) -> tuple[np.ndarray, ...]:
    """Events of archive and log before a moment, in the order in which they count: ms, item_key, verb, ts_s.

    The log is read between two looks at how far the archive reaches: what leaves the log meanwhile is archived at the
    second one, which says of each event where it is taken from.
    """
    began = archive.until()
    entries = [
        _entries(client, stream_key(number), f"({text_of(began[number])}", horizon_ms) for number in range(SHARDS)
    ]
    until = archive.until()
    rows = archive.read(columns=("stream", "ms", "sequence", "item_id", "ts_ms", "verb", "type"))
    stream, ms, sequence = (rows[name].to_numpy() for name in ("stream", "ms", "sequence"))
    end = np.array(until, np.uint64)[stream]
    early = (ms < end[:, 0]) | ((ms == end[:, 0]) & (sequence <= end[:, 1]))
    counting = (rows["verb"].to_numpy() > 0) & pc.not_equal(rows["type"], MERGED).to_numpy()
    wanted = np.flatnonzero(early & (ms < horizon_ms) & counting)
    rows, stream, ms, sequence = rows.take(wanted), stream[wanted], ms[wanted], sequence[wanted]
    newer = [one for one in in_order(entries, horizon_ms) if counts_for_items(one[2]) and one[0] > until[one[1]]]
    item = rows["item_id"].combine_chunks().dictionary_encode()
    stream = np.concatenate([stream, np.array([number for _, number, _ in newer], np.uint8)])
    sequence = np.concatenate([sequence, np.array([position[1] for position, _, _ in newer], np.uint64)])
    ms = np.concatenate([ms, np.array([position[0] for position, _, _ in newer], np.uint64)])
    order = np.lexsort((stream, sequence, ms))
    archived_key = item_keys(item.dictionary.to_pylist())[item.indices.to_numpy()]
    newer_ts_s = np.array([event.ts_ms // 1000 for *_, event in newer], np.int64)
    item_key = np.concatenate([archived_key, item_keys(event.item_id for *_, event in newer)])
    verb = np.concatenate([rows["verb"].to_numpy(), np.array([event.verb for *_, event in newer], np.uint8)])
    ts_s = np.concatenate([rows["ts_ms"].to_numpy() // 1000, newer_ts_s]).astype(np.uint32)
    return ms[order], item_key[order], verb[order], ts_s[order]


def _changes(client: StoreClient, catalogue: Archive, horizon_ms: int) -> list[Change]:
    """Changes of items before a moment, from archive and stream as events are."""
    (began,) = catalogue.until()
    entries = _entries(client, CATALOGUE, f"({text_of(began)}", horizon_ms)
    (until,) = catalogue.until()
    changes = [one for one in archived_changes(catalogue, until) if one.position[0] < horizon_ms]
    return changes + [one for one in changes_in(entries) if one.position > until]


def _entries(client: StoreClient, stream: str, start: str, horizon_ms: int) -> list[Entry]:
    found: Any = client.xrange(stream, start, f"({horizon_ms}")
    return [(position, [part for pair in fields.items() for part in pair]) for position, fields in found]
