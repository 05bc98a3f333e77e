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


def described(features: Sequence[Feature]) -> list[dict[str, Any]]:
    """The definitions as plain values, in order: what a bundle's manifest says of them."""
    return [
        {
            "name": one.name,
            "version": one.version,
            "dtype": "float32",
            "default": one.default,
            "meaning": one.meaning,
            "grain": one.grain,
        }
        for one in features
    ]


def schema_hash(features: Sequence[Feature], state_layout: int) -> str:
    """SHA-256, hexadecimal, of the ordered definitions and the user-state layout they read."""
    values = [list(one.values()) for one in described(features)]
    return hashlib.sha256(json.dumps([state_layout, values], separators=(",", ":")).encode()).hexdigest()


def difference(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> list[str]:
    """One sentence for each definition that was added, removed, moved or changed; as `described` gives them."""
    old, new = ({one["name"]: (place, one) for place, one in enumerate(side, 1)} for side in (before, after))
    changes = [f"removed: {name}" for name in old if name not in new]
    for name, (place, one) in new.items():
        if name not in old:
            changes.append(f"added: {name}, version {one['version']}: {one['meaning']}")
            continue
        place_before, one_before = old[name]
        parts = [
            f"{key} {one_before.get(key)!r} -> {value!r}" for key, value in one.items() if one_before.get(key) != value
        ]
        if place_before != place:
            parts.append(f"place {place_before} -> {place}")
        if parts:
            changes.append(f"changed: {name}: {', '.join(parts)}")
    return changes
