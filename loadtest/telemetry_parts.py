"""What each part of telemetry costs a request, in microseconds; needs nothing that is up.

python -m loadtest.telemetry_parts
"""

import logging
import sys
import time
from collections.abc import Callable

from service.schemas import RecommendationRequest
from service.telemetry.lists import ListWatch
from service.telemetry.outbox import Outbox
from service.telemetry.pseudonyms import Pseudonyms
from service.telemetry.requests import RequestWatch
from service.telemetry.trace import Sampler

REPEATS, CALLS = 7, 50_000
_ROUTE = "/v1/recommendations"
_HEADERS = {b"content-type": b"application/json", b"x-request-id": b"0" * 32}
_TRACED = _HEADERS | {b"traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}
_BODY = {"bundle": "b", "variants": {}, "recommendation_id": "r", "items": [], "degraded": []}


def parts() -> dict[str, Callable[[], object]]:
    """By name, what is timed."""
    plain, traced = RequestWatch(Sampler(0.0)), RequestWatch(Sampler(1.0), Outbox(10**9).put)
    lists, request = ListWatch(Pseudonyms("0" * 32)), RecommendationRequest(user_id="somebody")
    own, sent = list(_HEADERS.items()), list(_TRACED.items())

    def sampled() -> None:
        traced.ended(traced.began(_HEADERS, own), "POST", _ROUTE, 200, 0.003)

    return {
        "sampling decision, not sampled": lambda: plain.began(_HEADERS, own),
        "the same with a caller's traceparent, not sampled": lambda: plain.began(_TRACED, sent),
        "count by route, status and duration": lambda: plain.ended(None, "POST", _ROUTE, 200, 0.003),
        "count by bundle and variant": lambda: lists.count(request, _BODY),
        "sampled: from the decision to the queue, without the log line": sampled,
    }


def microseconds(call: Callable[[], object], *, repeats: int = REPEATS, calls: int = CALLS) -> float:
    """Of one call, the best of some repeats, the loop around it taken off."""

    def loop(of: Callable[[], object]) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            of()
        return (time.perf_counter() - began) / calls

    empty = min(loop(lambda: None) for _ in range(repeats))
    return 1e6 * max(min(loop(call) for _ in range(repeats)) - empty, 0.0)


def main() -> int:
    """Print a line for each part."""
    logging.disable(logging.INFO)
    for name, call in parts().items():
        print(f"{microseconds(call):6.2f} us  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
