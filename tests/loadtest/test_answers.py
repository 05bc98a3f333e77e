"""What the load test takes for an answer."""

import msgspec
import pytest

from loadtest.answers import AnswerError, answer_of, degradations
from service import examples
from service.schemas import EventsResponse, RecommendationResponse, SimilarResponse

LIST = examples.RECOMMENDATION_ANSWER
REFUSED = {"accepted": 0, "refused": 1, "results": [{"event_id": "7c1f", "status": 409}]}


def encoded(document: object) -> bytes:
    return msgspec.json.encode(document)


def test_documents_of_the_api_are_answers() -> None:
    assert answer_of(200, encoded(LIST), RecommendationResponse).items[0].item_id == "1210"
    assert answer_of(200, encoded(examples.SIMILAR_ANSWER), SimilarResponse).items
    assert answer_of(200, encoded(examples.EVENTS_ANSWER), EventsResponse).accepted == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "why"),
    [
        (0, b"", RecommendationResponse, "no answer"),
        (429, b"", RecommendationResponse, "status 429"),
        (503, encoded(LIST), RecommendationResponse, "status 503"),
        (200, b"<html>", RecommendationResponse, "not a RecommendationResponse"),
        (200, encoded(examples.SIMILAR_ANSWER), RecommendationResponse, "not a RecommendationResponse"),
        (200, b"[]", EventsResponse, "not a EventsResponse"),
        (200, encoded({**LIST, "items": []}), RecommendationResponse, "no items"),
        (200, encoded(REFUSED), EventsResponse, "events refused: 409"),
    ],
)
def test_anything_else_is_none(status: int, body: bytes, kind: type[msgspec.Struct], why: str) -> None:
    with pytest.raises(AnswerError) as caught:
        answer_of(status, body, kind)
    assert str(caught.value) == why


def test_degraded_list_is_an_answer_with_its_causes() -> None:
    degraded = [{"stage": "ranking", "cause": cause, "fallback": "none"} for cause in ("timeout", "timeout", "error")]
    slate = answer_of(200, encoded({**LIST, "degraded": degraded}), RecommendationResponse)
    assert degradations(slate) == ["ranking error", "ranking timeout"]
