"""The metrics that the service exports. Their names are written here only; tests hold rules and panels to them."""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from service.errors import MetricsError

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Labels that Ray adds to every metric, and those that Prometheus adds to what it scrapes.
RESERVED = frozenset({"WorkerId", "NodeAddress", "SessionName", "Version", "Component", "JobId", "job", "instance"})


class Metric(NamedTuple):
    """A metric as it is given to Ray and to OTLP.

    Attributes:
        tags: Names of its labels, besides those that Ray adds (node, process).
    """

    name: str
    kind: Literal["counter", "gauge"]
    description: str
    tags: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """The name under which Prometheus finds it: Ray adds a prefix, and a suffix to counters."""
        return f"ray_{self.name}{'_total' if self.kind == 'counter' else ''}"


class Distribution(NamedTuple):
    """A histogram as two counters: of observations at or below each bound `le`, and the sum of what was observed."""

    buckets: Metric
    total: Metric


def _distribution(name: str, description: str, *tags: str) -> Distribution:
    return Distribution(
        Metric(f"{name}_bucket", "counter", f"{description}; at most le", (*tags, "le")),
        Metric(f"{name}_sum", "counter", f"{description}; their sum", tags),
    )


# --- the edge ---
REQUESTS = Metric("riffle_requests", "counter", "Answered requests, all statuses", ("method", "route", "status"))
REQUEST_S = _distribution("riffle_request_seconds", "Requests by seconds since HAProxy had them", "method", "route")

# --- the gateway ---
GATEWAY = Metric("riffle_events", "counter", "Counts of the gateway, by what", ("what",))
DEGRADED = Metric("riffle_degraded", "counter", "Degradations of answers", ("stage", "cause"))
LISTS = Metric("riffle_lists", "counter", "Lists by what made them", ("kind", "bundle"))
ASSIGNED = Metric("riffle_assigned", "counter", "Lists by experiment or rollout and variant", ("experiment", "variant"))
CANDIDATES = Metric("riffle_candidates", "counter", "Items ruled out by reason, ranked and served", ("what",))
STAGE_S = _distribution("riffle_stage_seconds", "Requests by seconds of each stage of their micro-batch", "stage")
BATCH = _distribution("riffle_batch_requests", "Micro-batches by requests in them", "kind")
LOAD = Metric("riffle_load", "gauge", "Predicted wait of one more list as a share of the longest allowed")
ROOM = Metric("riffle_room", "gauge", "Lists that may be under way before one more would be shed")
FEATURE_AGE = Metric("riffle_feature_age_seconds", "gauge", "Age of the item stats that lists are made with", ("of",))
SHADOW = Metric("riffle_shadow", "counter", "Lists offered to the shadow, by what became of them", ("what",))
WAITING = Metric("riffle_events_waiting_seconds", "gauge", "Age in the log of the oldest event that no state knows")
DEAD = Metric("riffle_dead_letters", "gauge", "Entries of the log set aside because they are no events")

# --- the updater ---
UPDATER = Metric("riffle_updater", "counter", "Counts of the feature updater, by what", ("what",))
EFFECT = _distribution(
    "riffle_event_to_effect_seconds", "Events by the seconds from their arrival in the log to the commit of their state"
)

# --- every process that reports ---
LOOP_LAG = _distribution("riffle_loop_lag_seconds", "Looks at how late the event loop woke up", "process")
CPU = Metric("riffle_cpu_seconds", "counter", "Processor seconds of the process", ("process",))
TELEMETRY = Metric("riffle_telemetry", "counter", "What became of telemetry that was to be sent", ("process", "what"))

# --- drift, told by whoever looks for it; retraining, by the autopilot where it is on ---
DRIFT = Metric("riffle_drift", "gauge", "1 while a drift alarm of this kind is on", ("kind", "subject"))
DRIFT_LOOKED = Metric("riffle_drift_looked_seconds", "gauge", "Age of the last look for drift")
SHARE_MISMATCH = Metric("riffle_share_mismatch", "gauge", "1 while the check of shares fails", ("experiment",))
RETRAINING_AGE = Metric("riffle_retraining_age_seconds", "gauge", "Since the last finished run of the autopilot")
RETRAINING = Metric("riffle_retraining_runs", "counter", "Runs of the autopilot, by what became of them", ("what",))

ALL: tuple[Metric, ...] = (
    *(REQUESTS, *REQUEST_S),
    *(GATEWAY, DEGRADED, LISTS, ASSIGNED, CANDIDATES, *STAGE_S, *BATCH, LOAD, ROOM, FEATURE_AGE, SHADOW),
    *(WAITING, DEAD, UPDATER, *EFFECT),
    *(*LOOP_LAG, CPU, TELEMETRY),
    *(DRIFT, DRIFT_LOOKED, SHARE_MISMATCH, RETRAINING_AGE, RETRAINING),
)


def check(metrics: Iterable[Metric]) -> None:
    """Refuse metrics that Prometheus could not tell apart, or would not take.

    Raises:
        MetricsError: two are exposed under one name, or a name or a tag is not allowed; the message names them.
    """
    exposed: dict[str, Metric] = {}
    for metric in metrics:
        for name in (metric.name, *metric.tags):
            if not _NAME.fullmatch(name) or name in RESERVED:
                raise MetricsError(f"metric {metric.name}: {name!r} is no name that Prometheus and Ray leave to us")
        # A gauge `x_total` and a counter `x` end as one name, and so do a histogram's parts and a counter of that name.
        other = exposed.setdefault(metric.exposed, metric)
        if other is not metric:
            raise MetricsError(
                f"{other.kind} {other.name} and {metric.kind} {metric.name} would both be {metric.exposed}"
            )
