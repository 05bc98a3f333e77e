"""What a search found is trained with only where it is surely better, and the report says which it was."""

import json
from dataclasses import replace

import pytest

from recsys.bundle import Recipe
from recsys.evaluation.bootstrap import Interval
from recsys.training.search_report import Search, Winner
from recsys.training.search_space import SPACE

VALUES = {one.name: getattr(Recipe(), one.name) for one in SPACE} | {"trees": 77, "als_alpha": 2.5}
BETTER = Winner(VALUES, 0.15, 0.14, Interval(0.01, 0.002, 0.018))
UNSURE = replace(BETTER, difference=Interval(0.01, 0.0, 0.02))


def search(winner: Winner | None) -> Search:
    return Search(
        base=Recipe(seed=3),
        space=SPACE,
        protocol="temporal-next",
        questions=2500,
        users=200,
        seed=3,
        parallel=2,
        trials=12,
        failed=1,
        winner=winner,
    )


def test_winner_that_is_surely_better_is_trained_with() -> None:
    found = search(BETTER)
    assert (found.chosen, found.recipe) == (
        "winner",
        Recipe(seed=3, trees=77, als_alpha=2.5, choose_als=False),
    )


@pytest.mark.parametrize(("users", "few"), [(29, True), (30, False)])
def test_few_users_of_the_validation_are_named(users: int, few: bool) -> None:
    found = replace(search(BETTER), users=users)
    assert found.to_json()["few_users"] == few
    assert ("too narrow" in found.sentence()) == ("too narrow" in found.markdown()) == few


@pytest.mark.parametrize("winner", [UNSURE, None], ids=["interval reaches 0", "nothing ended"])
def test_default_stays_where_nothing_is_surely_better(winner: Winner | None) -> None:
    found = search(winner)
    assert (found.chosen, found.recipe) == ("default", Recipe(seed=3))
    assert "the default recipe stays" in found.sentence()
    assert "the default recipe stays" in found.markdown()


def test_report_has_space_winner_default_and_interval() -> None:
    text, plain = search(BETTER).markdown(), search(BETTER).to_json()
    assert all(f"| {one.name} |" in text for one in SPACE)
    assert "| trees | 50 to 200, log | 200 | 77 |" in text
    assert "| factors | 32, 64, 96, 128 | 64 | 64 |" in text
    assert "NDCG@10 0.1500, the default 0.1400, +0.010 [+0.002, +0.018]" in text
    assert "on the questions that it was chosen by" in search(BETTER).sentence()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["winner"]["difference"] == {"mean": 0.01, "low": 0.002, "high": 0.018}
    assert (plain["trials"], plain["failed"], plain["seed"], plain["chosen"]) == (12, 1, 3, "winner")
    assert len(plain["space"]) == len(SPACE)
