"""The interaction log that training and evaluation read."""

from dataclasses import dataclass

import numpy as np

from recsys.datasets.dataset import Dataset
from recsys.errors import TrainingError
from recsys.features.replay import replay
from recsys.features.user import UserStates
from recsys.verbs import is_positive
from recsys.vocabulary import item_keys


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Interactions by rising time, [e] each; those of equal times in the order in which they were logged.

    Attributes:
        user: int32, number of the user in the data set. item: int32, number of the item in the data set.
        key: uint64, item keys. verb: uint8. ts_s: uint32, UTC epoch seconds. positive: bool.
        position: int32, rank in the list that the item was taken from, from 1; 0 where none is known.
        worth: float32, what each positive is worth as a right answer that the ranker learns from (`worth.valued`).
    """

    user: np.ndarray
    item: np.ndarray
    key: np.ndarray
    verb: np.ndarray
    ts_s: np.ndarray
    positive: np.ndarray
    position: np.ndarray
    worth: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset) -> "Log":
        """The events of a data set, all of the same worth."""
        events = dataset.events
        keys = item_keys(dataset.item_id)
        return cls(
            events.user,
            events.item,
            keys[events.item],
            events.verb,
            (events.ts_ms // 1000).astype(np.uint32),
            is_positive(events.verb),
            events.position,
            np.ones(len(events), np.float32),
        )

    def __len__(self) -> int:
        return len(self.user)

    def counts(self) -> dict[str, int]:
        """How many events and positives there are, of how many users, and how many items have a positive."""
        return {
            "events": len(self),
            "positives": int(self.positive.sum()),
            "users": len(np.unique(self.user)),
            "liked_items": len(np.unique(self.item[self.positive])),
        }

    def take(self, rows: np.ndarray | slice) -> "Log":
        """Some of the events; their order must be that of the log."""
        return Log(*(getattr(self, name)[rows] for name in self.__slots__))

    def until(self, ts_s: int) -> "Log":
        """Events before a moment."""
        return self.take(slice(0, int(np.searchsorted(self.ts_s, ts_s))))

    def moment(self, share: float) -> int:
        """The time by which this share of the events has happened, UTC epoch seconds.

        Raises:
            TrainingError: the log is empty.
        """
        if not len(self):
            raise TrainingError("there are no interactions to train on; import a data set that has some")
        return int(self.ts_s[min(int(share * len(self)), len(self) - 1)])

    def first_time(self) -> np.ndarray:
        """Whether each event is its user's first with its item, bool [e]."""
        first = np.zeros(len(self), bool)
        first[np.unique(self.user.astype(np.int64) << 32 | self.item, return_index=True)[1]] = True
        return first

    def states_before(self, user: np.ndarray, place: np.ndarray) -> UserStates:
        """States of users just before given places of the log: what stands there is not in them."""
        return replay(
            user=self.user,
            item_key=self.key,
            verb=self.verb,
            ts_s=self.ts_s,
            query_user=user,
            query_place=place,
        )

    def states_at(self, user: np.ndarray, ts_s: np.ndarray) -> UserStates:
        """States of users just before given moments: what happens in that very second is not in them."""
        return self.states_before(user, np.searchsorted(self.ts_s, ts_s))
