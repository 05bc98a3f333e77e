"""The OpenAPI document, generated from the structs of `service.schemas` and `record_schemas`.

OpenAPI 3.0.3: Swagger UI 4.15.5, the one in the wheel swagger-ui-bundle, refuses any document whose version
does not begin with "3.0.". msgspec writes JSON Schema 2020-12; `_as_3_0` maps the differences we meet.
"""

import functools
import importlib.metadata
from typing import Any

import msgspec

from service import errors, examples
from service.item_schemas import ItemDescription, ItemPatch, ItemsRequest, ItemsResponse, ItemState
from service.record_schemas import RecordedAnswer, Replay
from service.routes import parameters
from service.schemas import (
    EventsRequest,
    EventsResponse,
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
    ItemDescription,
    ItemPatch,
    ItemsRequest,
    ItemState,
    ItemsResponse,
    Validation,
    Readiness,
    Problem,
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
_ITEM_REFUSALS = (*_REFUSALS, errors.CatalogueUnavailable)
_RECORD_REFUSALS = (errors.NotFound, errors.Overloaded, errors.InternalError, errors.RecordsUnavailable)

# By their name in a path; percent-encoded as every segment.
_IDS = {"recommendation_id": "Of an earlier answer.", "item_id": "Of an item; at most 256 UTF-8 bytes."}


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
    answer = {"oneOf": [_ref(RecommendationResponse), _ref(Validation)]}
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
                "post": _operation(
                    "recommend",
                    "A ranked list for one user",
                    _body(RecommendationRequest, examples.REQUEST_EXAMPLES),
                    "The list",
                    _content(answer, examples.RECOMMENDATION_ANSWER),
                    _LIST_REFUSALS,
                )
            },
            "/v1/similar": {
                "post": _operation(
                    "similar",
                    "Items like the given ones",
                    _body(SimilarRequest, examples.SIMILAR_EXAMPLES),
                    "The list",
                    _content(_ref(SimilarResponse), examples.SIMILAR_ANSWER),
                    _LIST_REFUSALS,
                )
            },
            "/v1/events": {
                "post": _operation(
                    "recordEvents",
                    "Put what users did on record; their next list knows it",
                    _body(EventsRequest, examples.EVENTS_EXAMPLES),
                    "In the log, or refused, row by row",
                    _content(_ref(EventsResponse), examples.EVENTS_ANSWER),
                    _EVENT_REFUSALS,
                )
            },
            **_records(),
            **_items(),
            **_probes(),
        },
        "components": {"schemas": {name: _as_3_0(schema) for name, schema in components.items()}},
    }


def _records() -> dict[str, Any]:
    """The routes about earlier answers."""
    show = _operation(
        "showRecommendation",
        "What was served, and what it was made from",
        None,
        "The record",
        _content(_ref(RecordedAnswer), examples.RECORDED_ANSWER),
        (*_RECORD_REFUSALS, errors.Gone),
    )
    replay = _operation(
        "replayRecommendation",
        "Make an earlier answer again and name the first stage that differs",
        None,
        "Identical, different, or why it cannot be made again",
        _content(_ref(Replay), examples.REPLAY),
        _RECORD_REFUSALS,
    )
    return {
        **_with_ids("/v1/recommendations/{recommendation_id}", get=show),
        **_with_ids("/v1/recommendations/{recommendation_id}:replay", post=replay),
    }


def _items() -> dict[str, Any]:
    """The routes about items."""
    state = _content(_ref(ItemState), examples.ITEM_STATE)
    put = _operation(
        "putItem",
        "Describe an item, a new one or not; lists know it within two seconds",
        _body(ItemDescription, examples.ITEM_EXAMPLES),
        "As it is from now on",
        state,
        _ITEM_REFUSALS,
    )
    patch = _operation(
        "patchItem",
        "Change some fields of an item",
        _body(ItemPatch, examples.ITEM_PATCH_EXAMPLES),
        "As it is from now on",
        state,
        (*_ITEM_REFUSALS, errors.NotFound),
    )
    gone = (errors.NotFound, errors.Overloaded, errors.InternalError, errors.CatalogueUnavailable)
    show = _operation("showItem", "An item as it is described", None, "The item", state, gone)
    delete = _operation("deleteItem", "Take an item out of all lists", None, "Deleted, or was so already", state, gone)
    many = _operation(
        "putItems",
        "Describe up to 1,000 items, all or none of them",
        _body(ItemsRequest, examples.ITEMS_EXAMPLES),
        "All are described",
        _content(_ref(ItemsResponse), {"accepted": 2}),
        _ITEM_REFUSALS,
    )
    return {
        "/v1/items:batch": {"post": many},
        **_with_ids("/v1/items/{item_id}", get=show, put=put, patch=patch, delete=delete),
    }


def _with_ids(template: str, **operations: dict[str, Any]) -> dict[str, Any]:
    """Operations by method, the ids of their path described."""
    ids = [
        {"name": name, "in": "path", "required": True, "description": _IDS[name], "schema": {"type": "string"}}
        for name in parameters(template)
    ]
    return {
        template: {
            method: {**operation, "parameters": [*ids, *operation["parameters"]]}
            for method, operation in operations.items()
        }
    }


def _probes() -> dict[str, Any]:
    """The routes for operators and browsers."""
    return {
        "/livez": _get("livez", "Is the process alive", {"200": _plain("Alive")}),
        "/readyz": _get(
            "readyz",
            "Can requests be served",
            {
                "200": {"description": "Ready", "content": _content(_ref(Readiness), {"ready": True})},
                "503": {
                    "description": "Not ready, and why",
                    "content": _content(_ref(Readiness), {"ready": False, "reasons": ["no bundle is loaded"]}),
                },
            },
        ),
        "/openapi.json": _get("openapi", "This document", {"200": _plain("OpenAPI 3.0.3")}),
        "/docs": _get(
            "docs",
            "This document as a page",
            {"200": {"description": "HTML", "content": {"text/html": {"schema": {"type": "string"}}}}},
        ),
        "/": _get("index", "Where to begin", {"200": _plain("Name, version and links")}),
    }


def _operation(
    operation_id: str,
    summary: str,
    body: dict[str, Any] | None,
    answered: str,
    answer: dict[str, Any],
    refusals: tuple[type[errors.HttpError], ...],
) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": summary,
        "parameters": [
            {
                "name": "X-Request-ID",
                "in": "header",
                "description": "Echoed in the answer and in problems; generated when absent.",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
            }
        ],
        **({} if body is None else {"requestBody": body}),
        "responses": {"200": {"description": answered, "content": answer}, **_problems(refusals)},
    }


def _problems(refusals: tuple[type[errors.HttpError], ...]) -> dict[str, Any]:
    by_status: dict[str, list[type[errors.HttpError]]] = {}
    for kind in refusals:
        by_status.setdefault(str(kind.status), []).append(kind)
    responses: dict[str, Any] = {}
    for status, kinds in by_status.items():
        responses[status] = {
            "description": "; ".join(f"{kind.title} (`{kind.type}`)" for kind in kinds),
            "content": {"application/problem+json": {"schema": _ref(Problem)}},
        }
    responses["429"]["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return responses


def _get(operation_id: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"operationId": operation_id, "summary": summary, "responses": responses}}


def _plain(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


def _body(struct: type, examples: dict[str, dict[str, Any]]) -> dict[str, Any]:
    named = {name: {"value": value} for name, value in examples.items()}
    return {"required": True, "content": {"application/json": {"schema": _ref(struct), "examples": named}}}


def _content(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _ref(struct: type) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _as_3_0(schema: Any) -> Any:
    """JSON Schema 2020-12 in OpenAPI 3.0's terms: `nullable`, no `propertyNames`, no empty `required`."""
    if isinstance(schema, (list, tuple)):
        return [_as_3_0(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {
        key: _as_3_0(value)
        for key, value in schema.items()
        if key != "propertyNames" and (key, value) != ("required", [])
    }
    if {"type": "null"} not in schema.get("anyOf", []):
        return schema
    (choice,) = (choice for choice in schema.pop("anyOf") if choice != {"type": "null"})
    if "$ref" in choice:  # 3.0 ignores whatever stands beside a $ref, and `nullable` without a `type`
        choice = {"type": "object", "allOf": [choice]}
    return {**schema, **choice, "nullable": True}
