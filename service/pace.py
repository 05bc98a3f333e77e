"""How long micro-batches take, learned from those that ran: a part for the batch and a part for each request."""

_KEPT = 0.97  # weight of what was known when one more batch has run: the last thirty count
_SETTLED, _SLOW = 5, 3.0  # batches, from which on none counts as more than so many times what was predicted


class Pace:
    """Least squares of duration over size, in which older batches weigh less; neither part is below 0.

    Until a batch has run, nothing takes time.
    """

    __slots__ = ("_count", "_size", "_size_took", "_sizes", "_took_s")

    def __init__(self) -> None:
        self._count = self._size = self._sizes = self._took_s = self._size_took = 0.0

    def ran(self, size: int, took_s: float) -> None:
        """A batch of so many requests has taken so long, from its beginning to that of the next one.

        One that took far longer than others was stopped by something else, and counts as a slow one.
        """
        if self._count >= _SETTLED:
            took_s = min(took_s, _SLOW * self.takes_s(size))
        self._count = _KEPT * self._count + 1
        self._size = _KEPT * self._size + size
        self._sizes = _KEPT * self._sizes + size * size
        self._took_s = _KEPT * self._took_s + took_s
        self._size_took = _KEPT * self._size_took + size * took_s

    def takes_s(self, size: int) -> float:
        """Predicted seconds of a batch of so many requests."""
        batch_s, each_s = self._parts()
        return batch_s + each_s * size

    def fits(self, within_s: float, *, least: int, most: int) -> int:
        """How many requests two batches of one size answer within so many seconds, within these bounds."""
        batch_s, each_s = self._parts()
        left_s = within_s - 2 * batch_s
        if left_s <= 0:
            return least
        return most if left_s >= most * each_s else max(least, int(left_s / each_s))

    def _parts(self) -> tuple[float, float]:
        """Seconds of a batch, and of each of its requests."""
        if not self._count:
            return 0.0, 0.0
        size_mean, took_mean_s = self._size / self._count, self._took_s / self._count
        variance = self._sizes / self._count - size_mean * size_mean
        covariance = self._size_took / self._count - size_mean * took_mean_s
        most_s = took_mean_s / size_mean  # where all of it grows with the size
        each_s = min(max(covariance / variance, 0.0), most_s) if variance > 1e-9 else most_s
        return took_mean_s - each_s * size_mean, each_s
