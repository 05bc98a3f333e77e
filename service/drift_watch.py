"""Looks for drift again and again beside what serves, and tells which alarms are on."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from recsys.errors import RecsysError
from service import metrics
from service.drift import Look, look
from service.errors import ServiceError
from service.settings import Settings
from service.telemetry.readings import Readings

LOOK_S = 600.0  # an hour of service is looked at once, when it is over
_log = logging.getLogger("ray.serve")


class DriftWatch:
    """The looks of one home.

    Args:
        url: Of the store. compute: Runs a function with arguments, elsewhere: a look takes seconds of a processor.

    Attributes:
        latest: What was found last; None before the first look.
    """

    def __init__(self, settings: Settings, url: str, compute: Callable[..., Any]) -> None:
        self._settings, self._url, self._compute = settings, url, compute
        self._on: dict[tuple[str, ...], float] = {}
        self._looked = time.monotonic()  # until the first look: since this began
        self.latest: Look | None = None

    async def run(self) -> None:
        """Look for ever; what cannot be looked at is tried again."""
        while True:
            await self.step()
            await asyncio.sleep(LOOK_S)

    async def step(self) -> None:
        """One look. Where it fails, what was found before goes on to be told, and its age grows."""
        try:
            found = await asyncio.to_thread(self._compute, look, self._settings, self._url)
        except (RecsysError, ServiceError, OSError, RuntimeError) as error:
            _log.warning("drift cannot be looked at: %s", error)
            return
        except Exception:  # a bug: the next look may do better
            _log.exception("drift cannot be looked at")
            return
        on = {(one.kind, one.subject) for one in found.alarms}
        for one in on - {known for known, value in self._on.items() if value}:
            _log.warning("drift of %s", " ".join(one))
        self._on = {known: float(known in on) for known in {*self._on, *on}}  # what is over is told as 0, not left out
        self._looked, self.latest = time.monotonic(), found

    def tell(self, readings: Readings) -> None:
        """Add it to the readings of its process."""
        readings.add(metrics.DRIFT, lambda: self._on)
        readings.value(metrics.DRIFT_LOOKED, lambda: time.monotonic() - self._looked)
