"""No answer may be known where it is asked for: neither to the models nor to the state.

Kaufman, Rosset, Perlich, "Leakage in Data Mining: Formulation, Detection, and Avoidance", KDD 2011: what is learnt from
has to be legitimate at the moment of the question, and that is checked, not assumed.
"""

import numpy as np

from recsys.errors import TrainingError
from recsys.features.user import fingerprint
from recsys.training.questions import Known
from recsys.training.splits import Split


def refuse_leaks(split: Split, known: Known) -> None:
    """Check a division of the log and what is known at its questions.

    Args:
        known: Of `split.questions`.
    Raises:
        TrainingError: a right answer is in what may be learnt from, or in the state of the one who is asked; or either
            holds something from after its moment.
    """
    questions = split.questions
    wanted, row = questions.wanted.values, questions.wanted.rows()
    learnt = _in_pairs(questions.user[row], wanted, split.past.user, split.past.key)
    states = known.states
    ring = (states.item_key[row] == wanted[:, None]).any(axis=1)
    older = np.zeros(len(wanted), bool)
    for start in range(0, len(row), 4096):  # of up to 3,072 fingerprints each
        some = slice(start, start + 4096)
        of = row[some]
        held = np.arange(states.seen.shape[1]) < states.seen_count[of, None]
        older[some] = ((states.seen[of] == fingerprint(wanted[some])[:, None]) & held).any(axis=1)
    for leak, where in ((learnt, "what models learn from"), (ring, "the state of their users")):
        if leak.any():
            raise TrainingError(
                f"{np.count_nonzero(leak)} of {len(wanted)} right answers are in {where}: what is asked must not be "
                "known; divide the data so that no user-item pair is on both sides"
            )
    # 32 bits agree by chance once in 10^6 lists of thousands of items; more than that is no chance.
    if np.count_nonzero(older) > 1 + 0.001 * len(wanted):
        raise TrainingError(f"{np.count_nonzero(older)} of {len(wanted)} right answers are among the items seen before")
    if len(split.past) and int(split.past.ts_s[-1]) >= split.until_s:
        raise TrainingError("models learn from events after the moment at which the log is divided")
    newest_s = known.states.ts_s.max(axis=1, initial=0)
    if (late := newest_s > questions.now_s).any():
        raise TrainingError(f"{np.count_nonzero(late)} of {len(late)} states hold events from after their question")


def _in_pairs(user: np.ndarray, key: np.ndarray, of_user: np.ndarray, of_key: np.ndarray) -> np.ndarray:
    """Whether each pair is among others, bool."""
    number = np.unique(np.concatenate([key, of_key]), return_inverse=True)[1]
    return np.isin(
        user.astype(np.int64) << 32 | number[: len(key)], of_user.astype(np.int64) << 32 | number[len(key) :]
    )
