"""From what was noted of sampled requests to spans of the OpenTelemetry SDK; in the exporter's thread alone.

A request is a server span with a child for each stage of its micro-batch. The micro-batch is a span of its own trace:
it links to each sampled request in it, and these link back. Names follow the semantic conventions for HTTP
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/). Cost: about 0.2 ms a request, its encoding included.
"""

from collections.abc import Sequence

from opentelemetry import trace as api
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from service.telemetry.trace import Batch, Trace

_SAMPLED = api.TraceFlags(api.TraceFlags.SAMPLED)
_SERVER_ERROR = 500


class _Ids(RandomIdGenerator):
    """Gives the ids that were chosen when the request came; others are random."""

    def __init__(self) -> None:
        self.chosen: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        return self.chosen[0] if self.chosen else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self.chosen[1] if self.chosen else super().generate_span_id()


class _Ended(SpanProcessor):
    """Keeps what has ended, until it is taken."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class SpanMaker:
    """Makes spans. resource: Of this process."""

    def __init__(self, resource: Resource) -> None:
        self._ids, self._ended = _Ids(), _Ended()
        provider = TracerProvider(resource=resource, sampler=ALWAYS_ON, id_generator=self._ids, shutdown_on_exit=False)
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("riffle")

    def of(self, traces: Sequence[Trace]) -> list[ReadableSpan]:
        """The spans of some requests, and once each of the micro-batches that they were in."""
        batches: dict[int, tuple[Batch, Trace]] = {}
        for one in traces:
            if one.batch is not None:
                batches.setdefault(one.batch.span_id, (one.batch, one))
            self._request(one)
        for batch, clock in batches.values():
            self._batch(batch, clock)
        made, self._ended.spans = self._ended.spans, []
        return made

    def _request(self, one: Trace) -> None:
        kind = api.SpanKind.SERVER
        attributes = {
            "http.request.method": one.method,
            "http.route": one.route,
            "http.response.status_code": one.status,
            **one.facts,
        }
        within = api.set_span_in_context(api.NonRecordingSpan(_caller(one))) if one.parent else None
        self._ids.chosen = (one.trace_id, one.span_id)
        span = self._tracer.start_span(
            f"{one.method} {one.route}",
            within,
            kind=kind,
            attributes=attributes,
            links=[api.Link(_context(one.batch.trace_id, one.batch.span_id))] if one.batch else (),
            start_time=one.at_ns(one.began),
        )
        self._ids.chosen = None
        if one.status >= _SERVER_ERROR:
            span.set_status(api.StatusCode.ERROR)
        inner = api.set_span_in_context(span)
        for stage, began, ended in one.stages:
            child = self._tracer.start_span(stage, inner, start_time=one.at_ns(began))
            child.end(one.at_ns(ended))
        span.end(one.at_ns(one.ended))

    def _batch(self, batch: Batch, clock: Trace) -> None:
        self._ids.chosen = (batch.trace_id, batch.span_id)
        span = self._tracer.start_span(
            "micro-batch",
            attributes={
                "riffle.batch.requests": batch.size,
                "riffle.batch.sampled": len(batch.members),
                "riffle.bundle": batch.bundle,
            },
            links=[api.Link(_context(*member)) for member in batch.members],
            start_time=clock.at_ns(batch.began),
        )
        self._ids.chosen = None
        span.end(clock.at_ns(batch.ended))


def _caller(one: Trace) -> api.SpanContext:
    assert one.parent is not None
    state = api.TraceState.from_header([one.parent.state]) if one.parent.state else None
    return api.SpanContext(one.parent.trace_id, one.parent.span_id, True, _SAMPLED, state)


def _context(trace_id: int, span_id: int) -> api.SpanContext:
    return api.SpanContext(trace_id, span_id, False, _SAMPLED)
