"""What training starts from is what the settings say."""

from pathlib import Path

import msgspec
import pytest

from recsys.training.train import train, write
from service.errors import SettingsError
from service.settings import load
from service.training import base_recipe, comparable_champion
from service.world import registry
from tests import worlds


def test_recipe_is_that_of_the_settings() -> None:
    environ = {"RIFFLE_SEED": "11", "RIFFLE_HELD_OUT": "0.05", "RIFFLE_OBJECTIVE": '{"purchase": 3}'}
    recipe = base_recipe(load(environ=environ))
    assert (recipe.seed, recipe.held_out, recipe.objective) == (11, 0.05, {"purchase": 3.0})


def test_champion_that_held_out_less_is_not_asked_what_it_has_learnt(tmp_path: Path) -> None:
    dataset = worlds.two_tastes()
    settings = load(environ={"RIFFLE_HOME": str(tmp_path), "RIFFLE_HELD_OUT": "0.1"})
    trained = train(dataset, msgspec.structs.replace(worlds.SMALL, held_out=0.1))
    write(trained, dataset, tmp_path / "bundle", code_commit="", parent=None)
    bundles = registry(settings)
    bundles.promote(bundles.publish(tmp_path / "bundle"), reason="the only one", who="test")
    assert comparable_champion(settings, dataset) is not None
    for share, compared in ((0.05, True), (0.3, False)):
        other = msgspec.structs.replace(settings, held_out=share)
        assert (comparable_champion(other, dataset) is not None) == compared


@pytest.mark.parametrize("share", ["0", "0.6", "-0.1", "half"])
def test_share_that_leaves_nothing_to_learn_or_to_ask_is_refused(share: str) -> None:
    with pytest.raises(SettingsError, match="held_out"):
        load(environ={"RIFFLE_HELD_OUT": share})
