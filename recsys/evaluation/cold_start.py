"""How good the lists of new users are after their first events, beside popularity.

New users are those whose first event lies after the moment at which a bundle's data end. No event of theirs is in any
part of the bundle, and all that is asked lies in its future: they are held out by user and by time. Held out by user
alone, the models would know what others did after the question: Ji et al., "A Critical Study on Data Leakage in
Recommender System Offline Evaluation", ACM TOIS 41(3), 2023.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.errors import DatasetError
from recsys.evaluation.baselines import baselines
from recsys.evaluation.compare import Asked, compare
from recsys.evaluation.curve import Curve
from recsys.features.apply import apply
from recsys.features.user import UserStates
from recsys.training.log import Log
from recsys.training.questions import Known, Questions
from recsys.types import Ragged, World

KNOWN = (0, 1, 2, 3, 5, 10, 20)
ANSWERS = 5  # one a user would be mostly noise; what comes much later is not what is wanted next
BESIDE = ("ALS", "popularity")
UNKNOWING = "nothing known"
PROTOCOL = (
    "New users, whose first event lies after all data of the bundle. Their state holds their first k events and no "
    f"more. Each of their next {ANSWERS} first-time positives, from the next second with an event on, is one question, "
    "asked at that second; all unseen items compete."
)


@dataclass(frozen=True, slots=True, eq=False)
class FirstEvents:
    """Questions about users of whom exactly their first k events are known, [q] each.

    Events that share the second of event k are in no order that means anything: those of them that are not known are
    neither asked for nor shown.

    Attributes:
        questions: Questions [q], at the next second with an event.
        known: k events in the state. unknowing: none in the state, and the items of these k excluded.
    """

    questions: Questions
    known: Known
    unknowing: Known

    @classmethod
    def of(cls, log: Log, users: Sequence[np.ndarray], k: int) -> "FirstEvents":
        """Up to ANSWERS questions of each user, in the order of the users; none of those without a later positive.

        Args:
            users: The rows of the log of each user, in its order.
        """
        wanted = log.positive & log.first_time()
        first, tied, asked, now_s = [], [], [], []
        for rows in users:
            later = _after_second(log.ts_s[rows], k)
            answers = rows[later:][wanted[rows[later:]]][:ANSWERS]
            if len(answers):
                first.append(rows[:k])
                tied.append(rows[k:later])
                asked.append(answers)
                now_s.append(int(log.ts_s[rows[later]]))
        user = np.repeat(np.arange(len(asked)), [len(one) for one in asked])
        answer = np.concatenate([np.zeros(0, np.int64), *asked])
        hidden = [log.key[np.concatenate(pair)] for pair in zip(first, tied, strict=True)]
        return cls(
            Questions(
                log.user[answer],
                np.array(now_s, np.int64)[user],
                answer,
                Ragged(np.arange(len(answer) + 1), log.key[answer]),
            ),
            Known(_applied(log, first).take(user), Ragged.of([log.key[tied[one]] for one in user], np.uint64)),
            Known(UserStates.empty(len(user)), Ragged.of([hidden[one] for one in user], np.uint64)),
        )


def newcomers(log: Log, since_s: int) -> list[np.ndarray]:
    """The rows of each user whose first event is at `since_s` or later, in the order of the log; users by number."""
    by_user = np.argsort(log.user, kind="stable")
    first = np.flatnonzero(np.diff(log.user[by_user], prepend=-1))
    users = np.split(by_user, first[1:])
    return [users[number] for number in np.flatnonzero(log.ts_s[by_user[first]] >= since_s)]


def evaluate_cold_start(
    world: World,
    log: Log,
    *,
    since_s: int,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Curve:
    """Compare a bundle with ALS alone, with popularity and with itself knowing nothing, after each of KNOWN events.

    Users without a positive after event k are not in that point of the curve; each point says how many are.

    Args:
        since_s: Where the bundle's data end, UTC epoch seconds.
        progress: Told of each of the len(KNOWN) points.
    Raises:
        DatasetError: fewer than two users are new and go on to like something.
    """
    users = newcomers(log, since_s)
    points, alone = [], baselines(world)
    for k in KNOWN:
        asked = FirstEvents.of(log, users, k)
        if len(np.unique(asked.questions.user)) >= 2:
            questions = Asked(asked.questions, asked.known)
            beside, also = {name: alone[name] for name in BESIDE}, {UNKNOWING: asked.unknowing}
            points.append((k, compare(world, questions, protocol=PROTOCOL, seed=seed, beside=beside, also=also)))
        progress(1)
    if not points:
        raise DatasetError("the imported data has fewer than two users who are new after the bundle's split")
    return Curve(PROTOCOL, len(users), tuple(points))


def _after_second(ts_s: np.ndarray, k: int) -> int:
    """Where the events after the second of the k-th begin; the end, where there are not as many."""
    if k == 0:
        return 0
    return len(ts_s) if k > len(ts_s) else int(np.searchsorted(ts_s, ts_s[k - 1], side="right"))


def _applied(log: Log, first: Sequence[np.ndarray]) -> UserStates:
    """States of users after these events, through the online update."""
    states = UserStates.empty(len(first))
    event = np.concatenate([np.zeros(0, np.int64), *first])
    row = np.repeat(np.arange(len(first)), [len(one) for one in first])
    event_id = np.stack([event + 1, np.zeros(len(event), np.int64)], axis=1).astype(np.uint64)
    apply(states, row, item_key=log.key[event], verb=log.verb[event], ts_s=log.ts_s[event], event_id=event_id)
    return states
