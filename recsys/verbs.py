"""What a user can do to an item, as one byte, and how much it says that the user wants more like it.

A verb of one's own has a weight and no number: its weight is its byte. So a state says what its interactions weigh,
whatever is configured by now, and no list of numbers has to be kept for as long as there are states.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta


class Verb(IntEnum):
    """One interaction's kind. The numbers are stored in user states: never renumber, only append."""

    VIEW = 1
    CLICK = 2
    LIKE = 3  # an explicit like, or a rating at or above the positive threshold
    PURCHASE = 4
    RATING = 5  # a rating below the positive threshold: seen, not wanted
    HIDE = 6


POSITIVE: frozenset[Verb] = frozenset({Verb.VIEW, Verb.CLICK, Verb.LIKE, Verb.PURCHASE})

# What a positive of each kind is worth to the ranker, 1 where it is not named. A verb of one's own is worth its weight.
Objective = dict[Literal["view", "click", "like", "purchase"], Annotated[float, Meta(ge=0.0, le=100.0)]]

_CUSTOM = 100  # the verb of one's own that weighs nothing; each tenth of weight is one more
MAX_WEIGHT = 10.0

# By verb, float32 [256]: how many likes it is worth; 0 for verbs that are no positives. Compiled code indexes both.
WEIGHT = np.zeros(256, np.float32)
WEIGHT[list(POSITIVE)] = 1
WEIGHT[_CUSTOM : _CUSTOM + 101] = np.arange(101) / 10
IS_POSITIVE = WEIGHT > 0


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
MERGED = "merged"  # the type of an interaction of another id that now is this user's; with the verb that it had
RESERVED = frozenset({*EVENT_TYPES, MERGED})


def event_types(weights: Mapping[str, float]) -> dict[str, int]:
    """The verb of each type of event, those of one's own included; 0 leaves the user's state as it is.

    Args:
        weights: Of verbs of one's own, by type; 0 is seen, not wanted.
    Raises:
        ValueError: a type is there already, or a weight is not 0 to MAX_WEIGHT in tenths.
    """
    types: dict[str, int] = dict(EVENT_TYPES)
    for name, weight in weights.items():
        if name in RESERVED:
            raise ValueError(f"{name} is a type of its own; call yours otherwise")
        tenths = round(10 * weight)
        if not 0 <= weight <= MAX_WEIGHT or abs(tenths - 10 * weight) > 1e-6:
            raise ValueError(f"{name} weighs {weight}, not 0 to {MAX_WEIGHT:g} in tenths")
        types[name] = _CUSTOM + tenths
    return types
