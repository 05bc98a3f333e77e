"""The JSON bodies of the HTTP API, one struct each: what is decoded, what is answered, what is documented.

Requests are strict: unknown fields, wrong types and values out of range are refused, nothing is coerced.
Answers are built as plain dicts on the hot path; their structs describe them, and tests hold the two equal.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service import admission
from service.errors import FieldError
from service.explanation_schemas import Explanation

MAX_ID_BYTES = 256

Id = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_ID_BYTES, description="Opaque; at most 256 UTF-8 bytes, without U+0000."),
]
Count = Annotated[int, Meta(ge=1, le=500, description="Items wanted. Never coerced: 501 is refused.")]
# `(?!\n)`: Python's `$` also matches before a final newline.
Placement = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}(?!\n)$", description="Where the list is shown.")]
ContextKey = Annotated[str, Meta(min_length=1, max_length=64)]
ContextValue = (
    Annotated[str, Meta(max_length=256)]
    | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # 64 bits: what a decision record can hold
    | float
    | bool
)
Context = Annotated[
    dict[ContextKey, ContextValue],
    Meta(max_length=32, description="Facts of this request, such as the device. Never recorded as an event."),
]
ExcludedIds = Annotated[list[Id], Meta(max_length=1000, description="Items that must not be in the list.")]
Category = Annotated[str, Meta(min_length=1, max_length=256)]
Strength = Annotated[float, Meta(ge=0, le=1)]
Priority = Annotated[
    admission.Priority,
    Meta(description="Under load `low` is shed first, `high` last; the order of answers is as ever."),
]
DeadlineMs = Annotated[
    int, Meta(ge=1, le=10_000, description="Milliseconds this answer may take; null: the service's default.")
]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything in a request: immutable, unknown fields refused."""


class Session(Request, frozen=True, kw_only=True):
    """What an anonymous or new visitor did just now, on top of what is known of the user."""

    item_ids: Annotated[list[Id], Meta(max_length=100, description="Oldest first.")]
    id: Id | None = None


class CategoryFilter(Request, frozen=True, kw_only=True):
    """Which categories an item may have."""

    any_of: Annotated[
        list[Category], Meta(min_length=1, max_length=50, description="An item needs at least one of these.")
    ] = msgspec.field(name="any")


class Filter(Request, frozen=True, kw_only=True):
    """What every item of the list must satisfy. One that cannot be applied is an error."""

    categories: CategoryFilter


class Quota(Request, frozen=True, kw_only=True):
    """How many items of a category the list may hold. An item counts for each of its categories."""

    category: Category
    max: Annotated[int, Meta(ge=1, le=500)]


class SimilarReturn(Request, frozen=True, kw_only=True):
    """Which optional parts of each item to answer with."""

    metadata: bool = True
    scores: bool = True
    reasons: bool = False


class Return(SimilarReturn, frozen=True, kw_only=True):
    """The same, and whether to explain the list."""

    explain: bool = False


class RecommendationRequest(Request, frozen=True, kw_only=True):
    """Ask for a ranked list for one user, at this moment."""

    user_id: Id
    count: Count = 20
    placement: Placement = "default"
    session: Session | None = None
    context: Context = {}
    exclude_item_ids: ExcludedIds = []
    filter: Filter | None = None
    quotas: Annotated[
        list[Quota], Meta(max_length=50, description="Hard maxima: where nothing else fits, the list ends.")
    ] = []
    diversity: (
        Annotated[Strength, Meta(description="What likeness of items counts against relevance; null: the setting.")]
        | None
    ) = None
    popularity_damping: Annotated[
        Strength, Meta(description="The share of its relevance that the most popular candidate loses.")
    ] = 0.0
    return_: Return = msgspec.field(default=Return(), name="return")
    deadline_ms: DeadlineMs | None = None
    priority: Priority = "normal"
    validate_only: Annotated[
        bool, Meta(description='Check the request and answer `{"valid": true}`; no list, nothing recorded.')
    ] = False


class SimilarRequest(Request, frozen=True, kw_only=True):
    """Ask for items like the given ones, whoever asks."""

    item_ids: Annotated[list[Id], Meta(min_length=1, max_length=50, description="Items to be similar to.")]
    count: Count = 20
    exclude_item_ids: ExcludedIds = []
    filter: Filter | None = None
    return_: SimilarReturn = msgspec.field(default=SimilarReturn(), name="return")
    deadline_ms: DeadlineMs | None = None
    priority: Priority = "normal"


class EventRow(Request, frozen=True, kw_only=True):
    """One thing that a user did to an item, or, as `impression`, was shown."""

    event_id: Annotated[Id, Meta(description="Yours. Sent again with the same body, an event counts once.")]
    type: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=32,
            description="impression, view, click, like, purchase, rating, hide, or a verb of the setting `verbs`.",
        ),
    ]
    user_id: Id
    item_id: Id
    ts: Annotated[datetime, Meta(tz=True, description="When it happened: RFC 3339, with an offset.")]
    recommendation_id: Annotated[Id | None, Meta(description="Of the list that it came from.")] = None
    position: Annotated[int, Meta(ge=1, le=10_000, description="Rank in that list.")] | None = None
    value: Annotated[float | None, Meta(description="Of a rating, or an amount.")] = None
    properties: Annotated[
        dict[ContextKey, ContextValue], Meta(max_length=32, description="Anything else; logged with the event.")
    ] = {}


class EventsRequest(Request, frozen=True, kw_only=True):
    """Put events on record."""

    events: Annotated[list[EventRow], Meta(min_length=1, max_length=1000)]


class EventResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event, in the order in which they were sent."""

    event_id: str
    status: Annotated[
        Literal[202, 409, 422],
        Meta(description="202: in the log. 409: the id is, with another body. 422: not acceptable; see `error`."),
    ]
    error: FieldError | UnsetType = UNSET


class EventsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all events. Those with status 202 are in the log."""

    accepted: int
    refused: int
    results: list[EventResult]


class MergeRequest(Request, frozen=True, kw_only=True):
    """Whose interactions become the user's: those of a session before logging in, say."""

    from_user_id: Id


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """What was merged. The next list of the user knows it."""

    user_id: str
    from_user_id: str
    merged: Annotated[int, Meta(description="Interactions given now; those of an earlier merge are not given twice.")]
    unknown_items: Annotated[int, Meta(description="Interactions with items that are no longer known: left out.")]


class Erasure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The receipt of an order to forget a user."""

    receipt_id: str
    user: Annotated[str, Meta(description="BLAKE2b digest of the id; the id itself is kept nowhere.")]
    status: Literal["pending", "done"]
    requested_at: Annotated[str, Meta(description="RFC 3339, UTC.")]
    refused_until: Annotated[str, Meta(description="Until then events of this user are refused.")]
    done_at: str | UnsetType = UNSET
    removed: Annotated[dict[str, int], Meta(description="What was found, by store, in the run that finished.")] | (
        UnsetType
    ) = UNSET


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a list. Optional parts are absent, not null, when they were not asked for."""

    item_id: str
    rank: Annotated[int, Meta(ge=1)]
    score: float | UnsetType = UNSET
    sources: Annotated[list[str], Meta(description="Which retrieval sources offered it.")] | UnsetType = UNSET
    reasons: list[str] | UnsetType = UNSET
    propensity: (
        Annotated[float, Meta(description="Of a new item drawn by chance: how probable just this one was.")] | UnsetType
    ) = UNSET
    variant: (
        Annotated[str, Meta(description="Of an interleaved list: whose credit it is; absent where both have it here.")]
        | UnsetType
    ) = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class Degradation(msgspec.Struct, frozen=True, kw_only=True):
    """A stage that could not do its work, why, and what was done instead."""

    stage: str
    cause: str
    fallback: str


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """How many items were asked for and how many there are."""

    requested: int
    returned: int


class Slate(msgspec.Struct, frozen=True, kw_only=True):
    """What every list has: its items, best first, and how it was made."""

    recommendation_id: Annotated[str, Meta(description="UUIDv7. Send it with events to credit this list.")]
    bundle: Annotated[str, Meta(description="That every stage used; of an interleaved list, the control's.")]
    variants: Annotated[
        dict[str, str], Meta(description="The variant of each experiment, and of a rollout, that this user is in.")
    ]
    items: list[Item]
    degraded: Annotated[list[Degradation], Meta(description="Empty when everything worked.")]
    filled: Filled
    quality: Annotated[
        float,
        Meta(description="Share of the usual candidates that were ranked: below 1 under load, 0 where none were."),
    ]
    unknown_ids: Annotated[list[str], Meta(description="Ids of the request that the bundle does not know.")]
    timing_ms: Annotated[dict[str, float], Meta(description="`total` and one entry per stage.")]


class SimilarResponse(Slate, frozen=True, kw_only=True):
    """Items like the given ones."""


class RecommendationResponse(Slate, frozen=True, kw_only=True):
    """A ranked list for one user. An unknown user is answered, with `strategy: "cold_start"`."""

    placement: str
    strategy: Literal["personalized", "cold_start"]
    explanation: Explanation | UnsetType = UNSET


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `validate_only`: the request would have been served."""

    valid: Literal[True]


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests can be served now; if not, every reason."""

    ready: bool
    reasons: list[str] = []
    bundle: str | None = None
    traffic: Annotated[int | None, Meta(description="The version of the traffic table that is obeyed.")] = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as RFC 9457 describes it. Branch on `type`, quote `request_id` in reports."""

    type: str
    title: str
    status: int
    detail: str
    errors: Annotated[tuple[FieldError, ...], Meta(description="One per refused field.")] = ()
    request_id: str
