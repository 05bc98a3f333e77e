"""What the HTTP edge needs behind it."""

from typing import Any, Protocol

from service.experiment_schemas import ExperimentChange, ExperimentRequest
from service.item_schemas import ItemDescription, ItemPatch, ItemsRequest
from service.schemas import EventsRequest, RecommendationRequest, SimilarRequest


class Recommender(Protocol):
    """What the edge needs behind it. Every method may raise `HttpError`; anything else becomes a 500.

    `waited_s` is how much of the deadline was spent before.
    """

    async def recommend(self, request: RecommendationRequest, *, waited_s: float = 0.0) -> dict[str, Any]:
        """The answer, shaped as `RecommendationResponse`."""
        ...

    async def similar(self, request: SimilarRequest, *, waited_s: float = 0.0) -> dict[str, Any]:
        """The answer, shaped as `SimilarResponse`."""
        ...

    async def validate(self, request: RecommendationRequest) -> dict[str, Any]:
        """`{"valid": True}` if the request would be served. Makes no list, records nothing."""
        ...

    def room(self) -> int:
        """How many lists may be under way before one more would come too late."""
        ...

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether requests can be served now, and the other fields of `Readiness`."""
        ...


class Intake(Protocol):
    """What takes events. May raise `HttpError`."""

    async def record(self, request: EventsRequest) -> dict[str, Any]:
        """The answer, shaped as `EventsResponse`, once the events are in the log."""
        ...


class RecordedAnswers(Protocol):
    """What has earlier answers on record. May raise `HttpError`."""

    async def show(self, recommendation_id: str) -> dict[str, Any]:
        """What was served, shaped as `RecordedAnswer`."""
        ...

    async def replay(self, recommendation_id: str) -> dict[str, Any]:
        """What comes of making it again, shaped as `Replay`."""
        ...

    async def explain(self, recommendation_id: str) -> dict[str, Any]:
        """Why it is as it is, shaped as `RecordedExplanation`."""
        ...

    async def why_not(self, recommendation_id: str, item_id: str) -> dict[str, Any]:
        """Why an item is not on it, shaped as `RecordedWhyNot`."""
        ...


class Catalogue(Protocol):
    """What items are described to. Every method answers an `ItemState`, or `ItemsResponse`; may raise `HttpError`."""

    async def put(self, item_id: str, description: ItemDescription) -> dict[str, Any]: ...

    async def patch(self, item_id: str, patch: ItemPatch) -> dict[str, Any]: ...

    async def delete(self, item_id: str) -> dict[str, Any]: ...

    async def show(self, item_id: str) -> dict[str, Any]: ...

    async def put_many(self, request: ItemsRequest) -> dict[str, Any]: ...


class Merging(Protocol):
    """What gives one user's interactions to another. May raise `HttpError`."""

    async def merge(self, user_id: str, from_user_id: str) -> dict[str, Any]:
        """How many, shaped as `Merge`, once they are in the log."""
        ...


class Forgetting(Protocol):
    """What takes orders to forget users. May raise `HttpError`."""

    async def forget(self, user_id: str) -> dict[str, Any]:
        """The receipt, shaped as `Erasure`, once the order is on record."""
        ...

    async def receipt(self, receipt_id: str) -> dict[str, Any]:
        """How far an order is, shaped as `Erasure`."""
        ...


class Experiments(Protocol):
    """What experiments are described to, begun, ended and reported by. May raise `HttpError`."""

    async def list(self) -> dict[str, Any]:
        """All of them, shaped as `ExperimentsResponse`."""
        ...

    async def create(self, asked: ExperimentRequest) -> dict[str, Any]:
        """As it is, shaped as `ExperimentState`."""
        ...

    async def start(self, name: str, change: ExperimentChange) -> dict[str, Any]:
        """As it is once every replica obeys, shaped as `ExperimentState`."""
        ...

    async def stop(self, name: str, change: ExperimentChange) -> dict[str, Any]:
        """As it is once every replica obeys, shaped as `ExperimentState`."""
        ...

    async def report(self, name: str) -> dict[str, Any]:
        """What came of it, shaped as `ExperimentReport`."""
        ...
