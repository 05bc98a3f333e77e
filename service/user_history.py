"""All that the users of a shard did, wherever it lies: in the import, in the archive, or in the log alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import redis

from recsys.archive import Archive, Position
from recsys.datasets.dataset import Dataset
from recsys.vocabulary import item_keys
from service.errors import StackError
from service.event_log import stream_key
from service.log_entries import Run, text_of
from service.rebuild import live_source
from service.store_client import StoreClient, store_client
from service.timeline import Timeline, joined, timelines

SETTLED_S = 10  # a rebuild names its import some seconds before its states are live
_PAGE = 2_000  # entries of the log at a time


@dataclass(frozen=True, eq=False)
class UserHistory:
    """The events of a shard's users.

    Attributes:
        events: In the order in which they are applied. archived: How many of them are import or archive; the others lie
            in the log alone.
    """

    events: Timeline
    archived: int

    @cached_property
    def _number(self) -> dict[str, int]:
        return {user: number for number, user in enumerate(self.events.user_id)}

    @cached_property
    def _by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """The events' places by user, and where each user's begin."""
        order = np.argsort(self.events.user, kind="stable")
        return order, np.searchsorted(self.events.user[order], np.arange(len(self.events.user_id) + 1))

    def places(self, user_id: str) -> np.ndarray:
        """Where the events of a user are in `events`, in their order: int64 [e]."""
        number = self._number.get(user_id)
        if number is None:
            return np.zeros(0, np.int64)
        order, start = self._by_user
        return order[start[number] : start[number + 1]]

    def lies_in(self, place: int) -> str:
        """Where an event lies: "import", "archive" or "log"."""
        if place >= self.archived:
            return "log"
        return "archive" if self.events.event_id[place, 0] else "import"


def live_import(url: str, dataset: Dataset | None) -> tuple[Dataset | None, int]:
    """The import that the live states hold, and since when all answers are from such states, UTC epoch milliseconds.

    Args:
        dataset: The current import.
    Raises:
        StackError: the states are from another import, or the store does not answer.
    """
    live = live_source(url)
    if live is None:
        return None, 0  # all that states know came through the log
    source = live[1]
    if source.dataset and (dataset is None or dataset.fingerprint != source.dataset):
        raise StackError("the live states are from another import than the current one; `riffle up` makes them anew")
    return dataset if source.dataset else None, (source.imported_s + SETTLED_S) * 1000


def user_histories(
    url: str, dataset: Dataset | None, archive: Archive, shards: Sequence[int]
) -> Iterator[tuple[int, UserHistory]]:
    """Shard and history, one after the other, each read once.

    The log is read first: what leaves it meanwhile is in the archive that is read then, and counts once.

    Raises:
        StackError: the store does not answer. ArchiveError: a file cannot be read.
    """
    until = archive.until()
    try:
        with store_client(url, timeout_s=10) as client:
            tails = [_logged(client, number, until[number]) for number in shards]
    except redis.RedisError as error:
        raise StackError(f"the event log does not answer: {error}; `riffle doctor` looks for causes") from error
    for number, events, tail in zip(shards, timelines(dataset, archive, shards), tails, strict=True):
        yield number, UserHistory(joined(events, _after(tail, events)), len(events))


def _logged(client: StoreClient, number: int, after: Position) -> Timeline:
    """What a shard's stream has after a position and changes states."""
    runs, start = [], f"({text_of(after)}"
    while True:
        page: Any = client.xrange(stream_key(number), start, "+", count=_PAGE)
        if page:
            runs.append(Run.of(number, [(at, [part for pair in one.items() for part in pair]) for at, one in page]))
        if len(page) < _PAGE:
            break
        start = f"({page[-1][0].decode()}"
    pairs = [pair for run in runs for pair in zip(run.positions, run.events, strict=True) if pair[1].verb]
    users = {user: place for place, user in enumerate(dict.fromkeys(event.user_id for _, event in pairs))}
    return Timeline(
        list(users),
        np.array([users[event.user_id] for _, event in pairs], np.int64),
        item_keys(event.item_id for _, event in pairs),
        np.array([event.verb for _, event in pairs], np.uint8),
        np.array([event.ts_ms // 1000 for _, event in pairs], np.uint32),
        np.array([position for position, _ in pairs], np.uint64).reshape(-1, 2),
    )


def _after(tail: Timeline, events: Timeline) -> Timeline:
    """What of the log's tail has not been archived meanwhile."""
    at, end = tail.event_id, events.event_id[-1] if len(events) else np.zeros(2, np.uint64)
    newer = (at[:, 0] > end[0]) | ((at[:, 0] == end[0]) & (at[:, 1] > end[1]))
    return Timeline(
        tail.user_id,
        tail.user[newer],
        tail.item_key[newer],
        tail.verb[newer],
        tail.ts_s[newer],
        tail.event_id[newer],
    )
