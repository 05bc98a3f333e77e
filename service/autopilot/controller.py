"""Steps the autopilot for ever; what cannot be told or kept is waited for."""

import asyncio
import logging

from recsys.errors import RecsysError
from service.autopilot.pilot import Pilot
from service.autopilot.run import Run
from service.errors import ServiceError

LOOK_S = 30.0  # whether a run is due: the archive is read for it
STEP_S = 2.0  # between looks at a run under way
_log = logging.getLogger("ray.serve")


class AutopilotController:
    """The loop.

    Attributes:
        said: What was done or found last.
    """

    def __init__(self, pilot: Pilot) -> None:
        self._pilot = pilot
        self.said = "has not looked yet"

    async def run(self) -> None:
        """Step for ever."""
        while True:
            run = await asyncio.to_thread(self._step)
            await asyncio.sleep(STEP_S if run is not None and run.outcome is None else LOOK_S)

    def _step(self) -> Run | None:
        try:
            run, said = self._pilot.step()
        except (ServiceError, RecsysError, OSError) as error:
            run, said = None, f"waits: {error}"
        except Exception:  # a bug: what is under way holds, and the next look may do better
            _log.exception("the autopilot holds")
            return None
        if run is not None and said != self.said:
            _log.warning("%s", said)
        self.said = said
        return run
