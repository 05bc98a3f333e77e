"""What one process has to tell: for each of its metrics, where the sums of now are read.

The hot path adds to plain counts. Every few seconds all of them are read once, in the event loop that adds to them, and
whoever tells somebody else (Ray's metrics, OTLP) is given the same reading.
"""

from collections.abc import Callable, Mapping
from typing import Any

from service import metrics
from service.errors import MetricsError
from service.histogram import Histogram
from service.metrics import Distribution, Metric

Sums = Mapping[tuple[str, ...], float]  # by the values of the metric's tags
Taken = Mapping[Metric, Sums]


class Readings:
    """Where each metric is read.

    Raises:
        MetricsError: the metrics of `service.metrics` clash.
    """

    def __init__(self) -> None:
        metrics.check(metrics.ALL)
        self._read: dict[Metric, Callable[[], Sums]] = {}

    def add(self, metric: Metric, read: Callable[[], Sums]) -> None:
        """Tell a metric: a counter by its sums so far, a gauge by what it is now; what is left out is not told.

        Raises:
            MetricsError: it is told already, or is not one of `service.metrics`.
        """
        if metric in self._read or metric not in metrics.ALL:
            raise MetricsError(f"{metric.name} is told already, or is not in service/metrics.py")
        self._read[metric] = read

    def value(self, metric: Metric, read: Callable[[], float]) -> None:
        """A metric without tags. Raises as `add`."""
        self.add(metric, lambda: {(): read()})

    def counts(self, metric: Metric, read: Callable[[], Mapping[Any, float]]) -> None:
        """A metric with one tag, by its values. Raises as `add`."""
        self.add(metric, lambda: {(name,): count for name, count in read().items()})

    def distribution(self, of: Distribution, read: Callable[[], Mapping[tuple[str, ...], Histogram]]) -> None:
        """Histograms by the values of the tags without `le`. Raises as `add`."""
        self.add(
            of.buckets,
            lambda: {(*tags, le): n for tags, one in read().items() for le, n in one.at_most().items()},
        )
        self.add(of.total, lambda: {tags: one.sum for tags, one in read().items()})

    def take(self) -> Taken:
        """All of them, as of now."""
        return {metric: read() for metric, read in self._read.items()}
