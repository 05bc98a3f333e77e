"""Our metrics as Ray's: on its dashboard and on its Prometheus page."""

from ray.util import metrics as ray_metrics

from service.metrics import Metric
from service.telemetry.readings import Sums, Taken


class RayMetrics:
    """Tells Ray what a process has read of itself."""

    def __init__(self) -> None:
        self._counters: dict[Metric, Counts] = {}
        self._gauges: dict[Metric, ray_metrics.Gauge] = {}

    def tell(self, taken: Taken) -> None:
        """Bring Ray's metrics up to a reading."""
        for metric, sums in taken.items():
            if metric.kind == "counter":
                if metric not in self._counters:
                    self._counters[metric] = Counts(metric)
                self._counters[metric].report(sums)
                continue
            if metric not in self._gauges:
                self._gauges[metric] = ray_metrics.Gauge(metric.name, metric.description, tag_keys=metric.tags)
            for values, value in sums.items():
                self._gauges[metric].set(value, tags=dict(zip(metric.tags, values, strict=True)))


class Counts(ray_metrics.Counter):
    """A counter of Ray's that is told of sums; it takes increments."""

    def __init__(self, metric: Metric) -> None:
        super().__init__(metric.name, metric.description, tag_keys=metric.tags)
        self._tags = metric.tags
        self._reported: Sums = {}

    def report(self, sums: Sums) -> None:
        """Bring the counter up to these sums; of what is 0 it says so once, or a rate would miss the first."""
        for values, total in sums.items():
            more = total - self._reported.get(values, 0)
            if more > 0 or values not in self._reported:
                self._record(max(more, 0.0), tags=dict(zip(self._tags, values, strict=True)))
        self._reported = {**self._reported, **sums}
