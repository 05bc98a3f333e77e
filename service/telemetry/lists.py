"""Every list: which bundle made it, and of which experiment or rollout it is."""

from typing import Any

from service.schemas import RecommendationRequest, SimilarRequest
from service.telemetry.pseudonyms import Pseudonyms
from service.telemetry.trace import current

_TOLD = 1_000  # series of each kind; bundles and variants change with every rollout, and a process may live long


class ListWatch:
    """Counts lists, and adds to the trace of a sampled one what the list was.

    Attributes:
        made: Lists by kind and bundle. assigned: Lists by experiment or rollout and variant.
        pseudonyms: What a trace calls a user.
    """

    def __init__(self, pseudonyms: Pseudonyms | None = None) -> None:
        self.pseudonyms = pseudonyms or Pseudonyms("")
        self.made: dict[tuple[str, ...], int] = {}
        self.assigned: dict[tuple[str, ...], int] = {}

    def count(self, request: RecommendationRequest | SimilarRequest, body: dict[str, Any]) -> None:
        """A list was made; `body` is shaped as `schemas.Slate`. Cost: 0.3 us, and 0.2 us a variant."""
        user_id = request.user_id if isinstance(request, RecommendationRequest) else ""
        kind = "recommendations" if user_id else "similar"
        _add(self.made, (kind, body["bundle"]))
        for assigned in body["variants"].items():
            _add(self.assigned, assigned)
        trace = current.get()
        if trace is None:
            return
        trace.facts |= {
            "riffle.recommendation_id": body["recommendation_id"],
            "riffle.bundle": body["bundle"],
            "riffle.items": len(body["items"]),
        }
        if user_id and (name := self.pseudonyms.of(user_id)):
            trace.facts["riffle.user"] = name
        if body["degraded"]:
            trace.facts["riffle.degraded"] = ",".join(f"{one['stage']}.{one['cause']}" for one in body["degraded"])
        for experiment, variant in body["variants"].items():
            trace.facts[f"riffle.variant.{experiment}"] = variant


def _add(counts: dict[tuple[str, ...], int], key: tuple[str, ...]) -> None:
    if key not in counts and len(counts) >= _TOLD:
        key = ("other", "other")
    counts[key] = counts.get(key, 0) + 1
