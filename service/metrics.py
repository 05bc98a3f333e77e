"""The metrics that the service exports. Their names are written here only; a test holds the alert rules to them."""

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """A metric as it is given to Ray.

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


GATEWAY = Metric("riffle_events", "counter", "Counts of the gateway, by what", ("what",))
UPDATER = Metric("riffle_updater", "counter", "Counts of the feature updater, by what", ("what",))
EFFECT = Metric(
    "riffle_event_to_effect_seconds_bucket",
    "counter",
    "Events by the seconds from their arrival in the log to the commit of their state, at most le",
    ("le",),
)
EFFECT_SUM = Metric("riffle_event_to_effect_seconds_sum", "counter", "Sum of these seconds")
WAITING = Metric("riffle_events_waiting_seconds", "gauge", "Age in the log of the oldest event that no state knows")
DEAD = Metric("riffle_dead_letters", "gauge", "Entries of the log set aside because they are no events")
ALL = (GATEWAY, UPDATER, EFFECT, EFFECT_SUM, WAITING, DEAD)
