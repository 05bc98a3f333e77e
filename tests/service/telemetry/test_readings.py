"""What a process tells of itself, and that nothing is told that Prometheus could not tell apart."""

import numpy as np
import pytest

from service import metrics
from service.errors import MetricsError
from service.histogram import INFINITY, Histogram
from service.metrics import Metric
from service.telemetry.readings import Readings


def test_reading_is_of_the_moment_it_is_taken() -> None:
    counts = {"applied": 1}
    readings = Readings()
    readings.counts(metrics.UPDATER, lambda: dict(counts))
    counts["applied"] = 4
    assert readings.take() == {metrics.UPDATER: {("applied",): 4}}


def test_distribution_is_told_by_bound_and_as_a_sum() -> None:
    seen = Histogram((1.0, 2.0))
    seen.observe(np.array([0.5, 1.5, 9.0]))
    readings = Readings()
    readings.distribution(metrics.STAGE_S, lambda: {("rank",): seen})
    taken = readings.take()
    assert taken[metrics.STAGE_S.buckets] == {("rank", "1"): 1, ("rank", "2"): 2, ("rank", INFINITY): 3}
    assert taken[metrics.STAGE_S.total] == {("rank",): 11.0}


def test_metric_is_told_once_and_only_if_it_is_listed() -> None:
    readings = Readings()
    readings.value(metrics.ROOM, lambda: 1)
    for metric in (metrics.ROOM, Metric("riffle_unlisted", "gauge", "")):
        with pytest.raises(MetricsError, match=metric.name):
            readings.value(metric, lambda: 1)


def test_metrics_of_the_service_do_not_clash() -> None:
    metrics.check(metrics.ALL)


@pytest.mark.parametrize(
    "clashing",
    [
        [Metric("x", "counter", ""), Metric("x_total", "gauge", "")],
        [Metric("x", "counter", "one"), Metric("x", "counter", "other")],
        [Metric("x", "gauge", ""), Metric("x", "gauge", "", ("tag",))],
    ],
)
def test_metrics_that_would_have_one_name_are_refused(clashing: list[Metric]) -> None:
    with pytest.raises(MetricsError, match="would both be ray_x"):
        metrics.check(clashing)


@pytest.mark.parametrize(
    "metric", [Metric("a-b", "gauge", ""), Metric("", "gauge", ""), Metric("a", "gauge", "", ("job",))]
)
def test_names_that_are_not_ours_to_give_are_refused(metric: Metric) -> None:
    with pytest.raises(MetricsError, match="is no name"):
        metrics.check([metric])


def test_clash_is_found_before_anything_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "ALL", (*metrics.ALL, Metric("riffle_requests_total", "gauge", "")))
    with pytest.raises(MetricsError, match="would both be ray_riffle_requests_total"):
        Readings()
