"""What it costs when user states lag behind: the same questions, answered with what was known some time before.

Items met in the meantime are kept out of the lists all the same, so the loss is that of the ranking alone; a service
with stale states would show them too.
"""

import numpy as np

from recsys.training.log import Log
from recsys.training.questions import Known, Questions
from recsys.types import Ragged

STALE_S = {"1 min": 60, "1 h": 3_600, "1 day": 86_400}


def stale(log: Log, questions: Questions, lag_s: int) -> Known:
    """What the log has of each user up to `lag_s` before the question."""
    place = np.minimum(questions.place, np.searchsorted(log.ts_s, questions.now_s - lag_s, side="right"))
    by_user = np.argsort(log.user, kind="stable")
    start = np.searchsorted(log.user[by_user], questions.user)
    end = np.searchsorted(log.user[by_user], questions.user, side="right")
    missed = []
    for row in range(len(questions)):
        own = by_user[start[row] : end[row]]
        first, last = np.searchsorted(own, (place[row], questions.place[row]))
        missed.append(log.key[own[first:last]])
    return Known(log.states_before(questions.user, place), Ragged.of(missed, np.uint64))


def lags(log: Log, questions: Questions) -> dict[str, Known]:
    """`stale` for each of STALE_S."""
    return {f"{name} stale": stale(log, questions, lag_s) for name, lag_s in STALE_S.items()}
