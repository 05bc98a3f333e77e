"""Evaluation on worlds whose answers are known, and its report."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys.evaluation import ease
from recsys.evaluation.answers import ask
from recsys.evaluation.baselines import baselines, with_ease
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.compare import METRICS, Asked, compare
from recsys.evaluation.plots import plot_pipelines
from recsys.evaluation.report import Report, Row
from recsys.evaluation.staleness import stale
from recsys.training.log import Log
from recsys.training.questions import Questions
from recsys.training.splits import Split, after, held_out_items, temporal_next
from recsys.training.train import Trained
from recsys.types import World
from tests import worlds

ROWS = ["two-stage", "ALS", "spectral", "item-item", "last-item transitions", "popularity", "popularity of all time"]


def ndcg(report: Report) -> dict[str, float]:
    return {row.name: row.metrics["NDCG@10"].mean for row in report.rows}


@pytest.fixture(scope="module")
def split(chain_trained: Trained) -> Split:
    return after(Log.of(worlds.chain()), chain_trained.window[1], per_user=20, seed=1)


def evaluate(
    world: World, split: Split, questions: Questions, *, seed: int = 1, told: list[int] | None = None
) -> Report:
    asked = Asked(questions, questions.known(split.history))
    progress = (lambda _: None) if told is None else told.append
    return compare(world, asked, protocol="", seed=seed, beside=baselines(world), progress=progress)


def test_next_step_of_a_chain_is_found_by_two_stages_and_not_by_popularity(chain_trained: Trained) -> None:
    """A visit of 12 steps has 11 next steps and one start that nobody can know: 11/12 = 0.92 at best, about."""
    found = ndcg(chain_trained.report)
    assert found["two-stage"] > 0.85
    assert found["last-item transitions"] > 0.85
    assert found["popularity"] < 0.4
    assert chain_trained.report.differences["NDCG@10 over popularity"].low > 0.4
    assert chain_trained.report.retrieved == 1


def test_taste_is_found_by_als_and_half_of_it_by_popularity(tastes: World) -> None:
    split = temporal_next(Log.of(worlds.two_tastes()), seed=1)
    report = evaluate(tastes, split, split.questions)
    found = {row.name: row.metrics["Recall@20"].mean for row in report.rows}
    assert found["two-stage"] == 1
    assert found["ALS"] > 0.85
    assert found["item-item"] > 0.85
    assert found["popularity"] < 0.7


def test_answers_dealt_at_random_are_found_no_better_than_by_chance(chain: World, split: Split) -> None:
    """No part of the evaluation may look at the answer."""
    asked = split.questions
    dealt = replace(asked, wanted=asked.wanted.take(np.random.default_rng(1).permutation(len(asked))))
    honest, blind = (ndcg(evaluate(chain, split, one))["two-stage"] for one in (asked, dealt))
    chance = np.mean(1 / np.log2(np.arange(10) + 2)) * 10 / worlds.CHAIN_ITEMS
    assert honest > 0.85
    assert blind < 2 * chance


def test_same_seed_gives_the_same_report(chain: World, split: Split) -> None:
    told: list[int] = []
    first, again = (evaluate(chain, split, split.questions, seed=3, told=told) for _ in range(2))
    assert first == again
    assert sum(told) == 2 * len(ROWS) * len(split.questions)


def test_questions_of_a_partial_batch_are_answered_as_in_a_whole_one(chain: World, split: Split) -> None:
    asked = split.questions
    whole = ask(chain, asked, asked.known(split.history), seed=1)
    some = asked.take(np.arange(33))
    part = ask(chain, some, some.known(split.history), seed=1)
    assert part.rank.tolist() == whole.rank[:33].tolist()
    assert part.lists.tolist() == whole.lists[:33].tolist()


def test_answers_with_several_right_ones_are_judged_by_all_of_them(tastes: World) -> None:
    split = held_out_items(Log.of(worlds.two_tastes()), seed=1)
    found = ask(tastes, split.questions, split.known(), seed=1)
    assert (found.wanted > 1).all()
    key = tastes.bundle.vocabulary.key
    for row in range(5):
        wanted = split.questions.wanted[row].tolist()
        shown = key[found.lists[row][found.lists[row] >= 0]].tolist()
        expected = [one in wanted for one in shown[:10]]
        assert found.hits(10)[row, : len(expected)].tolist() == expected
        start = split.questions.wanted.indptr[row]
        places = [shown.index(one) if one in shown else -1 for one in wanted]
        assert found.rank[start : start + len(wanted)].tolist() == places


def test_segments_hold_every_answer_once_and_shares_add_up(trained: Trained) -> None:
    report = trained.report
    for kind in ("users", "items"):
        parts = [one for name, one in report.segments.items() if name.startswith(kind)]
        assert sum(one["answers"] for one in parts) == report.questions
        hits = sum(one["answers"] * one["two-stage"] for one in parts)
        assert hits / report.questions == pytest.approx(report.rows[0].metrics["HR@10"].mean)
        assert max(one["users"] for one in parts) <= report.users <= sum(one["users"] for one in parts)


def test_kinds_count_the_items_that_came_up(tastes: World) -> None:
    """Nobody has met `untouched`, of both categories, but lists of ten of a shelf of twenty hold all others."""
    split = temporal_next(Log.of(worlds.two_tastes()), seed=1)
    asked = Asked(split.questions, split.known())
    report = compare(tastes, asked, protocol="Asked so.", seed=1, beside={})
    assert {name: one["items"] for name, one in report.kinds.items()} == {"left": 21, "right": 21}
    answers = ask(tastes, split.questions, asked.known, seed=1)
    shown = {tastes.bundle.vocabulary.item_id[row] for row in np.unique(answers.lists[:, :10]) if row >= 0}
    for name, one in report.kinds.items():
        assert one["shown"] == sum(item.startswith(name) or item == worlds.UNTOUCHED for item in shown) > 0


def test_ease_is_the_closed_form_of_its_paper(tastes: World) -> None:
    """Steck 2019: the diagonal of the weights is 0, and each column solves a ridge regression without itself."""
    log = Log.of(worlds.two_tastes())
    split = temporal_next(log, seed=1)
    (pipeline,) = with_ease(tastes, split.past).values()
    known = split.known()
    found = ask(pipeline.world, split.questions, known, score=pipeline.score, seed=1)
    row = tastes.bundle.vocabulary.rows(split.past.key)
    taken = np.zeros((60, len(tastes.bundle.vocabulary)))
    taken[split.past.user, row] = 1
    inverse = np.linalg.inv(taken.T @ taken + 500 * np.eye(taken.shape[1]))
    weight = -inverse / np.diag(inverse)
    np.fill_diagonal(weight, 0)
    for question in range(0, len(split.questions), 20):
        own = tastes.bundle.vocabulary.rows(known.states.item_key[question])
        own = own[own >= 0]
        score = weight[own].sum(axis=0)
        score[own] = -np.inf
        shown = found.lists[question][found.lists[question] >= 0]
        np.testing.assert_allclose(score[shown], np.sort(score)[::-1][: len(shown)], rtol=1e-3)


def test_ease_is_not_run_where_its_matrix_would_not_fit(chain: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "MOST_ITEMS", 10)
    assert with_ease(chain, Log.of(worlds.chain())) == {}


def test_stale_states_lack_what_was_just_done_and_lose_what_it_says(chain: World, split: Split) -> None:
    """A step of the chain is 60 s after the one before: a state that is a minute old lacks none, one of an hour all."""
    asked, log = split.questions, split.history
    minute, hour = stale(log, asked, 60), stale(log, asked, 3600)
    fresh = asked.known(log)
    assert minute.states.events.tolist() == fresh.states.events.tolist()
    assert hour.states.events.max() == 0
    assert hour.excluded.lengths().tolist() == fresh.states.events.tolist()
    known = Asked(asked, fresh)
    report = compare(chain, known, protocol="", seed=1, beside={}, also={"1 h": hour})
    assert report.differences["NDCG@10 over 1 h"].low > 0.3


def test_pictures_are_written(trained: Trained, tmp_path: Path) -> None:
    plot_pipelines(trained.report, "A title", tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_report_names_every_pipeline_metric_and_difference(trained: Trained) -> None:
    report = trained.report
    assert [row.name for row in report.rows] == ROWS
    assert all(set(row.metrics) == set(METRICS) for row in report.rows)
    assert set(report.differences) == {f"{m} over {name}" for m in METRICS for name in ROWS[1:]}
    for row in report.rows:
        assert set(row.beyond) == {"coverage", "Gini", "novelty", "diversity", "miscalibration"}
        assert 0 < row.beyond["coverage"] <= 1
        assert all(0 <= one.low <= one.mean <= one.high <= 1 for one in row.metrics.values())
    for metric in METRICS:
        ours, als = (report.rows[i].metrics[metric].mean for i in (0, 1))
        assert report.differences[f"{metric} over ALS"].mean == pytest.approx(ours - als)


def test_report_survives_json(trained: Trained) -> None:
    text = json.dumps(trained.report.to_json(), allow_nan=False)
    assert Report.from_json(json.loads(text)) == trained.report


@pytest.mark.parametrize(("users", "few"), [(29, True), (30, False)])
def test_few_users_are_named_in_json_and_markdown(trained: Trained, users: int, few: bool) -> None:
    report = replace(trained.report, users=users)
    assert (report.to_json()["users"], report.to_json()["few_users"]) == (users, few)
    assert ("too narrow" in report.markdown().splitlines()[0]) == few
    assert Report.from_json(report.to_json()) == report


def test_markdown_holds_every_row_every_difference_and_the_protocol() -> None:
    half = Interval(0.5, 0.4, 0.6)
    report = Report(
        protocol="Asked so.",
        questions=12_345,
        users=67,
        rows=(
            Row("ours", {"NDCG@10": half, "Recall@20": half}, {"coverage": 0.125}),
            Row("theirs", {"NDCG@10": half, "Recall@20": half}, {"coverage": 1.0}),
        ),
        differences={"NDCG@10 over theirs": Interval(-0.1, -0.2, 0.05)},
        retrieved=0.978,
        segments={"users, all": {"answers": 1234.0, "ours": 0.5, "theirs": 0.25}},
    )
    assert report.markdown().splitlines() == [
        "Asked so. 12,345 questions of 67 users.",
        "",
        "|  | NDCG@10 | Recall@20 | coverage |",
        "|---|---|---|---|",
        "| ours | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] | 0.125 |",
        "| theirs | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] | 1.000 |",
        "",
        "- NDCG@10 over theirs: -0.100 [-0.200, +0.050]",
        "- answers among the candidates: 97.8%",
        "",
        "Share of the right answers in the first ten:",
        "",
        "| | answers | ours | theirs |",
        "|---|---|---|---|",
        "| users, all | 1,234 | 0.500 | 0.250 |",
    ]
