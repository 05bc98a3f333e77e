"""A small service of the real contract: popular lists without what the user has met, and events by their ids."""

import threading
from collections import defaultdict

import msgspec

from service.schemas import (
    Degradation,
    EventResult,
    EventsRequest,
    EventsResponse,
    Filled,
    Item,
    RecommendationRequest,
    RecommendationResponse,
    SimilarRequest,
    SimilarResponse,
)

DEGRADED = Degradation(stage="ranking", cause="timeout", fallback="order of retrieval")


class Shop:
    """Answers as `riffle` does; requests that the schemas refuse raise, and the connection is lost.

    Args:
        item_ids: The most popular first.
        refused: Ids that are no items of the shop when they come in events.
        degraded_every: One list of so many is degraded.
    """

    def __init__(self, item_ids: list[str], *, refused: frozenset[str] = frozenset(), degraded_every: int = 0) -> None:
        self._item_ids, self._refused, self._degraded_every = item_ids, refused, degraded_every
        self._lock = threading.Lock()
        self.asked: list[RecommendationRequest] = []
        self.similar: list[SimilarRequest] = []
        self.lists: dict[str, list[str]] = {}
        self.events: list[EventsRequest] = []
        self.met: defaultdict[str, set[str]] = defaultdict(set)

    def answer(self, path: str, body: bytes) -> bytes:
        """The body of the answer to a POST, and to GET /readyz."""
        with self._lock:
            if path == "/readyz":
                return b""
            if path == "/v1/recommendations":
                return msgspec.json.encode(self._list(msgspec.json.decode(body, type=RecommendationRequest)))
            if path == "/v1/similar":
                return msgspec.json.encode(self._like(msgspec.json.decode(body, type=SimilarRequest)))
            assert path == "/v1/events"
            return msgspec.json.encode(self._record(msgspec.json.decode(body, type=EventsRequest)))

    def _list(self, request: RecommendationRequest) -> RecommendationResponse:
        self.asked.append(request)
        met = self.met[request.user_id]
        shown = [one for one in self._item_ids if one not in met][: request.count]
        name = f"list-{len(self.asked)}"
        self.lists[name] = shown
        degraded = self._degraded_every and len(self.asked) % self._degraded_every == 0
        return RecommendationResponse(
            recommendation_id=name,
            bundle="shop",
            variants={},
            items=[Item(item_id=one, rank=rank) for rank, one in enumerate(shown, 1)],
            degraded=[DEGRADED] if degraded else [],
            quality=1.0,
            filled=Filled(requested=request.count, returned=len(shown)),
            unknown_ids=[],
            timing_ms={"total": 1.0},
            placement=request.placement,
            strategy="personalized" if met else "cold_start",
        )

    def _like(self, request: SimilarRequest) -> SimilarResponse:
        self.similar.append(request)
        shown = [one for one in self._item_ids if one not in request.item_ids][: request.count]
        name = f"similar-{len(self.similar)}"
        self.lists[name] = shown
        return SimilarResponse(
            recommendation_id=name,
            bundle="shop",
            variants={},
            items=[Item(item_id=one, rank=rank) for rank, one in enumerate(shown, 1)],
            degraded=[],
            quality=1.0,
            filled=Filled(requested=request.count, returned=len(shown)),
            unknown_ids=[],
            timing_ms={"total": 1.0},
        )

    def _record(self, request: EventsRequest) -> EventsResponse:
        self.events.append(request)
        results = []
        for row in request.events:
            sound = row.item_id not in self._refused
            results.append(EventResult(event_id=row.event_id, status=202 if sound else 422))
            if sound and row.type != "impression":
                self.met[row.user_id].add(row.item_id)
        accepted = sum(result.status == 202 for result in results)
        return EventsResponse(accepted=accepted, refused=len(results) - accepted, results=results)
