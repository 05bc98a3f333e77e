"""What training starts from is what the settings say."""

import pytest

from service.errors import SettingsError
from service.settings import load
from service.training import base_recipe


def test_recipe_is_that_of_the_settings() -> None:
    environ = {"RIFFLE_SEED": "11", "RIFFLE_HELD_OUT": "0.05", "RIFFLE_OBJECTIVE": '{"purchase": 3}'}
    recipe = base_recipe(load(environ=environ))
    assert (recipe.seed, recipe.held_out, recipe.objective) == (11, 0.05, {"purchase": 3.0})


@pytest.mark.parametrize("share", ["0", "0.6", "-0.1", "half"])
def test_share_that_leaves_nothing_to_learn_or_to_ask_is_refused(share: str) -> None:
    with pytest.raises(SettingsError, match="held_out"):
        load(environ={"RIFFLE_HELD_OUT": share})
