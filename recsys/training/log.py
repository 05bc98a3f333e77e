"""The interaction log that training and evaluation read, and the splits of it by time."""

from dataclasses import dataclass

import numpy as np

from recsys.datasets.dataset import Dataset
from recsys.errors import TrainingError
from recsys.features.replay import replay
from recsys.features.user import UserStates
from recsys.types import QueryBatch, Ragged
from recsys.verbs import is_positive
from recsys.vocabulary import item_keys


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Interactions by rising time, [e] each.

    Attributes:
        user: int32, number of the user in the data set. item: int32, number of the item in the data set.
        key: uint64, item keys. verb: uint8. ts_s: uint32, UTC epoch seconds. positive: bool.
    """

    user: np.ndarray
    item: np.ndarray
    key: np.ndarray
    verb: np.ndarray
    ts_s: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> "Log":
        """The events of a data set."""
        events = dataset.events
        keys = item_keys(dataset.item_id)
        return cls(
            events.user,
            events.item,
            keys[events.item],
            events.verb,
            (events.ts_ms // 1000).astype(np.uint32),
            is_positive(events.verb),
        )

    def __len__(self) -> int:
        return len(self.user)

    def until(self, ts_s: int) -> "Log":
        """Events before a moment."""
        end = int(np.searchsorted(self.ts_s, ts_s))
        return Log(*(getattr(self, name)[:end] for name in self.__slots__))

    def moment(self, share: float) -> int:
        """The time by which this share of the events has happened, UTC epoch seconds.

        Raises:
            TrainingError: the log is empty.
        """
        if not len(self):
            raise TrainingError("there are no interactions to train on; import a data set that has some")
        return int(self.ts_s[min(int(share * len(self)), len(self) - 1)])

    def states_at(self, user: np.ndarray, ts_s: np.ndarray) -> UserStates:
        """States of users just before given moments."""
        return replay(
            user=self.user,
            item_key=self.key,
            verb=self.verb,
            ts_s=self.ts_s,
            query_user=user,
            query_ts_s=ts_s,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known where a question is asked, [q].

    Attributes:
        states: UserStates [q]. excluded: uint64 item keys that no list may hold, besides those that the state has seen.
    """

    states: UserStates
    excluded: Ragged

    @classmethod
    def of(cls, states: UserStates) -> "Known":
        """These states, and nothing excluded."""
        return cls(states, Ragged.empty(len(states), np.uint64))

    def take(self, rows: np.ndarray) -> "Known":
        """Of some questions, in this order."""
        return Known(self.states.take(rows), Ragged.of([self.excluded[row] for row in rows.tolist()], np.uint64))


@dataclass(frozen=True, slots=True, eq=False)
class NextItem:
    """Questions of the form "which positive comes next for this user?", [q] each.

    Attributes:
        user: int32. ts_s: int64, the moment of the answer; everything before it may be known.
        key: uint64, the item that was chosen.
    """

    user: np.ndarray
    ts_s: np.ndarray
    key: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def sample(cls, log: Log, *, start_s: int, end_s: int | None, per_user: int, seed: int) -> "NextItem":
        """Up to `per_user` first-time positives of each user with start_s <= time < end_s, drawn uniformly."""
        rng = np.random.default_rng(seed)
        within = log.positive & first_time(log) & (log.ts_s >= start_s)
        if end_s is not None:
            within &= log.ts_s < end_s
        rows = rng.permutation(np.flatnonzero(within))
        rows = rows[np.argsort(log.user[rows], kind="stable")]
        user = log.user[rows]
        place = np.arange(len(rows)) - np.searchsorted(user, user)
        rows = np.sort(rows[place < per_user])
        return cls(log.user[rows], log.ts_s[rows].astype(np.int64), log.key[rows])

    def limited(self, most: int, *, seed: int) -> "NextItem":
        """At most this many of the questions, drawn uniformly, in order of time."""
        if len(self) <= most:
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), most, replace=False)))

    def take(self, rows: np.ndarray) -> "NextItem":
        """Some of the questions, in this order."""
        return NextItem(self.user[rows], self.ts_s[rows], self.key[rows])

    def batch(self, known: Known, rows: np.ndarray, *, count: int, seed: int) -> QueryBatch:
        """Some of the questions as a micro-batch; `known` is that of all questions."""
        b = len(rows)
        of = known.take(rows)
        return QueryBatch(
            states=of.states,
            now_s=self.ts_s[rows],
            seed=(np.uint64(seed) + rows.astype(np.uint64)),
            count=np.full(b, count, np.int32),
            session=Ragged.empty(b, np.uint64),
            excluded=of.excluded,
            categories=Ragged.empty(b, np.int32),
            explore=np.zeros(b, np.float32),
        )


def first_time(log: Log) -> np.ndarray:
    """Whether each event is its user's first with its item, bool [e]."""
    first = np.zeros(len(log), bool)
    first[np.unique(log.user.astype(np.int64) << 32 | log.item, return_index=True)[1]] = True
    return first
