"""Which requests are traced: by a share, or by the caller's decision; and that nothing is made for the others."""

import pytest

from service.telemetry import trace
from service.telemetry.trace import Sampler, Trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def begun(sampler: Sampler, traceparent: bytes | None = None) -> Trace | None:
    raw = [] if traceparent is None else [(b"traceparent", traceparent)]
    return sampler.begin(dict(raw), raw)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_share_of_requests_is_traced(share: float) -> None:
    sampler = Sampler(share)
    traced = sum(begun(sampler) is not None for _ in range(20_000))
    assert traced == pytest.approx(20_000 * share, abs=5 * (20_000 * share * (1 - share)) ** 0.5)


def test_request_that_is_not_sampled_makes_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a trace was made")

    monkeypatch.setattr(trace, "Trace", refuse)
    assert [begun(Sampler(0.0)) for _ in range(100)] == [None] * 100
    assert begun(Sampler(1.0), f"00-{TRACE}-{SPAN}-00".encode()) is None


def test_new_trace_is_sampled_by_the_lower_half_of_its_id() -> None:
    """As OpenTelemetry's TraceIdRatioBased does, so that others decide alike."""
    found = [one for one in (begun(Sampler(0.25)) for _ in range(500)) if one]
    assert found
    assert all(one.trace_id & (2**64 - 1) < 0.25 * 2**64 for one in found)
    assert len({one.trace_id for one in found}) == len({one.span_id for one in found}) == len(found)


def test_callers_decision_holds_whatever_the_share() -> None:
    sampled = begun(Sampler(0.0), f"00-{TRACE}-{SPAN}-01".encode())
    assert sampled is not None
    assert (f"{sampled.trace_id:032x}", f"{sampled.parent.span_id:016x}") == (TRACE, SPAN)  # type: ignore[union-attr]


def test_malformed_traceparent_begins_a_trace_of_its_own() -> None:
    found = begun(Sampler(1.0), b"00-zz")
    assert found is not None
    assert found.parent is None
