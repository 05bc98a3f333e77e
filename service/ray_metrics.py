"""Our metrics as Ray's: on its dashboard and on its Prometheus page."""

from collections.abc import Mapping

from ray.util import metrics as ray_metrics

from service.metrics import Metric


class Counts:
    """A counter of Ray's that is told of sums, by the value of its only tag; it takes increments, and none of 0."""

    def __init__(self, metric: Metric) -> None:
        self._counter = ray_metrics.Counter(metric.name, metric.description, tag_keys=metric.tags)
        self._tags = metric.tags
        self._reported: dict[str, float] = {}

    def report(self, sums: Mapping[str, float]) -> None:
        """Bring the counter up to these sums."""
        for value, total in sums.items():
            if (more := total - self._reported.get(value, 0)) > 0:
                self._counter.inc(more, tags=dict.fromkeys(self._tags, value))
        self._reported = dict(sums)


def gauge(metric: Metric) -> ray_metrics.Gauge:
    """A gauge of Ray's."""
    return ray_metrics.Gauge(metric.name, metric.description)
