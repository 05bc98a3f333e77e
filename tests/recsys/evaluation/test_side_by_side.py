"""Two versions measured apart are compared on what both were asked, whatever order and numbers each has for it."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from recsys.errors import DatasetError
from recsys.evaluation.bootstrap import mean_interval, paired_difference
from recsys.evaluation.compare import Asked, compare
from recsys.evaluation.measurement import Measurement, measure, names_of
from recsys.evaluation.side_by_side import side_by_side
from recsys.training.log import Log
from recsys.training.splits import temporal_next
from recsys.types import World
from tests import worlds

DATA = worlds.two_tastes()
change = msgspec.structs.replace


@pytest.fixture(scope="module")
def measured(tastes: World) -> Measurement:
    split = temporal_next(Log.of(DATA), seed=1)
    asked = Asked(split.questions, split.known())
    return measure(tastes, asked, DATA.user_id, protocol="Asked so.", commit="abc", size_bytes=2**21, seed=1)


def other(measured: Measurement, *, plus: float = 0.0, **fields: object) -> Measurement:
    """The same questions in another order, all values moved."""
    order = np.random.default_rng(1).permutation(len(measured.question)).tolist()
    values = {name: [one[at] + plus for at in order] for name, one in measured.values.items()}
    moved = {"question": [measured.question[at] for at in order], "user": [measured.user[at] for at in order]}
    return change(measured, **{"bundle": "other", "values": values, **moved, **fields})


def test_measurement_has_the_figures_of_an_evaluation(measured: Measurement, tastes: World) -> None:
    split = temporal_next(Log.of(DATA), seed=1)
    report = compare(tastes, Asked(split.questions, split.known()), protocol="Asked so.", seed=1, beside={})
    for name, values in measured.values.items():
        assert np.mean(values) == pytest.approx(report.rows[0].metrics[name].mean)
    assert measured.beyond == report.rows[0].beyond
    assert measured.cpu_ms > 0
    assert len(set(measured.question)) == len(measured.question) == report.questions


def test_measurement_is_the_same_after_it_was_written(measured: Measurement) -> None:
    assert Measurement.read(msgspec.json.encode(measured), "m.json") == measured


def test_names_of_questions_do_not_depend_on_numbers() -> None:
    """Other users, who come first, number everybody anew; who is asked for what and when stays."""
    split = temporal_next(Log.of(DATA), seed=1)
    users = ["new-a", "new-b", *DATA.user_id]
    renumbered = replace(split.questions, user=split.questions.user + np.int32(2))
    assert names_of(renumbered, users) == names_of(split.questions, DATA.user_id)


def test_differences_are_paired_by_question(measured: Measurement) -> None:
    rng = np.random.default_rng(5)
    gain = rng.random(len(measured.question)) * 0.2
    better = change(
        measured, values={n: (np.array(one) + gain).tolist() for n, one in measured.values.items()}, bundle="better"
    )
    found = side_by_side(measured, other(better), seed=7)
    before = np.array(measured.values["NDCG@10"])
    user = np.array(measured.user, np.uint64)
    base, head, difference = found.quality["NDCG@10"]
    assert base.mean == pytest.approx(before.mean())
    assert head.mean == pytest.approx((before + gain).mean())
    assert difference.mean == pytest.approx(gain.mean())
    expected = paired_difference(before + gain, before, user, seed=7)
    assert difference == pytest.approx(expected)
    assert difference.low > 0
    apart = mean_interval(before, user, seed=7)
    assert difference.high - difference.low < apart.high - apart.low
    assert found.passed


def test_sure_loss_fails_and_what_chance_allows_does_not(measured: Measurement) -> None:
    worse = side_by_side(measured, other(measured, plus=-0.1), seed=7)
    assert not worse.passed
    assert "surely worse" in worse.markdown()
    assert f"✗ NDCG@10: {-0.1:+.3f}" in worse.markdown()
    same = side_by_side(measured, other(measured), seed=7)
    assert same.passed
    assert same.markdown().count("within chance") == len(measured.values)


@pytest.mark.parametrize(("field", "value"), [("cpu_ms", 1e9), ("size_bytes", 2**40)])
def test_cost_beyond_its_limit_fails(measured: Measurement, field: str, value: float) -> None:
    found = side_by_side(measured, other(measured, **{field: value}), seed=7)
    assert [one.passed for one in found.lines].count(False) == 1


def test_only_what_both_were_asked_is_compared_and_the_rest_counted(measured: Measurement) -> None:
    n = len(measured.question)
    half = change(
        measured,
        question=measured.question[: n // 2],
        user=measured.user[: n // 2],
        values={name: one[: n // 2] for name, one in measured.values.items()},
    )
    found = side_by_side(half, other(measured), seed=7)
    assert found.asked == (n // 2, n - n // 2)
    assert "only one of them was asked" in found.markdown()
    strangers = change(measured, question=[f"{at}" for at in range(n)])
    with pytest.raises(DatasetError, match="0 questions of 0 users in common"):
        side_by_side(strangers, measured, seed=7)


def test_table_has_costs_of_both_where_both_have_them(measured: Measurement) -> None:
    timed = change(measured, training={"wall_s": 10.0, "cpu_s": 16.0, "peak_mb": 900.0})
    found = side_by_side(timed, other(timed, training={"wall_s": 5.0, "cpu_s": 8.0, "peak_mb": 900.0}), seed=7)
    assert "| training, s | 10.0 | 5.0 | 0.50 times | |" in found.markdown()
    assert "| bundle, MB | 2.00 | 2.00 | 1.00 times | |" in found.markdown()
    assert "training" not in side_by_side(timed, other(measured, training={}), seed=7).markdown().split("Intervals")[0]
    assert json.loads(found.to_json())["costs"]["wall_s"] == [10.0, 5.0]


@pytest.mark.parametrize(
    "content",
    [
        lambda one: b"{}",  # noqa: ARG005
        lambda one: one[:100],
        lambda one: one.replace(b'"version":1', b'"version":2'),
        lambda one: one.replace(b'"user":[', b'"user":[5,'),
    ],
)
def test_what_is_no_measurement_is_refused(measured: Measurement, content: object) -> None:
    with pytest.raises(DatasetError, match=r"m\.json is"):
        Measurement.read(content(msgspec.json.encode(measured)), "m.json")  # type: ignore[operator]


def test_measurement_without_the_headline_cannot_be_judged(measured: Measurement) -> None:
    without = change(measured, values={"HR@10": measured.values["HR@10"]})
    with pytest.raises(DatasetError, match=r"has no NDCG@10"):
        side_by_side(without, measured, seed=7)
