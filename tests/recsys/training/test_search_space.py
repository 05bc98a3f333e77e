"""What may be searched holds the default recipe, and no corner of it is a recipe that could not be served."""

import msgspec
import pytest

from recsys.bundle import Recipe
from recsys.training.search_space import SPACE, Choice, Range, as_json, space_hash, values_of, with_values


def ends(one: Range | Choice) -> tuple[float, ...]:
    return one.values if isinstance(one, Choice) else (one.low, one.high)


def test_default_recipe_lies_in_the_space() -> None:
    assert with_values(Recipe(), values_of(Recipe(), SPACE)) == Recipe()


@pytest.mark.parametrize("one", SPACE, ids=lambda one: one.name)
def test_every_end_of_a_range_is_a_recipe(one: Range | Choice) -> None:
    for value in ends(one):
        assert one.holds(value)
        plain = msgspec.to_builtins(with_values(Recipe(), {one.name: value}))
        assert getattr(msgspec.convert(plain, Recipe), one.name) == value


def test_recipe_outside_the_space_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="the recipe has factors = 16"):
        values_of(Recipe(factors=16), SPACE)
    with pytest.raises(ValueError, match="the recipe has trees = 1"):
        values_of(Recipe(trees=1), SPACE)


def test_whole_numbers_stay_whole() -> None:
    depth = Range("depth", 3, 6)
    assert depth.holds(4)
    assert not depth.holds(4.0)


def test_another_space_has_another_hash() -> None:
    wider = (*SPACE[:-1], Range("l2_leaf_reg", 1.0, 200.0, log=True))
    assert space_hash(SPACE) == space_hash(tuple(SPACE))
    assert space_hash(wider) != space_hash(SPACE)
    assert msgspec.json.decode(msgspec.json.encode(as_json(SPACE))) == as_json(SPACE)
