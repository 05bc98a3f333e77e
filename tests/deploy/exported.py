"""Which metrics a query of a rule or a panel names, and which there are."""

import re

from service import metrics

# What exists only once it has happened: a counter whose tags are not known before, a look for drift, an experiment, an
# autopilot that is on.
ONCE_IT_HAPPENS = frozenset(
    {
        *(metrics.ASSIGNED, metrics.DEGRADED, metrics.RETRAINING, metrics.RETRAINING_AGE),
        *(metrics.DRIFT, metrics.DRIFT_LOOKED, metrics.SHARE_MISMATCH),
    }
)
OURS = {metric.exposed: metric for metric in metrics.ALL}
HAPROXY = frozenset({"haproxy_frontend_http_responses_total", "haproxy_frontend_current_sessions"})
PROMETHEUS = frozenset({"up"})
_METRIC = re.compile(r"\b(?:ray_\w+|haproxy_\w+|up(?=\{))")


def named(query: str) -> list[str]:
    """The metrics that a query names, in order."""
    return _METRIC.findall(query)


def labels(query: str) -> dict[str, set[str]]:
    """By metric, the labels that a query selects by."""
    found: dict[str, set[str]] = {}
    for name, selected in re.findall(r"\b((?:ray|haproxy)_\w+)\{([^}]*)\}", query):
        found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selected))
    return found


def grouped(query: str) -> set[str]:
    """The labels that a query groups by."""
    return {one.strip() for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for one in by.split(",")}
