"""What a feature is, and the hash that ties states, bundles and decisions to one ordered set of definitions."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Feature:
    """One versioned definition.

    Attributes:
        name: Unique; `user_`, `item_` or `cross_` first.
        version: Raised with every change of meaning, default or code.
        default: The value where nothing is known.
        meaning: One sentence, for people.
        grain: What one value belongs to: "user" values are [b], "item" values [N], "cell" values [m].
        value: The definition: float32 values at the grain, of a Frame, or for items of ItemStats. Pure; row `i` depends
            on row `i` alone.
    """

    name: str
    version: int
    default: float
    meaning: str
    grain: Literal["user", "item", "cell"]
    value: Callable[[Any], np.ndarray]


def schema_hash(features: Sequence[Feature], state_layout: int) -> str:
    """SHA-256, hexadecimal, of the ordered definitions and the user-state layout they read."""
    described = [[f.name, f.version, "float32", f.default, f.meaning, f.grain] for f in features]
    return hashlib.sha256(json.dumps([state_layout, described], separators=(",", ":")).encode()).hexdigest()
