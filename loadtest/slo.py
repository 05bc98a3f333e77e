"""Whether a load test is a pass: what the service may not exceed, and what the load generator itself may not."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from loadtest.locust_nodes import Node, percentile

QUANTILE = 0.99
IDLE = 0.5  # of a core: a process that used less and yet was late had to wait for a core
FEWER = "spread the load over more processes or machines, or take fewer users."
OWN_CORES = "it used little of a core itself, so others kept it from running: give it cores of its own."


@dataclass(frozen=True)
class Limits:
    """The most that a pass may have.

    Args:
        p99_ms: Of lists, and of events.
        errors: Share of requests that failed. degraded: Share of lists that were degraded.
        lag_ms: How late, at p99, the event loop of a process of the generator may be: a fifth of the limit of the
            service, since every moment of it is in the latencies.
        cpu: Share of one core that a process of the generator may use for some seconds.
    """

    p99_ms: float = 100.0
    errors: float = 0.0001
    degraded: float = 0.01
    lag_ms: float = 20.0
    cpu: float = 0.9


@dataclass(frozen=True)
class Outcome:
    """What a run has measured.

    Args:
        requests, failures: Of all kinds. exceptions: Of the load test's own code.
        response_ms: Histograms of response times, in milliseconds rounded up, by what was asked for.
        nodes: One for each process that sent requests.
        lost: How many of them ended without a last report.
    """

    requests: int
    failures: int
    response_ms: dict[str, dict[int, int]]
    nodes: list[Node]
    exceptions: int = 0
    lost: int = 0

    @property
    def p99_ms(self) -> dict[str, int]:
        """The p99 of what was asked for at all."""
        return {name: percentile(times, QUANTILE) for name, times in self.response_ms.items() if times}

    @property
    def lists(self) -> int:
        """Lists that came."""
        return sum(node.lists for node in self.nodes)

    @property
    def degraded(self) -> int:
        """Lists that came degraded."""
        return sum(node.degraded for node in self.nodes)

    @property
    def causes(self) -> Counter[str]:
        """What was degraded and why, how often."""
        return sum((node.causes for node in self.nodes), Counter())

    @property
    def lag_ms(self) -> int:
        """How late the event loop of the worst process was, at p99."""
        return max((percentile(node.late_ms, QUANTILE) for node in self.nodes), default=0)

    @property
    def busiest(self) -> float:
        """The share of one core that the busiest process used in its worst seconds."""
        return max((node.busiest for node in self.nodes), default=0.0)


@dataclass(frozen=True)
class Verdict:
    """Of a run: what the service exceeded, and what speaks against the measurement itself; a sentence each."""

    breaches: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    summary: str = ""

    @property
    def passed(self) -> bool:
        """A pass needs a measurement that holds."""
        return not self.breaches and not self.doubts

    def lines(self) -> list[str]:
        """For people: one word on the whole, then the sentences."""
        if self.passed:
            return [f"Load test passed: {self.summary}."]
        word = "failed" if self.breaches else "is not a pass"
        return [f"Load test {word}: {self.summary}.", *(f"  {line}" for line in (*self.breaches, *self.doubts))]


def judge(outcome: Outcome, limits: Limits) -> Verdict:
    """The verdict on a run."""
    return Verdict(_breaches(outcome, limits), _doubts(outcome, limits), _summary(outcome))


# A limit that is no number is exceeded, hence `not <=` below.
def _breaches(outcome: Outcome, limits: Limits) -> list[str]:
    found = [
        f"SLO breach: p99 of {name} was {p99_ms:,} ms; the limit is {limits.p99_ms:g} ms."
        for name, p99_ms in outcome.p99_ms.items()
        if not p99_ms <= limits.p99_ms
    ]
    if outcome.requests and not (share := outcome.failures / outcome.requests) <= limits.errors:
        found.append(f"SLO breach: {share:.3%} of requests failed; the limit is {100 * limits.errors:g}%.")
    if outcome.lists and not (share := outcome.degraded / outcome.lists) <= limits.degraded:
        causes = ", ".join(f"{cause} {times:,} times" for cause, times in outcome.causes.most_common())
        found.append(
            f"SLO breach: {share:.3%} of lists were degraded ({causes}); the limit is {100 * limits.degraded:g}%."
        )
    return found


def _doubts(outcome: Outcome, limits: Limits) -> list[str]:
    found = []
    if not outcome.requests:
        found.append("Nothing was measured: not one request was answered or failed; give more time or more users.")
    if outcome.exceptions:
        found.append(f"The load test itself failed {outcome.exceptions:,} times; the exceptions are in the log above.")
    if not outcome.lag_ms <= limits.lag_ms:
        idle = outcome.busiest < IDLE
        found.append(
            f"The load generator was the bottleneck: its event loop was {outcome.lag_ms:,} ms late at p99, the limit "
            f"is {limits.lag_ms:g} ms, and all of it is in the latencies; {OWN_CORES if idle else FEWER}"
        )
    if not outcome.busiest <= limits.cpu:
        found.append(
            f"The load generator was the bottleneck: a process of it used {outcome.busiest:.0%} of a core in its worst "
            f"seconds, the limit is {100 * limits.cpu:g}%, so it may have sent less than it was to; {FEWER}"
        )
    if outcome.lost:
        found.append(
            f"{outcome.lost} of {len(outcome.nodes)} processes sent no last report: what they measured is missing."
        )
    return found


def _summary(outcome: Outcome) -> str:
    parts = [f"p99 of {name} {p99_ms:,} ms" for name, p99_ms in outcome.p99_ms.items()]
    parts.append(f"{outcome.failures:,} of {outcome.requests:,} requests failed")
    parts.append(f"{outcome.degraded:,} of {outcome.lists:,} lists degraded")
    parts.append(f"generator at most {outcome.lag_ms:,} ms late at p99 and {outcome.busiest:.0%} of a core")
    return ", ".join(parts)


def merged(histograms: Iterable[dict[int, int]]) -> Counter[int]:
    """One histogram of several."""
    return sum((Counter(one) for one in histograms), Counter())
