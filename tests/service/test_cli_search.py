"""`riffle train --budget`, without a Ray: what the report asks is what no trial of the search was given."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.bundle import Recipe
from recsys.datasets.dataset import Timing
from recsys.datasets.detect import read_dataset
from recsys.evaluation.report import Report
from recsys.manifest import read_manifest
from recsys.training.questions import Questions
from recsys.training.search import Validation
from recsys.training.splits import Split
from recsys.training.train import judge
from recsys.types import World
from service.cli.model import train_and_publish
from service.settings import Settings
from service.world import registry
from tests import worlds
from tests.service.test_cli import Home, refused, write_csv

TRIALS = 4
Pairs = set[tuple[int, int]]


class Workers:
    """Trials in this process, the default recipe's bad and all others good; keeps what they are given."""

    given: list[Validation]

    def __init__(self, validation: Validation) -> None:
        self.given.append(validation)
        self._questions, self._recipes, self._ended = len(validation.questions), list[Recipe](), 0

    def start(self, recipe: Recipe) -> int:
        self._recipes.append(recipe)
        return len(self._recipes) - 1

    def ended(self, jobs: Sequence[Any], timeout_s: float) -> list[tuple[Any, np.ndarray | Exception]]:
        assert timeout_s > 0
        if self._ended == TRIALS:
            raise KeyboardInterrupt
        self._ended += 1
        value = 0.1 if self._recipes[jobs[0]] == self._recipes[0] else 0.9
        return [(jobs[0], np.full(self._questions, value))]


def asked(questions: Questions) -> Pairs:
    """Who is asked for what."""
    return set(zip(questions.user[questions.wanted.rows()].tolist(), questions.wanted.values.tolist(), strict=True))


@pytest.fixture(autouse=True)
def workers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials without a Ray."""
    monkeypatch.setattr(Workers, "given", [], raising=False)
    monkeypatch.setitem(sys.modules, "service.trials", SimpleNamespace(RayWorkers=Workers))
    monkeypatch.setattr("service.cli.search.local_ray", lambda *_, **__: nullcontext())


def test_search_on_data_that_are_not_imported_is_in_a_bundle_that_names_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    other = write_csv(tmp_path / "other shop", worlds.two_tastes(seed=5))
    run = home.riffle("train", "--data", str(other), "--budget", "1h")
    assert run.code == 0, run
    assert "Not promoted: its data were not imported" in run.out
    assert home.registry.champion() is None
    (manifest,) = home.registry.list()
    read = read_dataset(other, positive_rating=Settings().positive_rating)
    assert manifest.fields["dataset"]["name"] == read.name == "other-shop"
    assert manifest.fields["dataset"]["fingerprint"] == read.fingerprint == Workers.given[0].dataset.fingerprint
    assert manifest.fields["search"]["chosen"] == "winner"
    assert "no data set is imported" in refused(home.riffle("train"))


@pytest.mark.parametrize("timing", ["exact", "order", "none"])
def test_report_is_on_questions_that_no_trial_was_given(
    timing: Timing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[Split] = []

    def kept(world: World, split: Split, *rest: Any, **named: Any) -> Report:
        judged.append(split)
        return judge(world, split, *rest, **named)

    monkeypatch.setattr("recsys.training.train.judge", kept)
    settings = Settings(home=str(tmp_path))
    data = replace(worlds.two_tastes(), timing=timing)
    report, bundle_id, _ = train_and_publish(settings, data, promote=True, budget_s=600, parallel=1)
    (validation,), (split,) = Workers.given, judged
    past = set(zip(validation.past.user.tolist(), validation.past.key.tolist(), strict=True))
    assert len(past) > len(asked(validation.questions)) > 0
    assert report.questions == len(split.questions)
    assert not asked(split.questions) & (asked(validation.questions) | past)
    search = read_manifest(registry(settings).path(bundle_id)).fields["search"]
    assert (search["trials"], search["chosen"], search["winner"]["value"]) == (TRIALS, "winner", pytest.approx(0.9))
    assert report.rows[0].metrics["NDCG@10"].mean != pytest.approx(0.9)
