"""The telemetry of one process: what it reads of itself, to whom that is told, and every how many seconds."""

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from service import metrics, openapi
from service.settings import Settings
from service.telemetry import logs
from service.telemetry.loop_lag import LoopLag
from service.telemetry.otlp import Collector
from service.telemetry.outbox import Outbox
from service.telemetry.pseudonyms import Pseudonyms
from service.telemetry.readings import Readings, Taken
from service.telemetry.requests import RequestWatch
from service.telemetry.trace import Sampler

REPORT_S = 5.0
_log = logging.getLogger(__name__)


class ProcessTelemetry:
    """Of a replica; made in its event loop.

    Args:
        process: What it is called in metrics and traces: "gateway", "updater".
        tell: Is given each reading; Ray's metrics.

    Attributes:
        readings: To be given what else this process tells.
        pseudonyms: What its logs and traces call users.
    """

    def __init__(self, settings: Settings, process: str, tell: Callable[[Taken], None]) -> None:
        logs.attach()
        self.readings, self.pseudonyms = Readings(), Pseudonyms(settings.log_key)
        if not settings.log_key:
            _log.warning("there is no log_key: logs and traces name no users")
        self._share, self._lag = settings.trace_sample, LoopLag()
        self._tell = [tell]
        self._outbox = Outbox()
        self._collector: Collector | None = None
        if settings.otlp_endpoint:
            resource = {
                "service.name": f"riffle-{process}",
                "service.version": openapi.version(),
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
            self._collector = Collector(settings.otlp_endpoint, self._outbox, resource)
            self._tell.append(self._collector.tell)
            self._collector.start()
        self.readings.distribution(metrics.LOOP_LAG, lambda: {(process,): self._lag.late_s})
        self.readings.counts(metrics.CPU, lambda: {process: time.process_time()})
        self.readings.add(metrics.TELEMETRY, lambda: {(process, what): n for what, n in self._sent().items()})

    def request_watch(self) -> RequestWatch:
        """What watches the requests of this process."""
        return RequestWatch(Sampler(self._share), self._outbox.put if self._collector else lambda _: None)

    async def report(self, look: Callable[[], Awaitable[None]] | None = None) -> None:
        """Read and tell, for ever. look: What is to be looked up before each reading."""
        lag = asyncio.get_running_loop().create_task(self._lag.look())
        try:
            while True:
                await asyncio.sleep(REPORT_S)
                try:
                    if look is not None:
                        await look()
                    taken = self.readings.take()
                    for tell in self._tell:
                        tell(taken)
                    logs.flush()
                except Exception:  # a bug: metrics stand still for a moment, requests do not
                    _log.exception("metrics could not be told")
        finally:
            lag.cancel()

    def _sent(self) -> Counter[str]:
        return Counter({**self._outbox.counts, **(self._collector.counts if self._collector else {})})
