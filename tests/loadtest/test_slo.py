"""What a load test calls a pass, and what its processes tell each other."""

from collections import Counter
from dataclasses import replace
from math import nan

import pytest

from loadtest.locust_nodes import Node, percentile, rounded_up
from loadtest.slo import Limits, Outcome, judge, merged

LIMITS = Limits()


def outcome(
    *,
    requests: int = 10_000,
    failures: int = 1,
    lists: int = 1000,
    degraded: int = 10,
    p99_ms: int = 100,
    late_ms: int = 20,
    busiest: float = 0.9,
    lost: int = 0,
    exceptions: int = 0,
) -> Outcome:
    """Exactly at every limit, unless told otherwise."""
    node = Node(lists=lists, degraded=degraded, causes=Counter({"ranking timeout": degraded}), busiest=busiest)
    node.late_ms = Counter({0: 989, late_ms: 11})
    response_ms = {"lists": {5: 989, p99_ms: 11}, "events": {4: 1000}}
    return Outcome(requests, failures, response_ms, [Node(), node], exceptions=exceptions, lost=lost)


def test_what_is_at_its_limits_is_a_pass_with_the_figures_in_one_line() -> None:
    found = judge(outcome(), LIMITS)
    assert found.passed
    (line,) = found.lines()
    assert line == (
        "Load test passed: p99 of lists 100 ms, p99 of events 4 ms, 1 of 10,000 requests failed, 10 of 1,000 lists "
        "degraded, generator at most 20 ms late at p99 and 90% of a core."
    )


@pytest.mark.parametrize(
    ("measured", "sentence"),
    [
        (outcome(p99_ms=101), "SLO breach: p99 of lists was 101 ms; the limit is 100 ms."),
        (outcome(failures=2), "SLO breach: 0.020% of requests failed; the limit is 0.01%."),
        (
            outcome(degraded=11),
            "SLO breach: 1.100% of lists were degraded (ranking timeout 11 times); the limit is 1%.",
        ),
    ],
)
def test_breach_is_one_sentence_with_figure_and_limit(measured: Outcome, sentence: str) -> None:
    found = judge(measured, LIMITS)
    assert not found.passed
    assert (found.breaches, found.doubts) == ([sentence], [])
    assert found.lines()[0].startswith("Load test failed: ")


@pytest.mark.parametrize(
    ("measured", "says"),
    [
        (outcome(late_ms=21), "bottleneck: its event loop was 21 ms late at p99, the limit is 20 ms"),
        (
            outcome(busiest=0.91),
            "bottleneck: a process of it used 91% of a core in its worst seconds, the limit is 90%",
        ),
        (outcome(lost=1), "1 of 2 processes sent no last report"),
        (outcome(exceptions=3), "The load test itself failed 3 times"),
        (Outcome(0, 0, {}, [Node()]), "Nothing was measured"),
    ],
)
def test_measurement_that_does_not_hold_is_no_pass_though_the_service_breached_nothing(
    measured: Outcome, says: str
) -> None:
    found = judge(measured, LIMITS)
    assert not found.passed
    assert found.breaches == []
    (doubt,) = found.doubts
    assert says in doubt
    assert found.lines()[0].startswith("Load test is not a pass: ")


def test_late_generator_that_used_little_is_told_to_take_cores_of_its_own() -> None:
    (busy,), (idle,) = (judge(outcome(late_ms=300, busiest=share), LIMITS).doubts for share in (0.8, 0.03))
    assert busy.endswith("take fewer users.")
    assert idle.endswith("give it cores of its own.")


def test_every_breach_has_its_own_sentence() -> None:
    found = judge(outcome(p99_ms=500, failures=100, degraded=500, late_ms=300), LIMITS)
    assert len(found.breaches) == 3
    assert len(found.lines()) == 5


@pytest.mark.parametrize("name", ["p99_ms", "errors", "degraded", "lag_ms", "cpu"])
def test_limit_that_is_no_number_is_exceeded(name: str) -> None:
    assert not judge(outcome(), replace(LIMITS, **{name: nan})).passed


def test_what_a_worker_takes_apart_the_master_puts_together() -> None:
    worker, master = Node(), Node()
    worker.list_came([])
    worker.list_came(["lookup timeout", "ranking timeout"])
    worker.late_ms[3] += 2
    worker.busiest = 0.5
    master.add(worker.take())
    assert worker == Node()
    worker.list_came(["ranking timeout"])
    worker.late_ms[3] += 1
    worker.busiest = 0.4
    worker.ended = True
    master.add(worker.take())
    causes = Counter({"ranking timeout": 2, "lookup timeout": 1})
    assert master == Node(lists=3, degraded=2, causes=causes, late_ms=Counter({3: 3}), busiest=0.5, ended=True)
    assert worker.take()["ended"]


def test_report_holds_nothing_but_plain_values() -> None:
    worker = Node()
    worker.list_came(["ranking timeout"])
    assert {type(value) for value in worker.take().values()} == {int, dict, float, bool}


def test_percentile_is_the_smallest_value_that_enough_do_not_exceed() -> None:
    assert percentile({1: 99, 50: 1}, 0.99) == 1
    assert percentile({1: 98, 50: 2}, 0.99) == 50
    assert percentile({7: 1}, 0.99) == 7
    assert percentile({}, 0.99) == 0
    assert percentile(merged([{1: 98}, {50: 2}]), 0.99) == 50


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.0, 0), (0.2, 1), (99.5, 100), (100.1, 101), (999.9, 1000), (1001.0, 1010), (12_345.6, 12_400)],
)
def test_response_time_is_rounded_up_so_that_no_breach_is_rounded_away(value: float, rounded: int) -> None:
    assert rounded_up(value) == rounded
