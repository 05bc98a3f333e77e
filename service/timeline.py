"""All events of a shard in the order in which they are applied: the import's, then the archive's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.archive import Archive
from recsys.datasets.dataset import Dataset
from recsys.vocabulary import item_keys
from service.state_keys import SHARDS, shard


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Interactions, [e] each; events that leave states as they are, such as impressions, are left out.

    Attributes:
        user_id: Of the users, by number. user: int64, their numbers. item_key: uint64. verb: uint8.
        ts_s: uint32, UTC epoch seconds.
        event_id: uint64 [e, 2], the position in the log; of imported events (0, place in the import, from 1).
    """

    user_id: list[str]
    user: np.ndarray
    item_key: np.ndarray
    verb: np.ndarray
    ts_s: np.ndarray
    event_id: np.ndarray

    def __len__(self) -> int:
        return len(self.user)


def timelines(dataset: Dataset | None, archive: Archive, shards: Sequence[int] = range(SHARDS)) -> Iterator[Timeline]:
    """One for each shard, read when it is asked for. Raises ArchiveError."""
    of_user = np.array([shard(user) for user in dataset.user_id] if dataset else [], np.int64)
    key = item_keys(dataset.item_id if dataset else [])
    for number in shards:
        archived = _archived(number, archive)
        yield joined(_imported(dataset, of_user == number, key), archived) if dataset else archived


def _imported(dataset: Dataset, mine: np.ndarray, key: np.ndarray) -> Timeline:
    events = dataset.events
    rows = np.flatnonzero(mine[events.user])
    place = rows + 1 if dataset.place is None else dataset.place[rows]
    return Timeline(
        [dataset.user_id[user] for user in np.flatnonzero(mine).tolist()],
        (np.cumsum(mine) - 1)[events.user[rows]],
        key[events.item[rows]],
        events.verb[rows],
        (events.ts_ms[rows] // 1000).astype(np.uint32),
        np.stack([np.zeros(len(rows), np.uint64), place.astype(np.uint64)], axis=1),
    )


def _archived(number: int, archive: Archive) -> Timeline:
    rows = archive.read(stream=number, columns=("ms", "sequence", "user_id", "item_id", "ts_ms", "verb"))
    verb = rows["verb"].to_numpy()
    rows, verb = rows.filter(verb > 0), verb[verb > 0]
    users, items = (rows[name].combine_chunks().dictionary_encode() for name in ("user_id", "item_id"))
    return Timeline(
        users.dictionary.to_pylist(),
        users.indices.to_numpy().astype(np.int64),
        item_keys(items.dictionary.to_pylist())[items.indices.to_numpy()],
        verb,
        (rows["ts_ms"].to_numpy() // 1000).astype(np.uint32),
        np.stack([rows["ms"].to_numpy(), rows["sequence"].to_numpy()], axis=1),
    )


def joined(first: Timeline, then: Timeline) -> Timeline:
    """Two of the same shard; the users of the first keep their numbers."""
    number_of = {user: number for number, user in enumerate(first.user_id)}
    renumbered = np.array([number_of.setdefault(user, len(number_of)) for user in then.user_id], np.int64)
    return Timeline(
        list(number_of),
        np.concatenate([first.user, renumbered[then.user]]),
        np.concatenate([first.item_key, then.item_key]),
        np.concatenate([first.verb, then.verb]),
        np.concatenate([first.ts_s, then.ts_s]),
        np.concatenate([first.event_id, then.event_id]),
    )
