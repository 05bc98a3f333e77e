"""The headers `traceparent` and `tracestate` of W3C Trace Context (https://www.w3.org/TR/trace-context/, section 3).

HAProxy takes both away from callers who are not trusted (`service.stack.proxy_admission`); what is left is malformed,
or a trace of somebody who may decide that a request is traced.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

HEADER, STATE_HEADER = b"traceparent", b"tracestate"
_SHAPE = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_BYTES = 512


class Parent(NamedTuple):
    """The caller's span: trace id and span id, neither 0; whether it is sampled; its tracestate as it was sent."""

    trace_id: int
    span_id: int
    sampled: bool
    state: str


def parse(headers: Sequence[tuple[bytes, bytes]]) -> Parent | None:
    """The caller's span; None where it is missing or malformed, and the request begins a trace of its own.

    A version that is not known is read as far as version 00 goes. Two of the header are none. A tracestate that is too
    long or not ASCII is dropped alone.
    """
    sent = [value for name, value in headers if name == HEADER]
    found = _SHAPE.fullmatch(sent[0]) if len(sent) == 1 else None
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5] is not None):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    state = b",".join(value for name, value in headers if name == STATE_HEADER)
    kept = state if len(state) <= _STATE_BYTES and state.isascii() else b""
    return Parent(trace_id, span_id, bool(int(found[4], 16) & 1), kept.decode("ascii"))
