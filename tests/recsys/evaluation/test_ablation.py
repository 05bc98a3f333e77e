"""One switch at a time, on the chain, where only what happened last counts."""

import numpy as np
import pytest

from recsys.evaluation.ablation import AS_IT_IS, Outcome, Variant, ablate, markdown, variants
from recsys.features.matrix import NAMES
from recsys.training.learn import Models, fit_models
from recsys.training.log import Log
from recsys.training.splits import Split, temporal_next
from tests import worlds


@pytest.fixture(scope="module")
def split() -> Split:
    return temporal_next(Log.of(worlds.chain()), seed=1)


@pytest.fixture(scope="module")
def models(split: Split) -> Models:
    return fit_models(worlds.chain(), split.past, temporal_next, worlds.SMALL)


@pytest.fixture(scope="module")
def outcomes(models: Models, split: Split) -> dict[str, Outcome]:
    questions = split.questions
    told: list[int] = []
    switches = variants(worlds.SMALL, 200)
    found = ablate(models, worlds.SMALL, switches, questions, split.known(), progress=told.append)
    assert sum(told) == len(found) == len(switches)
    return {one.name: one for one in found}


def test_ranker_that_reads_nothing_of_the_user_and_the_item_together_loses_a_chain(
    models: Models, split: Split
) -> None:
    crossed = tuple(name for name in NAMES if name.startswith("cross_"))
    switches = [Variant("all", {}, 200), Variant("none crossed", {"ignored_features": crossed}, 200)]
    every, none = ablate(models, worlds.SMALL, switches, split.questions, split.known())
    assert every.ndcg.mean > 0.85
    assert none.difference.high < -0.4


def test_pipeline_as_it_is_differs_from_itself_by_nothing(outcomes: dict[str, Outcome]) -> None:
    assert outcomes[AS_IT_IS].difference == (0, 0, 0)


def test_fewer_candidates_find_fewer_answers(models: Models, split: Split) -> None:
    two = [Variant("few", {"sources": ("POPULAR",)}, 31), Variant("all", {"sources": ("POPULAR",)}, 40)]
    few, every = ablate(models, worlds.SMALL, two, split.questions, split.known())
    assert few.found < every.found == 1


def test_table_has_a_line_for_each_outcome(outcomes: dict[str, Outcome]) -> None:
    lines = markdown(list(outcomes.values()), {"commit": "abc"}).splitlines()
    table, conditions = lines[:-2], lines[-2:]
    assert len(table) == 2 + len(outcomes)
    assert all(line.count("|") == 8 for line in table)
    assert conditions == ["", "commit abc."]
    assert all(np.isfinite([one.request_us, one.rank_us]).all() and one.bundle_mb > 0 for one in outcomes.values())
