"""How many gateways the load asks for: a policy for Serve's autoscaler, over what each gateway says of itself.

Serve's own signal is requests under way. They hardly change between a tenth and nine tenths of a gateway's capacity (a
micro-batch answers whoever has come), and once requests are shed they do not change either. Decision 0025.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

METRIC = "load"
TARGET = 0.6  # load of a gateway; at more its tail grows, and one of three may be lost
AFTER_REMOVAL = 0.5  # load of those left, at most; the gap to TARGET keeps a steady load from swinging
LOOK_BACK_S = 12.0  # six reports of each gateway; Serve wants more than its ten seconds
UPSCALE_DELAY_S = 2.0


class LoadMeter:
    """How much of itself a gateway uses: 1 is all of it, more is demand that it had to refuse.

    Args:
        waiting: The predicted wait of one more request as a share of what it may be, 1 where requests are shed.
        asked: Requests so far, those refused among them. shed: Of these, the refused ones.
        cpu_s: Processor seconds of this process so far. now_s: A monotonic clock.
    """

    def __init__(
        self,
        waiting: Callable[[], float],
        asked: Callable[[], int],
        shed: Callable[[], int],
        *,
        cpu_s: Callable[[], float] = time.process_time,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting, self._asked, self._shed, self._cpu_s, self._now_s = waiting, asked, shed, cpu_s, now_s
        self._last = self._read()

    def load(self) -> float:
        """Since the last call: the share of a core that was used, or that of the wait, times asked / answered."""
        last, self._last = self._last, self._read()
        at_s, cpu_s, asked, shed = (now - before for now, before in zip(self._last, last, strict=True))
        busy = max(cpu_s / max(at_s, 1e-3), self._waiting())
        return busy * asked / max(asked - shed, 1) if shed else busy

    def _read(self) -> tuple[float, float, int, int]:
        return self._now_s(), self._cpu_s(), self._asked(), self._shed()


def gateways(load: float, running: int) -> int:
    """How many gateways a summed load asks for, where so many run."""
    wanted = max(1, -int(-load // TARGET))
    if wanted < running:
        return min(running, max(1, -int(-load // AFTER_REMOVAL)))
    return wanted


class Context(Protocol):
    """What is read of Serve's `AutoscalingContext`: by the name of a metric what each replica says, and replicas."""

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None: ...

    @property
    def current_num_replicas(self) -> int: ...

    @property
    def target_num_replicas(self) -> int: ...


def policy(context: Context) -> tuple[int, dict[str, Any]]:
    """What Serve asks; it adds bounds and delays itself. Gateways that have said nothing yet are taken to idle."""
    told = (context.aggregated_metrics or {}).get(METRIC, {})
    if not told:
        return context.target_num_replicas, {}
    return gateways(sum(told.values()), context.current_num_replicas), {}
