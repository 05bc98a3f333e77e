"""What a hyper-parameter search may choose, as data.

Upper bounds are what serving pays for: factors and trees cost time in every request, neighbours and factors memory for
every item. So the search cannot buy quality with a service that is twice as slow.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from recsys.bundle import Recipe
from recsys.features.user import RING
from recsys.ranking.trees import DEPTH

Value = float | int


@dataclass(frozen=True, slots=True)
class Range:
    """A field of the recipe between two bounds, both allowed; a whole number where the bounds are.

    Attributes:
        log: Drawn so that each doubling is as likely as the next.
    """

    name: str
    low: Value
    high: Value
    log: bool = False

    def holds(self, value: Value) -> bool:
        """Whether a value can be drawn."""
        return isinstance(value, type(self.low)) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Choice:
    """A field of the recipe that takes one of some values."""

    name: str
    values: tuple[Value, ...]

    def holds(self, value: Value) -> bool:
        """Whether a value can be drawn."""
        return value in self.values


Space = tuple[Range | Choice, ...]

SPACE: Space = (
    Range("als_regularization", 0.01, 30.0, log=True),
    Range("als_alpha", 1.0, 100.0, log=True),
    Choice("factors", (32, 64, 96, 128)),
    Choice("spectral_factors", (64, 128, 192, 256)),
    Range("neighbours", 20, 200, log=True),
    Range("recent", 3, min(30, RING), log=True),
    Range("recent_decay", 0.3, 0.95),
    Range("trees", 50, 200, log=True),
    Range("learning_rate", 0.02, 0.3, log=True),
    Range("depth", 3, DEPTH),
    Range("l2_leaf_reg", 1.0, 100.0, log=True),
)


def values_of(recipe: Recipe, space: Space) -> dict[str, Value]:
    """What a recipe has for each parameter.

    Raises:
        ValueError: one of them is outside the space.
    """
    values = {one.name: getattr(recipe, one.name) for one in space}
    if outside := [one for one in space if not one.holds(values[one.name])]:
        raise ValueError(f"the recipe has {outside[0].name} = {values[outside[0].name]}, the space {outside[0]}")
    return values


def with_values(recipe: Recipe, values: dict[str, Value]) -> Recipe:
    """The recipe with these values of a space; where they are not its own, ALS is not chosen anew."""
    changed = msgspec.structs.replace(recipe, **values)
    return recipe if changed == recipe else msgspec.structs.replace(changed, choose_als=False)


def as_json(space: Space) -> list[dict[str, Any]]:
    """Plain JSON values, for reports."""
    return [asdict(one) | ({"values": list(one.values)} if isinstance(one, Choice) else {}) for one in space]


def space_hash(space: Space) -> str:
    """SHA-256 of the space."""
    return hashlib.sha256(json.dumps(as_json(space), sort_keys=True).encode()).hexdigest()
