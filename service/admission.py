"""What is given up under load, in this order: candidates of the answers, requests of low priority, then the rest.

All of it follows from predicted waits; see `service.microbatch` and decision 0024.
"""

from typing import Literal

Priority = Literal["high", "normal", "low"]

# The share of its deadline that a request may spend until its batch is done, as predicted where it comes. The rest is
# for what no prediction sees: the way through HAProxy, the encoding of the answer, batches slower than the last ones.
PATIENCE: dict[Priority, float] = {"high": 0.75, "normal": 0.6, "low": 0.3}
QUALITIES = ((0.1, 1.0), (0.2, 0.5))  # (share of the deadline that those who wait will take, share of the candidates)
LEAST_QUALITY = 0.25


def quality(backlog_s: float, deadline_s: float) -> float:
    """The share of the usual candidates that a batch ranks, while those behind it wait for so long."""
    for share, of_candidates in QUALITIES:
        if backlog_s <= share * deadline_s:
            return of_candidates
    return LEAST_QUALITY
