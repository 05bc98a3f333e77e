"""How a log is divided into what may be learnt and what is asked: the protocols of offline evaluation.

Training divides what is left by the same rule again, so that the ranker learns from questions of the kind that it will
be asked.

temporal-next: One moment divides the log. Asked is each later first-time positive (a sample of them), with everything
    in the user's state that the log has before it. The only rule without knowledge of the future: Ji et al., "A
    Critical Study on Data Leakage in Recommender System Offline Evaluation", ACM TOIS 41(3), 2023.
temporal-static: The same moment, but states end there as well, and all later first-time positives are the answer.
leave-one-out: The last first-time positive of each user is asked, everything before it is known: the protocol of Kang &
    McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, but with all items ranked.
held-out-items: A random share of the items of each user is asked at once, the rest is known: how the files of He et
    al., "LightGCN", SIGIR 2020, were made. For interactions without times or order.
strong-generalisation: Some users are no part of training at all; a share of their items is known, the rest is asked:
    Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from recsys.training.log import Log
from recsys.training.questions import Known, Questions
from recsys.types import Ragged

HELD_OUT = 0.2  # of the events, the items or the users, where nothing else is said
ASKED_PER_USER = 20
LEAST_EVENTS = 3  # of a user who is asked for one of them


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A divided log.

    Attributes:
        past: What may be learnt from.
        until_s: When it ends, UTC epoch seconds: item stats are as of then.
        questions: What is asked. history: The log in which their places are, and which makes their states.
    """

    past: Log
    until_s: int
    questions: Questions
    history: Log

    def known(self) -> Known:
        """What is known where each question is asked."""
        return self.questions.known(self.history)


Divide = Callable[..., Split]


def temporal_next(log: Log, *, per_user: int = ASKED_PER_USER, seed: int, held_out: float = HELD_OUT) -> Split:
    """The newest events are asked, up to `per_user` questions of each user, drawn uniformly.

    Args:
        held_out: Share of the events.
    """
    split_s = log.moment(1 - held_out)
    return after(log, split_s, per_user=per_user, seed=seed)


def after(log: Log, split_s: int, *, per_user: int, seed: int) -> Split:
    """As `temporal_next`, with the moment given."""
    wanted = np.flatnonzero(log.positive & log.first_time() & (log.ts_s >= split_s))
    rows = np.random.default_rng(seed).permutation(wanted)
    rows = rows[np.argsort(log.user[rows], kind="stable")]
    user = log.user[rows]
    rows = np.sort(rows[np.arange(len(rows)) - np.searchsorted(user, user) < per_user])
    return Split(log.until(split_s), split_s, Questions.next_positives(log, rows), log)


def temporal_static(log: Log, *, per_user: int = 0, seed: int, held_out: float = HELD_OUT) -> Split:
    """One question a user at the split: all that is liked first after it. Users without a past are left out."""
    del seed, per_user  # nothing is drawn
    split_s = log.moment(1 - held_out)
    past = log.until(split_s)
    later = np.flatnonzero(log.positive & log.first_time() & (log.ts_s >= split_s))
    later = later[np.isin(log.user[later], past.user)]
    return Split(past, split_s, _at_once(log, later, past, split_s), past)


def leave_one_out(log: Log, *, per_user: int = 1, seed: int, held_out: float = HELD_OUT) -> Split:
    """The last first-time positive of each user; what the user did after it is dropped."""
    del seed, per_user, held_out
    rows = np.flatnonzero(log.positive & log.first_time())
    last = np.full(int(log.user.max(initial=-1)) + 1, -1, np.int64)
    last[log.user[rows]] = rows
    last[np.bincount(log.user, minlength=len(last)) < LEAST_EVENTS] = -1
    asked = np.sort(last[last >= 0])
    end = np.where(last < 0, len(log), last)
    past = log.take(np.flatnonzero(np.arange(len(log)) < end[log.user]))
    return Split(past, _end_s(log), Questions.next_positives(log, asked), log)


def held_out_items(log: Log, *, per_user: int = 0, seed: int, held_out: float = HELD_OUT) -> Split:
    """A random HELD_OUT of the items of each user, rounded, of users with LEAST_EVENTS items or more."""
    del per_user, held_out
    held = _held_out(log, np.ones(len(log), bool), seed)
    past = log.take(np.flatnonzero(~held))
    return Split(past, _end_s(log), _at_once(log, np.flatnonzero(held & log.positive), past, _end_s(log)), past)


def strong_generalisation(log: Log, *, per_user: int = 0, seed: int, held_out: float = HELD_OUT) -> Split:
    """A random HELD_OUT of the users, of whose items the same share is asked."""
    del per_user, held_out
    users = np.unique(log.user)
    rng = np.random.default_rng(seed)
    chosen = np.isin(log.user, rng.choice(users, round(HELD_OUT * len(users)), replace=False))
    held = _held_out(log, chosen, seed)
    known = log.take(np.flatnonzero(chosen & ~held))
    asked = _at_once(log, np.flatnonzero(held & log.positive), known, _end_s(log))
    return Split(log.take(np.flatnonzero(~chosen)), _end_s(log), asked, known)


def given(log: Log, users: dict[str, int], test: Log, test_users: list[str]) -> tuple[Split, int, int]:
    """What a second file holds of the users of the first; `log` is all that may be learnt from.

    Items of it that the first file lacks are asked all the same, and never found. Pairs that both files have are left
    out, as seen items are masked in the literature.

    Args:
        users: Number of each user of `log`. test: Log of the other file; its users are numbers in `test_users`.
    Returns:
        The split, how many pairs both have, and how many are of users whom the first file lacks.
    """
    number = np.array([users.get(one, -1) for one in test_users], np.int32)[test.user]
    both = np.isin(_pairs(number, test.key), _pairs(log.user, log.key))
    rows = np.flatnonzero((number >= 0) & ~both & test.positive)
    asked = _at_once(replace(test, user=np.maximum(number, 0)), rows, log, _end_s(log))
    of_known = (number >= 0) & test.positive
    return Split(log, _end_s(log), asked, log), int((both & of_known).sum()), int((number < 0).sum())


def _pairs(user: np.ndarray, key: np.ndarray) -> np.ndarray:
    """User and item as one number: uint64, equal by chance for fewer than one in 10^9 pairs of 10^5."""
    return key ^ (user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


PROTOCOLS: dict[str, Divide] = {
    "temporal-next": temporal_next,
    "temporal-static": temporal_static,
    "leave-one-out": leave_one_out,
    "held-out-items": held_out_items,
    "strong-generalisation": strong_generalisation,
}


# What a report says of each.
DESCRIBED = {
    "temporal-next": "temporal-next: up to 20 first-time positives of each user after the split, drawn at random; the "
    "state holds all that the log has before each, the models nothing after the split; all unseen items compete (no "
    "sampled negatives).",
    "temporal-static": "temporal-static: all later positives of each user, asked at the split; models and states hold "
    "nothing after it; all unseen items compete.",
    "leave-one-out": "leave-one-out: the last positive of each user; models and states hold what users did before "
    "theirs; all unseen items compete.",
    "held-out-items": "held-out-items: a random fifth of the items of each user at once; models and states hold the "
    "rest; all unseen items compete.",
    "strong-generalisation": "strong-generalisation: a random fifth of the items of users who are no part of training; "
    "states hold the rest; all unseen items compete.",
    "given-split": "given-split: the items of a test file; models and states hold the training file; all unseen items "
    "compete.",
}


def _held_out(log: Log, among: np.ndarray, seed: int) -> np.ndarray:
    """bool [e]: every event with the drawn items of each user. among: bool [e], whole users."""
    pair = log.user.astype(np.int64) << 32 | log.item
    distinct, of = np.unique(pair, return_inverse=True)
    user = distinct >> 32
    order = np.lexsort((np.random.default_rng(seed).random(len(distinct)), user))
    size = np.bincount(user, minlength=int(user.max(initial=-1)) + 1)
    place = np.arange(len(distinct)) - np.searchsorted(user[order], user[order])
    drawn = np.zeros(len(distinct), bool)
    drawn[order] = (place < np.rint(HELD_OUT * size[user[order]])) & (size[user[order]] >= LEAST_EVENTS)
    return drawn[of] & among


def _at_once(log: Log, rows: np.ndarray, history: Log, now_s: int) -> Questions:
    """One question a user, asked at the end of a history: all items of these events of the log."""
    pairs = np.stack([log.user[rows].astype(np.uint64), log.key[rows]], axis=1)
    pair, of = np.unique(pairs, axis=0, return_inverse=True)
    most = np.zeros(len(pair), np.float32)  # who did several things to an item answers with the one worth most
    np.maximum.at(most, of.reshape(-1), log.worth[rows])
    user, start = np.unique(pair[:, 0].astype(np.int32), return_index=True)
    bounds = np.append(start, len(pair)).astype(np.int64)
    wanted, worth = Ragged(bounds, np.ascontiguousarray(pair[:, 1])), Ragged(bounds, most)
    now, place = np.full(len(user), now_s, np.int64), np.full(len(user), len(history), np.int64)
    return Questions(user, now, place, wanted, worth)


def _end_s(log: Log) -> int:
    return int(log.ts_s[-1]) + 1 if len(log) else 0
