"""The OpenAPI document, generated from the structs of `service.schemas` and `record_schemas`.

OpenAPI 3.0.3: Swagger UI 4.15.5, the one in the wheel swagger-ui-bundle, refuses any document whose version
does not begin with "3.0.". msgspec writes JSON Schema 2020-12; `as_3_0` maps the differences we meet.
"""

import functools
import importlib.metadata
from typing import Any

import msgspec

from service import errors, examples, openapi_experiments
from service.item_schemas import ItemDescription, ItemPatch, ItemsRequest, ItemsResponse, ItemState
from service.openapi_parts import as_3_0, body, content, get, operation, plain, ref, with_ids
from service.record_schemas import RecordedAnswer, RecordedExplanation, RecordedWhyNot, Replay, WhyNotRequest
from service.schemas import (
    Erasure,
    EventsRequest,
    EventsResponse,
    Merge,
    MergeRequest,
    Problem,
    Readiness,
    RecommendationRequest,
    RecommendationResponse,
    SimilarRequest,
    SimilarResponse,
    Validation,
)

_STRUCTS = (
    RecommendationRequest,
    RecommendationResponse,
    SimilarRequest,
    SimilarResponse,
    EventsRequest,
    EventsResponse,
    RecordedAnswer,
    Replay,
    RecordedExplanation,
    WhyNotRequest,
    RecordedWhyNot,
    ItemDescription,
    ItemPatch,
    ItemsRequest,
    ItemState,
    ItemsResponse,
    Merge,
    MergeRequest,
    Erasure,
    Validation,
    Readiness,
    Problem,
    *openapi_experiments.STRUCTS,
)
_REFUSALS: tuple[type[errors.HttpError], ...] = (
    errors.RequestError,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.Overloaded,
    errors.InternalError,
)
_LIST_REFUSALS = (*_REFUSALS, errors.Unprocessable, errors.BatchFailed)
_EVENT_REFUSALS = (*_REFUSALS, errors.LogUnavailable)
_ITEM_REFUSALS = (*_REFUSALS, errors.Unprocessable, errors.CatalogueUnavailable)
_BODY_REFUSALS = (errors.RequestError, errors.PayloadTooLarge)  # of what takes no fields
_RECORD_REFUSALS = (errors.NotFound, errors.Overloaded, errors.InternalError, errors.RecordsUnavailable)

_STORE_REFUSALS = (errors.Overloaded, errors.InternalError, errors.StoreUnavailable)


def version() -> str:
    """The installed version of riffle; "0.0.0" when it runs from a source tree that is not installed."""
    try:
        return importlib.metadata.version("riffle")
    except importlib.metadata.PackageNotFoundError:
        return "0.0.0"


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.0.3 document; the same object at every call."""
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")
    answer = {"oneOf": [ref(RecommendationResponse), ref(Validation)]}
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Riffle",
            "version": version(),
            "description": "Real-time recommendations. Ids travel in bodies and paths, never in query "
            "strings. Every error is `application/problem+json`.",
        },
        "paths": {
            "/v1/recommendations": {
                "post": operation(
                    "recommend",
                    "A ranked list for one user",
                    body(RecommendationRequest, examples.REQUEST_EXAMPLES),
                    "The list",
                    content(answer, examples.RECOMMENDATION_ANSWER),
                    _LIST_REFUSALS,
                )
            },
            "/v1/similar": {
                "post": operation(
                    "similar",
                    "Items like the given ones",
                    body(SimilarRequest, examples.SIMILAR_EXAMPLES),
                    "The list",
                    content(ref(SimilarResponse), examples.SIMILAR_ANSWER),
                    _LIST_REFUSALS,
                )
            },
            "/v1/events": {
                "post": operation(
                    "recordEvents",
                    "Put what users did on record; their next list knows it",
                    body(EventsRequest, examples.EVENTS_EXAMPLES),
                    "In the log, or refused, row by row",
                    content(ref(EventsResponse), examples.EVENTS_ANSWER),
                    _EVENT_REFUSALS,
                )
            },
            **_records(),
            **_items(),
            **_users(),
            **openapi_experiments.paths(),
            **_probes(),
        },
        "components": {"schemas": {name: as_3_0(schema) for name, schema in components.items()}},
    }


def _records() -> dict[str, Any]:
    """The routes about earlier answers."""
    show = operation(
        "showRecommendation",
        "What was served, and what it was made from",
        None,
        "The record",
        content(ref(RecordedAnswer), examples.RECORDED_ANSWER),
        (*_RECORD_REFUSALS, errors.Gone),
    )
    replay = operation(
        "replayRecommendation",
        "Make an earlier answer again and name the first stage that differs",
        None,
        "Identical, different, or why it cannot be made again",
        content(ref(Replay), examples.REPLAY),
        (*_BODY_REFUSALS, *_RECORD_REFUSALS),
    )
    explain = operation(
        "explainRecommendation",
        "Why the items of an earlier list are on it",
        None,
        "The explanation, or why it cannot be given any more",
        content(ref(RecordedExplanation), examples.RECORDED_EXPLANATION),
        (*_BODY_REFUSALS, *_RECORD_REFUSALS),
    )
    why_not = operation(
        "whyNotRecommended",
        "Why an item is not on an earlier list",
        body(WhyNotRequest, examples.WHY_NOT_EXAMPLES),
        "The verdict, or why it cannot be given any more",
        content(ref(RecordedWhyNot), examples.RECORDED_WHY_NOT),
        (*_REFUSALS, errors.NotFound, errors.RecordsUnavailable),
    )
    return {
        **with_ids("/v1/recommendations/{recommendation_id}", get=show),
        **with_ids("/v1/recommendations/{recommendation_id}:replay", post=replay),
        **with_ids("/v1/recommendations/{recommendation_id}:explain", post=explain),
        **with_ids("/v1/recommendations/{recommendation_id}:why-not", post=why_not),
    }


def _items() -> dict[str, Any]:
    """The routes about items."""
    state = content(ref(ItemState), examples.ITEM_STATE)
    put = operation(
        "putItem",
        "Describe an item, a new one or not; lists know it within two seconds",
        body(ItemDescription, examples.ITEM_EXAMPLES),
        "As it is from now on",
        state,
        _ITEM_REFUSALS,
    )
    patch = operation(
        "patchItem",
        "Change some fields of an item",
        body(ItemPatch, examples.ITEM_PATCH_EXAMPLES),
        "As it is from now on",
        state,
        (*_ITEM_REFUSALS, errors.NotFound),
    )
    gone = (errors.NotFound, errors.Overloaded, errors.InternalError, errors.CatalogueUnavailable)
    show = operation("showItem", "An item as it is described", None, "The item", state, gone)
    delete = operation("deleteItem", "Take an item out of all lists", None, "Deleted, or was so already", state, gone)
    many = operation(
        "putItems",
        "Describe up to 1,000 items, all or none of them",
        body(ItemsRequest, examples.ITEMS_EXAMPLES),
        "All are described",
        content(ref(ItemsResponse), {"accepted": 2}),
        _ITEM_REFUSALS,
    )
    return {
        "/v1/items:batch": {"post": many},
        **with_ids("/v1/items/{item_id}", get=show, put=put, patch=patch, delete=delete),
    }


def _users() -> dict[str, Any]:
    """The routes about users."""
    merge = operation(
        "mergeUser",
        "Give a user the interactions of another: of the session before logging in, say",
        body(MergeRequest, examples.MERGE_EXAMPLES),
        "In the log",
        content(ref(Merge), examples.MERGE),
        (*_EVENT_REFUSALS, errors.Unprocessable, errors.StoreUnavailable),
    )
    receipt = content(ref(Erasure), examples.ERASURE)
    forget = operation(
        "forgetUser",
        "Forget a user: state and refusal at once, all other stores within seconds",
        None,
        "On record; the receipt says when it is done. The same receipt while the user is refused",
        receipt,
        (errors.RequestError, *_STORE_REFUSALS),
        status="202",
    )
    refusals = (errors.NotFound, *_STORE_REFUSALS)
    show = operation("showErasure", "How far an order is", None, "The receipt", receipt, refusals)
    return {
        **with_ids("/v1/users/{user_id}", delete=forget),
        **with_ids("/v1/users/{user_id}:merge", post=merge),
        **with_ids("/v1/erasures/{receipt_id}", get=show),
    }


def _probes() -> dict[str, Any]:
    """The routes for operators and browsers."""
    return {
        "/livez": get("livez", "Is the process alive", {"200": plain("Alive")}),
        "/readyz": get(
            "readyz",
            "Can requests be served",
            {
                "200": {"description": "Ready", "content": content(ref(Readiness), {"ready": True})},
                "503": {
                    "description": "Not ready, and why",
                    "content": content(ref(Readiness), {"ready": False, "reasons": ["no bundle is loaded"]}),
                },
            },
        ),
        "/openapi.json": get("openapi", "This document", {"200": plain("OpenAPI 3.0.3")}),
        "/docs": get(
            "docs",
            "This document as a page",
            {"200": {"description": "HTML", "content": {"text/html": {"schema": {"type": "string"}}}}},
        ),
        "/": get("index", "Where to begin", {"200": plain("Name, version and links")}),
    }
