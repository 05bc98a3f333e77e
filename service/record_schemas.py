"""The JSON bodies about earlier answers: what was served, and what comes of making it again."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from recsys.digests import Stage
from service.explanation_schemas import Explanation, WhyNot
from service.schemas import Degradation, Id, Request

Removed = Annotated[dict[str, int], Meta(description="Items of the bundle that were ruled out, by reason.")]
Ranked = Annotated[int, Meta(description="Candidates that the list was chosen from.")]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One place of a list."""

    rank: Annotated[int, Meta(ge=1)]
    item_id: str
    score: float
    variant: Annotated[str, Meta(description="Of an interleaved list: whose credit it is.")] | UnsetType = UNSET
    propensity: (
        Annotated[float, Meta(description="Of an interleaved list: how probable the item was just here.")] | UnsetType
    ) = UNSET


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the user had done. Without `item_id` where the bundle in service does not know the item."""

    verb: str
    time: str
    item_id: str | UnsetType = UNSET


class StateSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was stored of the user when the list was made."""

    bytes: int
    problem: Annotated[str, Meta(description="Why it cannot be read; then nothing else is known.")] | UnsetType = UNSET
    interactions: Annotated[int, Meta(description="Ever counted.")] | UnsetType = UNSET
    positives: int | UnsetType = UNSET
    recent: Annotated[list[Interaction], Meta(description="The newest, newest first.")] | UnsetType = UNSET


class RecordedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A list as it was served, and what it was made from."""

    recommendation_id: str
    kind: str
    time: Annotated[str, Meta(description="RFC 3339, UTC.")]
    bundle: str
    item_stats: Annotated[str, Meta(description="Version of the item statistics.")]
    variants: Annotated[dict[str, str], Meta(description="Of each experiment and rollout that the user was in.")]
    propensity: float
    overridden: Annotated[list[str], Meta(description="Of these, what was given to this user by hand.")]
    query: Annotated[dict[str, Any], Meta(description="The request, with its defaults.")]
    diversity: Annotated[float, Meta(description="The request's, or the setting.")]
    user_state: Annotated[StateSummary, Meta(description="Absent where nothing was stored.")] | UnsetType = UNSET
    items: list[Place]
    bundles: Annotated[dict[str, str], Meta(description="Of an interleaved list: of each variant.")] | UnsetType = UNSET
    removed: Removed
    ranked: Ranked
    degraded: list[Degradation]
    timing_ms: dict[str, float]


class Outcome(StrEnum):
    """What became of making an answer again."""

    IDENTICAL = "identical"
    DIFFERENT = "different"
    NOT_REPLAYABLE = "not_replayable"  # the answer was not made by `recommend` alone, or what made it is gone
    ERASED = "erased"  # its user was forgotten


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer came to. `place` is the first that differs; absent where this list is over, or none differs."""

    removed: Removed
    ranked: Ranked
    place: Place | UnsetType = UNSET


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What became of making an answer again from its record and its bundle."""

    recommendation_id: str
    outcome: Outcome
    stage: Annotated[Stage, Meta(description="The first that differs, in the order of a request.")] | UnsetType = UNSET
    features: Annotated[list[str], Meta(description="Those that differ, if they are the first.")] = []
    detail: Annotated[str, Meta(description="What differs, or why the answer cannot be made again.")] = ""
    served: Made | UnsetType = UNSET
    now: Made | UnsetType = UNSET


class RecordedExplanation(Replay, frozen=True, kw_only=True):
    """Why an earlier list is as it is: only where it comes out the same, bit for bit, when it is made again."""

    explanation: Explanation | UnsetType = UNSET


class WhyNotRequest(Request, frozen=True, kw_only=True):
    """The item that is asked about."""

    item_id: Id


class RecordedWhyNot(Replay, frozen=True, kw_only=True):
    """Why an item is not on an earlier list: only where that comes out the same when it is made again."""

    item_id: str
    why_not: WhyNot | UnsetType = UNSET
