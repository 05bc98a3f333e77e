"""A leak from the future is planted, and must be refused."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.errors import TrainingError
from recsys.training.leaks import refuse_leaks
from recsys.training.learn import learn
from recsys.training.log import Log
from recsys.training.splits import PROTOCOLS, Split, temporal_next
from tests import worlds


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_protocol_leaks(protocol: str, synthetic_dataset: Dataset) -> None:
    split = PROTOCOLS[protocol](Log.of(synthetic_dataset), seed=3)
    assert len(split.questions)
    refuse_leaks(split, split.known())


def test_one_answer_in_what_models_learn_from_is_refused() -> None:
    log = Log.of(worlds.two_tastes())
    split = temporal_next(log, seed=1)
    place = int(split.questions.place[5])
    leaking = replace(split, past=log.take(np.append(np.arange(len(split.past)), place)))
    with pytest.raises(TrainingError, match=f"1 of {len(split.questions)} right answers are in what models learn from"):
        refuse_leaks(leaking, split.known())


def test_training_on_the_future_is_refused() -> None:
    """A rule that hands out the whole log would make the ranker look perfect, and useless."""

    def all_of_it(log: Log, *, per_user: int = 20, seed: int) -> Split:
        return replace(temporal_next(log, per_user=per_user, seed=seed), past=log)

    dataset = worlds.two_tastes()
    with pytest.raises(TrainingError, match="right answers are in what models learn from"):
        learn(dataset, Log.of(dataset), all_of_it, worlds.SMALL)


def test_anything_else_from_the_future_is_refused_too() -> None:
    """Events that are nobody's answer: what models learn from, and states, must end in time all the same."""
    split = temporal_next(Log.of(worlds.two_tastes()), seed=1)
    ts_s = split.past.ts_s.copy()
    ts_s[-1] = split.until_s
    later = replace(split, past=replace(split.past, ts_s=ts_s))
    with pytest.raises(TrainingError, match="learn from events after the moment at which the log is divided"):
        refuse_leaks(later, split.known())
    known = split.known()
    known.states.ts_s[3, 0] = split.questions.now_s[3] + 1
    with pytest.raises(TrainingError, match=r"1 of \d+ states hold events from after their question"):
        refuse_leaks(split, known)


def test_state_that_has_the_answer_is_refused() -> None:
    split = temporal_next(Log.of(worlds.two_tastes()), seed=1)
    later = replace(split.questions, place=split.questions.place + 1)
    with pytest.raises(TrainingError, match="right answers are in the state of their users"):
        refuse_leaks(split, later.known(split.history))


def test_answer_among_the_items_seen_long_before_is_refused() -> None:
    split = temporal_next(Log.of(worlds.two_tastes()), seed=1)
    known = split.known()
    known.states.seen[:, 0] = (split.questions.wanted.values >> np.uint64(32)).astype(np.uint32)
    known.states.seen_count[:] = 1
    with pytest.raises(TrainingError, match="right answers are among the items seen before"):
        refuse_leaks(split, known)
