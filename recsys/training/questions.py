"""What a recommender is asked in training and evaluation: which items does this user want now?"""

from dataclasses import dataclass

import numpy as np

from recsys.features.user import UserStates
from recsys.plain_batch import plain_batch
from recsys.training.log import Log
from recsys.types import QueryBatch, Ragged


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
        return Known(self.states.take(rows), self.excluded.take(rows))


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Questions of the form "which items does this user want now?", [q] each.

    Attributes:
        user: int32. now_s: int64, UTC epoch seconds.
        place: int64, how many events of a log may be known.
        wanted: uint64 item keys, at least one a question: the right answers.
        worth: float32, of each right answer to a ranker that learns from it; None where all are worth the same.
    """

    user: np.ndarray
    now_s: np.ndarray
    place: np.ndarray
    wanted: Ragged
    worth: Ragged | None = None

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def next_positives(cls, log: Log, rows: np.ndarray) -> "Questions":
        """For each of these events of the log, by rising place: what does the user want, who then took this?"""
        one_each = np.arange(len(rows) + 1)
        wanted, worth = Ragged(one_each, log.key[rows]), Ragged(one_each, log.worth[rows])
        return cls(log.user[rows], log.ts_s[rows].astype(np.int64), rows.astype(np.int64), wanted, worth)

    def known(self, log: Log) -> Known:
        """What the log has of each user before the question."""
        return Known.of(log.states_before(self.user, self.place))

    def limited(self, most: int, *, seed: int) -> "Questions":
        """At most this many of the questions, drawn uniformly, in their order."""
        return self if len(self) <= most else self.take(self.drawn(most, seed=seed))

    def drawn(self, most: int, *, seed: int) -> np.ndarray:
        """The rows of at most this many of the questions, drawn uniformly, ascending: int64."""
        if len(self) <= most:
            return np.arange(len(self))
        return np.sort(np.random.default_rng(seed).choice(len(self), most, replace=False))

    def take(self, rows: np.ndarray) -> "Questions":
        """Some of the questions, in this order."""
        worth = None if self.worth is None else self.worth.take(rows)
        return Questions(self.user[rows], self.now_s[rows], self.place[rows], self.wanted.take(rows), worth)

    def batch(self, known: Known, rows: np.ndarray, *, count: int, seed: int) -> QueryBatch:
        """Some of the questions as a micro-batch; `known` is that of all questions."""
        of = known.take(rows)
        chance = np.uint64(seed) + rows.astype(np.uint64)
        return plain_batch(of.states, now_s=self.now_s[rows], seed=chance, count=count, excluded=of.excluded)

    def answered(self, rows: np.ndarray, row: np.ndarray, key: np.ndarray) -> np.ndarray:
        """Whether items are right answers. rows: of the batch; row: int [m], which of `rows`; key: uint64 [m]."""
        return ~np.isnan(self.worth_of(rows, row, key))

    def worth_of(self, rows: np.ndarray, row: np.ndarray, key: np.ndarray) -> np.ndarray:
        """What items are worth as right answers, NaN where they are none, float32 [m]; arguments as of `answered`."""
        of = self.wanted.take(rows)
        worth = np.ones(len(of.values), np.float32) if self.worth is None else self.worth.take(rows).values
        found = np.full(len(row), np.nan, np.float32)
        if len(worth):
            distinct, number = np.unique(of.values, return_inverse=True)
            pair = of.rows() * len(distinct) + number
            order = np.argsort(pair)
            place = np.minimum(np.searchsorted(distinct, key), len(distinct) - 1)
            asked = row * len(distinct) + place
            at = order[np.minimum(np.searchsorted(pair[order], asked), len(pair) - 1)]
            right = (distinct[place] == key) & (pair[at] == asked)
            found[right] = worth[at[right]]
        return found
