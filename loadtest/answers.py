"""What a load test takes for an answer of the service: the document that the API promises, with something in it."""

from typing import TypeVar

import msgspec

from service.schemas import EventsResponse, Slate

T = TypeVar("T", bound=msgspec.Struct)


class AnswerError(Exception):
    """Why what came is no good answer. One of few texts, since failures are counted by them."""


def answer_of(status: int, body: bytes, kind: type[T]) -> T:
    """The decoded answer. A degraded list is an answer.

    Args:
        status: Of HTTP; 0 where no answer came.

    Raises:
        AnswerError: another status than 200, another document, a list without items, events that were refused.
    """
    if status == 0:
        raise AnswerError("no answer")
    if status != 200:
        raise AnswerError(f"status {status}")
    try:
        answer = msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError:
        raise AnswerError(f"not a {kind.__name__}") from None
    if isinstance(answer, Slate) and not answer.items:
        raise AnswerError("no items")
    if isinstance(answer, EventsResponse) and answer.refused:
        statuses = sorted({one.status for one in answer.results if one.status != 202})
        raise AnswerError(f"events refused: {', '.join(map(str, statuses))}")
    return answer


def degradations(slate: Slate) -> list[str]:
    """What was degraded in a list and why, by name; empty where nothing was."""
    return sorted({f"{one.stage} {one.cause}" for one in slate.degraded})
