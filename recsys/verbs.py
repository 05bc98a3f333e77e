"""What a user can do to an item, as one byte, and which of it says that the user wants more like it."""

from enum import IntEnum

import numpy as np


class Verb(IntEnum):
    """One interaction's kind. The numbers are stored in user states: never renumber, only append."""

    VIEW = 1
    CLICK = 2
    LIKE = 3  # an explicit like, or a rating at or above the positive threshold
    PURCHASE = 4
    RATING = 5  # a rating below the positive threshold: seen, not wanted
    HIDE = 6


POSITIVE: frozenset[Verb] = frozenset({Verb.VIEW, Verb.CLICK, Verb.LIKE, Verb.PURCHASE})

IS_POSITIVE = np.zeros(256, dtype=bool)  # by verb; compiled code indexes it
IS_POSITIVE[list(POSITIVE)] = True


def is_positive(verb: np.ndarray) -> np.ndarray:
    """True where a verb is a positive; unknown verbs and 0 (an empty slot) are not. uint8 [...] -> bool [...]."""
    return IS_POSITIVE[verb]


EVENT_TYPES = {
    "impression": 0,  # shown: what was shown says nothing of the user, but it is logged
    "view": Verb.VIEW,
    "click": Verb.CLICK,
    "like": Verb.LIKE,
    "purchase": Verb.PURCHASE,
    "rating": Verb.RATING,
    "hide": Verb.HIDE,
}


def verb_of(event_type: str, value: float | None, *, positive_rating: float) -> int:
    """The verb of an event, 0 where it leaves the user's state as it is.

    A rating of at least `positive_rating` is a like, as it is when a data set is imported.
    """
    if event_type == "rating" and value is not None and value >= positive_rating:
        return Verb.LIKE
    return EVENT_TYPES[event_type]
