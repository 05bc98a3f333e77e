"""Explanations of earlier lists: from their records alone, and only of what comes out the same when made again."""

import time
from collections.abc import Callable, Generator
from typing import TypeVar

import msgspec

from recsys.explanations.why_not import why_not as find_why_not
from recsys.types import World
from recsys.vocabulary import item_key
from service.decisions import Decision, Erased
from service.explanations import explained, why_not_of
from service.record_schemas import Outcome, RecordedExplanation, RecordedWhyNot
from service.replay import Again, again

PAUSE_S = 0.001  # between steps: whoever waits for the interpreter gets it at once, not after its 5 ms

T = TypeVar("T")


def explain(record: Decision | Erased, world_of: Callable[[Decision], World]) -> RecordedExplanation:
    """Why a list is as it is, or why that cannot be said any more; arguments as of `replay.again`."""
    made = again(record, world_of)
    verdict = made.verdict() if isinstance(made, Again) else made
    answer = RecordedExplanation(**msgspec.structs.asdict(verdict))
    if not isinstance(made, Again) or verdict.outcome is not Outcome.IDENTICAL:
        return answer
    return msgspec.structs.replace(answer, explanation=_taken(explained(made.world, made.batch)))


def why_not(item_id: str, record: Decision | Erased, world_of: Callable[[Decision], World]) -> RecordedWhyNot:
    """Why an item is not on a list, or why that cannot be said any more; arguments as of `replay.again`."""
    made = again(record, world_of)
    verdict = made.verdict() if isinstance(made, Again) else made
    answer = RecordedWhyNot(item_id=item_id, **msgspec.structs.asdict(verdict))
    if not isinstance(made, Again) or verdict.outcome is not Outcome.IDENTICAL:
        return answer
    found = find_why_not(made.world, made.batch, item_key(item_id))
    return msgspec.structs.replace(answer, why_not=why_not_of(found))


def _taken(steps: Generator[None, None, T]) -> T:
    """What the steps come to; they are taken in a thread beside the service's."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        time.sleep(PAUSE_S)
