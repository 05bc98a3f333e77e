"""Which strength of ALS a log asks for."""

import numpy as np
import pytest

from recsys.bundle import Bundle, Recipe
from recsys.training.choose_als import STRENGTHS, choose_als
from recsys.training.fit import fit, with_als
from recsys.training.learn import fit_models
from recsys.training.log import Log
from recsys.training.splits import Split, temporal_next
from tests import worlds

USELESS = (10.0, 1e9)  # all factors are next to nothing


@pytest.fixture(scope="module")
def split() -> Split:
    return temporal_next(Log.of(worlds.two_tastes()), seed=7)


@pytest.fixture(scope="module")
def bundle(split: Split) -> Bundle:
    return fit(worlds.two_tastes(), split.past, worlds.SMALL, until_s=split.until_s)


def chosen(bundle: Bundle, split: Split, *strengths: tuple[float, float]) -> Bundle:
    known = split.questions.known(split.history)
    return choose_als(bundle, split.past, split.questions, known, strengths=strengths)


def strength(recipe: Recipe) -> tuple[float, float]:
    return recipe.als_alpha, recipe.als_regularization


def test_a_strength_that_finds_nothing_is_not_chosen_wherever_it_stands(bundle: Bundle, split: Split) -> None:
    good = (10.0, 0.1)
    for strengths in ((good, USELESS), (USELESS, good)):
        found = chosen(bundle, split, *strengths)
        assert strength(found.recipe) == good
        assert not found.recipe.choose_als


def test_of_equals_the_first_is_chosen(bundle: Bundle, split: Split) -> None:
    assert strength(chosen(bundle, split, (3.0, 0.1), (3.0, 0.1)).recipe) == (3.0, 0.1)


def test_the_factors_are_those_of_the_strength(bundle: Bundle, split: Split) -> None:
    found = chosen(bundle, split, USELESS)
    assert np.abs(found.factors).max() < 1e-3
    again = with_als(found, split.past)
    assert again.factors.tobytes() == found.factors.tobytes()
    assert again.gram.tobytes() == found.gram.tobytes()
    assert with_als(bundle, split.past).factors.tobytes() == bundle.factors.tobytes()


@pytest.mark.parametrize("choose", [True, False])
def test_all_models_of_a_training_have_one_strength(choose: bool) -> None:
    data = worlds.two_tastes()
    past = temporal_next(Log.of(data), seed=7).past
    recipe = Recipe(factors=8, spectral_factors=8, als_iterations=3, als_alpha=4.0, choose_als=choose)
    models = fit_models(data, past, temporal_next, recipe)
    of = {strength(one.recipe) for one in (models.fitted, *(world.bundle for world in models.worlds))}
    assert len(of) == 1
    assert of <= set(STRENGTHS) if choose else of == {(4.0, 0.1)}
