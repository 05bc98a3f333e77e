"""The open-loop generator against a server of known behaviour."""

from dataclasses import replace

import pytest

from loadtest.open_loop import Outcome, Plan, run
from tests.free_ports import free_port
from tests.loadtest.server import Behaviour, server


def plan(port: int, **changes: object) -> Plan:
    """200 requests/s for a second."""
    one = Plan("127.0.0.1", port, "/", [b'{"user_id":"1"}', b'{"user_id":"2"}'], rates=(200.0,), duration_s=1.0)
    return replace(one, **changes)  # type: ignore[arg-type]


def outcome(behaviour: Behaviour, **changes: object) -> Outcome:
    with server(behaviour) as port:
        return run(plan(port, **changes))


def test_percentiles_see_a_stall_that_a_closed_loop_would_miss() -> None:
    # 5 connections in a closed loop would have 5 slow answers of some 1,000: p99 would not know. Here 40 requests fall
    # due in the 200 ms, a fifth of all; they waited 100 ms on average.
    behaviour = Behaviour(delay_s=0.001, stall=(0.4, 0.6))
    found = outcome(behaviour, connections=100)
    assert found.errors == {}
    assert found.latency_ms["p99"] >= 150
    assert found.latency_ms["p90"] >= 70
    assert found.latency_ms["p50"] < 50
    assert found.latency_ms["max"] >= found.latency_ms["p99.9"] >= found.latency_ms["p99"]


def test_load_goes_on_at_its_rate_while_the_service_is_slow() -> None:
    found = outcome(Behaviour(delay_s=0.3))
    assert found.requests == found.answered
    assert found.scheduled_rps == pytest.approx(200, rel=0.25)
    assert found.achieved_rps == found.scheduled_rps
    assert found.latency_ms["p50"] >= 300
    assert 0 < found.cpu_share < 1


def test_requests_beyond_the_connections_are_counted_as_failures() -> None:
    found = outcome(Behaviour(delay_s=0.1), connections=5)
    assert set(found.errors) == {"no free connection"}
    assert found.answered + found.errors["no free connection"] == found.requests
    assert found.connections_opened == 5
    assert found.achieved_rps < 0.5 * found.scheduled_rps
    assert found.latency_ms["p99"] == 2000  # a failure counts as the whole timeout, not as nothing


def test_refusals_are_counted_by_status() -> None:
    behaviour = Behaviour(refuse_every=10)
    found = outcome(behaviour)
    assert found.errors == {"status 429": len(behaviour.bodies) // 10}
    assert found.requests == len(behaviour.bodies)


def test_times_of_answers_and_of_refusals_are_told_apart() -> None:
    found = outcome(Behaviour(refuse_every=10, delay_s=0.02))
    assert found.no_retry_after == found.errors["status 429"]  # this server does not say when to come back
    assert 20 <= found.answered_ms["p50"] < 100
    assert 20 <= found.refused_ms["p50"] < 100
    assert found.latency_ms["p99"] == 2000


def test_rates_follow_one_another_and_seconds_are_told_apart() -> None:
    found = outcome(Behaviour(stall=(1.5, 1.7)), rates=(50.0, 300.0), duration_s=4.0)
    assert [row["second"] for row in found.by_second] == [0, 1, 2, 3]
    due = [row["due"] for row in found.by_second]
    assert sum(due) == found.requests == sum(row["answered"] for row in found.by_second)
    assert sum(due[:2]) == pytest.approx(100, rel=0.4)
    assert sum(due[2:]) == pytest.approx(600, rel=0.2)
    assert found.by_second[1]["p99"] > 100 > found.by_second[3]["p99"]
    assert found.intended_rps == 175


def test_degraded_answers_are_counted() -> None:
    found = outcome(Behaviour(body=b'{"items":[],"degraded":[{"stage":"ranking"}]}'))
    assert found.degraded == found.answered == found.requests
    assert outcome(Behaviour()).degraded == 0


def test_late_answer_is_a_timeout_and_never_the_answer_of_the_next_request() -> None:
    found = outcome(Behaviour(delay_s=0.001, stall=(0.4, 0.6)), timeout_s=0.05, connections=100)
    assert set(found.errors) == {"timeout"}
    assert found.errors["timeout"] >= 10
    assert 50 <= found.latency_ms["max"] < 150  # an answer that comes just before its timer still counts
    assert found.answered == found.requests - found.errors["timeout"]


def test_connection_that_the_server_closes_is_replaced() -> None:
    behaviour = Behaviour(close_every=20)
    found = outcome(behaviour)
    assert found.errors == {}
    assert found.connections_opened >= found.requests // 20


@pytest.mark.parametrize(
    ("behaviour", "kind"), [(Behaviour(hang_up=True), "connection lost"), (Behaviour(raw=b"hello\r\n\r\n"), "not HTTP")]
)
def test_broken_answers_are_failures_with_their_kind(behaviour: Behaviour, kind: str) -> None:
    found = outcome(behaviour, rates=(50.0,))
    assert found.errors == {kind: found.requests}


def test_service_that_is_not_there_is_a_failure_of_every_request() -> None:
    found = run(plan(free_port(), rates=(50.0,), duration_s=0.3))
    assert found.errors == {"not connected": found.requests}


def test_same_seed_sends_the_same_load() -> None:
    behaviours = [Behaviour(), Behaviour(), Behaviour()]
    found = [outcome(one, duration_s=0.4, seed=seed) for one, seed in zip(behaviours, (1, 1, 2), strict=True)]
    assert found[0].requests == found[1].requests == len(behaviours[0].bodies)
    assert found[2].requests != found[0].requests
    assert sorted(behaviours[0].bodies) == sorted(behaviours[1].bodies)
    assert set(behaviours[0].bodies) == {b'{"user_id":"1"}', b'{"user_id":"2"}'}
