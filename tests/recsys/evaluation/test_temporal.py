"""Evaluation on worlds whose answers are known, and its report."""

import json

import numpy as np
import pytest

from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.report import Report, Row
from recsys.evaluation.temporal import evaluate
from recsys.training.log import Log, NextItem
from recsys.training.train import Trained
from recsys.types import World
from tests import worlds

ROWS = ["two-stage", "ALS", "popularity"]


def ndcg(report: Report) -> dict[str, float]:
    return {row.name: row.metrics["NDCG@10"].mean for row in report.rows}


@pytest.fixture(scope="module")
def questions(chain_trained: Trained) -> tuple[Log, NextItem]:
    log = Log.of(worlds.chain())
    return log, NextItem.sample(log, start_s=chain_trained.window[1], end_s=None, per_user=20, seed=1)


def test_next_step_of_a_chain_is_found_by_two_stages_and_not_by_popularity(chain_trained: Trained) -> None:
    """A visit of 12 steps has 11 next steps and one start that nobody can know: 11/12 = 0.92 at best, about."""
    found = ndcg(chain_trained.report)
    assert found["two-stage"] > 0.85
    assert found["popularity"] < 0.4
    assert chain_trained.report.differences["NDCG@10 over popularity"].low > 0.4
    assert chain_trained.report.retrieved == 1


def test_taste_is_found_by_als_and_half_of_it_by_popularity(tastes: World) -> None:
    log = Log.of(worlds.two_tastes())
    asked = NextItem.sample(log, start_s=log.moment(0.8), end_s=None, per_user=20, seed=1)
    report = evaluate(tastes, log, asked, seed=1)
    found = {row.name: row.metrics["Recall@20"].mean for row in report.rows}
    assert found["two-stage"] == 1
    assert found["ALS"] > 0.85
    assert found["popularity"] < 0.7


def test_answers_dealt_at_random_are_found_no_better_than_by_chance(
    chain: World, questions: tuple[Log, NextItem]
) -> None:
    """No part of the evaluation may look at the answer."""
    log, asked = questions
    dealt = NextItem(asked.user, asked.ts_s, np.random.default_rng(1).permutation(asked.key))
    honest, blind = (ndcg(evaluate(chain, log, one, seed=1))["two-stage"] for one in (asked, dealt))
    chance = np.mean(1 / np.log2(np.arange(10) + 2)) * 10 / worlds.CHAIN_ITEMS
    assert honest > 0.85
    assert blind < 2 * chance


def test_same_seed_gives_the_same_report(chain: World, questions: tuple[Log, NextItem]) -> None:
    log, asked = questions
    told: list[int] = []
    first, again = (evaluate(chain, log, asked, seed=3, progress=told.append) for _ in range(2))
    assert first == again
    assert sum(told) == 2 * 3 * len(asked)


def test_questions_of_a_partial_batch_are_answered_as_in_a_whole_one(
    chain: World, questions: tuple[Log, NextItem]
) -> None:
    log, asked = questions
    whole = evaluate(chain, log, asked, seed=1)
    assert whole.questions == len(asked) > 33
    assert whole.users == len(np.unique(asked.user))
    most = NextItem(asked.user[:33], asked.ts_s[:33], asked.key[:33])
    assert evaluate(chain, log, most, seed=1).questions == 33


def test_report_names_every_pipeline_metric_and_difference(trained: Trained) -> None:
    report = trained.report
    assert [row.name for row in report.rows] == ROWS
    assert all(set(row.metrics) == {"NDCG@10", "Recall@20"} for row in report.rows)
    assert set(report.differences) == {f"{m} over {name}" for m in ("NDCG@10", "Recall@20") for name in ROWS[1:]}
    for row in report.rows:
        assert 0 < row.coverage <= 1
        assert all(0 <= one.low <= one.mean <= one.high <= 1 for one in row.metrics.values())
    for metric in ("NDCG@10", "Recall@20"):
        ours, als = (report.rows[i].metrics[metric].mean for i in (0, 1))
        assert report.differences[f"{metric} over ALS"].mean == pytest.approx(ours - als)


def test_report_survives_json(trained: Trained) -> None:
    text = json.dumps(trained.report.to_json(), allow_nan=False)
    assert Report.from_json(json.loads(text)) == trained.report


def test_markdown_holds_every_row_every_difference_and_the_protocol() -> None:
    half = Interval(0.5, 0.4, 0.6)
    report = Report(
        protocol="Asked so.",
        questions=12_345,
        users=67,
        rows=(
            Row("ours", {"NDCG@10": half, "Recall@20": half}, 0.125),
            Row("theirs", {"NDCG@10": half, "Recall@20": half}, 1.0),
        ),
        differences={"NDCG@10 over theirs": Interval(-0.1, -0.2, 0.05)},
        retrieved=0.978,
    )
    assert report.markdown().splitlines() == [
        "Asked so. 12,345 questions of 67 users.",
        "",
        "|  | NDCG@10 | Recall@20 | coverage |",
        "|---|---|---|---|",
        "| ours | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] | 12.5% |",
        "| theirs | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] | 100.0% |",
        "",
        "- NDCG@10 over theirs: -0.100 [-0.200, +0.050]",
        "- answers among the candidates: 97.8%",
    ]
