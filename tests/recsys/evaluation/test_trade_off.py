"""What controls of selection cost, on worlds whose answers are known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys.evaluation.answers import ask, ask_under
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.compare import Asked, beyond_accuracy
from recsys.evaluation.metrics import ndcg_of_hits
from recsys.evaluation.plots import plot_trade_off
from recsys.evaluation.trade_off import DAMPINGS, DIVERSITIES, Point, TradeOff, trade_off
from recsys.training.log import Log
from recsys.training.splits import temporal_next
from recsys.types import Controls, World
from tests import worlds


@pytest.fixture(scope="module")
def asked() -> Asked:
    split = temporal_next(Log.of(worlds.two_tastes()), per_user=5, seed=1)
    return Asked(split.questions, split.known())


@pytest.fixture(scope="module")
def found(tastes: World, asked: Asked) -> TradeOff:
    return trade_off(tastes, asked, protocol="All of it.", seed=1)


def test_lists_without_controls_are_those_of_every_other_evaluation(
    tastes: World, asked: Asked, found: TradeOff
) -> None:
    answers = ask(tastes, asked.questions, asked.known, seed=1)
    plain = found.diversity[0]
    assert plain.quality.mean == pytest.approx(ndcg_of_hits(answers.hits(10), answers.wanted).mean())
    assert plain.change == (0, 0, 0)
    assert plain.beyond == beyond_accuracy(tastes, answers, asked.known) | {"categories": plain.beyond["categories"]}
    assert found.popularity_damping[0] == plain
    assert (found.questions, found.users) == (len(asked.questions), len(np.unique(asked.questions.user)))


def test_diversity_brings_the_other_taste_into_the_list_and_costs_right_answers(found: TradeOff) -> None:
    assert [point.strength for point in found.diversity] == list(DIVERSITIES)
    assert [point.strength for point in found.popularity_damping] == list(DAMPINGS)
    plain, most = found.diversity[0], found.diversity[-1]
    assert most.beyond["diversity"] > plain.beyond["diversity"] + 0.05
    assert most.beyond["categories"] > plain.beyond["categories"]
    assert most.change.high < 0
    assert most.change.mean == pytest.approx(most.quality.mean - plain.quality.mean)


def test_answers_under_several_controls_are_those_under_each_alone(tastes: World, asked: Asked) -> None:
    def strong(b: int) -> Controls:
        return Controls.without_quotas(b, diversity=1)

    told: list[int] = []
    both = ask_under(tastes, asked.questions, asked.known, [strong, lambda _: None], seed=1, progress=told.append)
    assert sum(told) == len(asked.questions)
    (alone,) = ask_under(tastes, asked.questions, asked.known, [strong], seed=1)
    plain = ask(tastes, asked.questions, asked.known, seed=1)
    for one, other in zip(both, (alone, plain), strict=True):
        assert one.lists.tolist() == other.lists.tolist()
        assert one.rank.tolist() == other.rank.tolist()
        assert one.found.tolist() == other.found.tolist()


def point(strength: float, mean: float, low: float, high: float) -> Point:
    return Point(strength, Interval(0.1 + mean, 0.0, 0.2), Interval(mean, low, high), {"diversity": strength})


def test_loss_is_harmless_where_it_is_not_significant_or_at_most_one_percent() -> None:
    assert point(0.1, -0.05, -0.1, 0.0).is_harmless()
    assert point(0.1, -0.001, -0.0011, -0.0009).is_harmless()
    assert not point(0.1, -0.0011, -0.0012, -0.001).is_harmless()
    assert point(0.1, 0.01, 0.005, 0.015).is_harmless()


def test_harmless_diversity_ends_at_the_first_point_that_harms(found: TradeOff) -> None:
    none, good, bad = point(0, 0, 0, 0), point(0.1, 0, -0.1, 0.1), point(0.2, -0.05, -0.06, -0.04)
    assert replace(found, diversity=(none, good, bad, replace(good, strength=0.3))).harmless() == 0.1
    assert replace(found, diversity=(none, bad)).harmless() == 0
    assert replace(found, diversity=(none, good)).harmless() == 0.1


def test_result_is_written_as_table_json_and_picture(found: TradeOff, tmp_path: Path) -> None:
    header, cells = found.table()
    assert len(cells) == len(DIVERSITIES) + len(DAMPINGS)
    assert {len(row) for row in cells} == {len(header)}
    value = json.loads(json.dumps(found.to_json()))
    assert value["diversity"][1]["NDCG@10"]["mean"] == found.diversity[1].quality.mean
    assert value["harmless_diversity"] == found.harmless()
    assert value["few_users"] is False
    assert found.markdown().startswith("All of it. ")
    few = replace(found, users=29)
    assert few.to_json()["few_users"] is True
    assert "Only 29 users" in few.markdown()
    assert "| popularity_damping | 0 | " in found.markdown()
    assert replace(found, conditions={"commit": "abc"}).markdown().endswith("\n\ncommit abc.\n")
    assert replace(found, conditions={"commit": "abc"}).to_json()["conditions"] == {"commit": "abc"}
    plot_trade_off(found, "A title", tmp_path / "trade-off.png")
    assert (tmp_path / "trade-off.png").read_bytes().startswith(b"\x89PNG")
