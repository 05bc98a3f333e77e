"""Traces and metrics to an OpenTelemetry collector (OTLP over HTTP), from threads of their own.

A collector that is down, slow or hostile costs what waits for it and nothing else: the queue is bounded, its answers
are read up to a limit, redirects are not followed, and no thread of it holds up the end of the process.
"""

import io
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from service.metrics import ALL, Metric
from service.telemetry.outbox import Outbox
from service.telemetry.readings import Taken
from service.telemetry.spans import SpanMaker

TIMEOUT_S = 5.0  # of one attempt to send, its retries included
PAUSE_S = 5.0  # an export costs 2 ms however little it has
AT_ONCE = 32  # traces, each of about seven spans: 3 ms in which the event loop may wait for the interpreter's lock
BREATH_S = 0.01
METRICS_EVERY_S = 10.0
_ANSWER_BYTES = 65_536  # of a collector; beyond it nobody reads on
_log = logging.getLogger(__name__)


class Collector(threading.Thread):
    """Sends what waits in an outbox, and the last reading of the metrics.

    Args:
        endpoint: http(s)://host:port of the collector. resource: Attributes of this process.

    Attributes:
        counts: Traces "sent", and "refused" where the collector did not take them.
    """

    def __init__(self, endpoint: str, outbox: Outbox, resource: dict[str, str], timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(name="otlp", daemon=True)
        self._endpoint, self._outbox, self._timeout_s = endpoint.rstrip("/"), outbox, timeout_s
        self._resource = Resource.create(resource)
        self._stopped = threading.Event()
        self._taken: Taken = {}
        self._metrics: MeterProvider | None = None
        self.counts: Counter[str] = Counter(sent=0, refused=0)

    def tell(self, taken: Taken) -> None:
        """Keep the last reading for the next time that metrics are sent."""
        self._taken = taken

    def run(self) -> None:
        """Until it is stopped."""
        try:
            self._send()
        except Exception:  # such as variables of OpenTelemetry in the environment that it does not take
            _log.exception("nothing is sent to the collector %s", self._endpoint)

    def _send(self) -> None:
        for name in ("opentelemetry.exporter", "opentelemetry.sdk"):  # a line for each failure, for hours
            logging.getLogger(name).setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(
            f"{self._endpoint}/v1/traces", timeout=self._timeout_s, session=BoundedSession(self._timeout_s)
        )
        maker = SpanMaker(self._resource)
        self._metrics = self._send_metrics()
        while not self._stopped.wait(PAUSE_S):
            while not self._stopped.is_set() and (traces := self._outbox.take(AT_ONCE)):
                try:
                    done = exporter.export(maker.of(traces)) is SpanExportResult.SUCCESS
                except Exception:  # whatever a collector can make of a library: this thread goes on
                    _log.exception("traces could not be sent")
                    done = False
                if not done and not self.counts["refused"]:
                    _log.warning("the collector %s takes no traces; they are dropped and counted", self._endpoint)
                self.counts["sent" if done else "refused"] += len(traces)
                self._stopped.wait(BREATH_S)
        exporter.shutdown()

    def stop(self) -> None:
        """End it; what waits is lost."""
        self._stopped.set()
        if self._metrics is not None:
            threading.Thread(target=partial(self._metrics.shutdown, timeout_millis=1_000), daemon=True).start()

    def _send_metrics(self) -> MeterProvider:
        exporter = OTLPMetricExporter(
            f"{self._endpoint}/v1/metrics", timeout=self._timeout_s, session=BoundedSession(self._timeout_s)
        )
        reader = PeriodicExportingMetricReader(
            exporter, METRICS_EVERY_S * 1e3, export_timeout_millis=self._timeout_s * 1e3
        )
        provider = MeterProvider([reader], self._resource, shutdown_on_exit=False)
        meter = provider.get_meter("riffle")
        for metric in ALL:
            make = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
            make(metric.name, [self._observed(metric)], description=metric.description)
        return provider

    def _observed(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for values, value in self._taken.get(metric, {}).items():
                yield Observation(value, dict(zip(metric.tags, values, strict=True)))

        return observe


class BoundedSession(requests.Session):
    """Reads so many bytes of an answer, for so many seconds, and no more."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """As `requests.Session.request`; the end of a longer answer is missing."""
        until = monotonic() + self._timeout_s
        with super().request(*args, **{**kwargs, "stream": True}) as response:
            read = bytearray()
            while len(read) < _ANSWER_BYTES and monotonic() < until:
                if not (more := response.raw.read1(_ANSWER_BYTES - len(read))):
                    break
                read += more
        response.raw = io.BytesIO(bytes(read))
        return response
