"""The headers of W3C Trace Context: what is one, and that nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.telemetry.traceparent import Parent, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def sent(*values: str, state: tuple[bytes, ...] = ()) -> list[tuple[bytes, bytes]]:
    return [(b"traceparent", value.encode()) for value in values] + [(b"tracestate", one) for one in state]


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("03", True), ("fe", False)])
def test_callers_span_is_read_with_its_decision(flags: str, sampled: bool) -> None:
    assert parse(sent(f"00-{TRACE}-{SPAN}-{flags}")) == Parent(int(TRACE, 16), int(SPAN, 16), sampled, "")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        "00-" + "a" * 100_000,
    ],
)
def test_malformed_header_is_none(value: str) -> None:
    assert parse(sent(value)) is None


def test_two_headers_are_none() -> None:
    assert parse(sent(f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01")) is None


def test_later_version_is_read_as_far_as_this_one_goes() -> None:
    found = parse(sent(f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"))
    assert found is not None
    assert found.trace_id == int(TRACE, 16)


@pytest.mark.parametrize("state", [b"a=" + b"x" * 600, "a=ü".encode()])
def test_tracestate_that_cannot_be_one_is_dropped_alone(state: bytes) -> None:
    found = parse(sent(f"00-{TRACE}-{SPAN}-01", state=(state,)))
    assert found == Parent(int(TRACE, 16), int(SPAN, 16), True, "")


def test_tracestate_in_several_headers_is_one_list() -> None:
    found = parse(sent(f"00-{TRACE}-{SPAN}-01", state=(b"a=1", b"b=2")))
    assert found is not None
    assert found.state == "a=1,b=2"


@given(st.lists(st.tuples(st.sampled_from([b"traceparent", b"tracestate"]), st.binary(max_size=80)), max_size=4))
def test_any_bytes_are_a_span_or_none(headers: list[tuple[bytes, bytes]]) -> None:
    found = parse(headers)
    assert found is None or (found.trace_id > 0 and found.span_id > 0)
