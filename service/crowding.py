"""Whether a thread has its processor to itself: the share of the time it could run in which another one ran."""

from math import inf
from pathlib import Path
from threading import get_native_id
from time import monotonic

_EVERY_S, _STALE_S = 0.1, 1.0  # one reading of /proc takes 15 us; one of long ago says nothing of now


class Crowding:
    """Of the thread that asks, over the last tenth of a second or so; 0 where the system does not tell."""

    __slots__ = ("_at", "_path", "_ran", "_share", "_waited")

    def __init__(self) -> None:
        self._path: Path | None = None
        self._at, self._share = -inf, 0.0
        self._ran = self._waited = 0

    def share(self) -> float:
        """0, never kept waiting, to 1. Nanoseconds running and in the queue are those of schedstat, Linux."""
        now = monotonic()
        if now - self._at < _EVERY_S:
            return self._share
        stale, self._at = now - self._at > _STALE_S, now
        ran, waited = self._read()
        more_ran, more_waited = ran - self._ran, waited - self._waited
        self._ran, self._waited = ran, waited
        known = not stale and more_ran + more_waited > 0
        self._share = more_waited / (more_ran + more_waited) if known else 0.0
        return self._share

    def _read(self) -> tuple[int, int]:
        if self._path is None:
            self._path = Path(f"/proc/self/task/{get_native_id()}/schedstat")
        try:
            ran, waited, _ = self._path.read_bytes().split()
            return int(ran), int(waited)
        except (OSError, ValueError):
            return 0, 0
