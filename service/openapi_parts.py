"""Pieces of an OpenAPI 3.0.3 document."""

from typing import Any

from service import errors
from service.routes import parameters
from service.schemas import Problem

# By their name in a path; percent-encoded as every segment.
_IDS = {
    "recommendation_id": "Of an earlier answer.",
    "item_id": "Of an item; at most 256 UTF-8 bytes.",
    "user_id": "Whose.",
    "receipt_id": "Of the order to forget a user.",
    "name": "Of the experiment.",
}


def operation(
    operation_id: str,
    summary: str,
    body: dict[str, Any] | None,
    answered: str,
    answer: dict[str, Any],
    refusals: tuple[type[errors.HttpError], ...],
    status: str = "200",
) -> dict[str, Any]:
    """An operation whose answer has one shape and whose errors are problems."""
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
        "responses": {status: {"description": answered, "content": answer}, **_problems(refusals)},
    }


def _problems(refusals: tuple[type[errors.HttpError], ...]) -> dict[str, Any]:
    by_status: dict[str, list[type[errors.HttpError]]] = {}
    for kind in refusals:
        by_status.setdefault(str(kind.status), []).append(kind)
    responses: dict[str, Any] = {}
    for status, kinds in by_status.items():
        responses[status] = {
            "description": "; ".join(f"{kind.title} (`{kind.type}`)" for kind in kinds),
            "content": {"application/problem+json": {"schema": ref(Problem)}},
        }
    responses["429"]["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return responses


def get(operation_id: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    """A path that is only read."""
    return {"get": {"operationId": operation_id, "summary": summary, "responses": responses}}


def plain(description: str) -> dict[str, Any]:
    """An answer that is some JSON object."""
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


def body(struct: type, examples: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A JSON body, with named examples."""
    named = {name: {"value": value} for name, value in examples.items()}
    return {"required": True, "content": {"application/json": {"schema": ref(struct), "examples": named}}}


def content(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """JSON of a schema, with an example."""
    return {"application/json": {"schema": schema, "example": example}}


def ref(struct: type) -> dict[str, Any]:
    """A reference to the schema of a struct."""
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def with_ids(template: str, **operations: dict[str, Any]) -> dict[str, Any]:
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


def as_3_0(schema: Any) -> Any:
    """JSON Schema 2020-12 in OpenAPI 3.0's terms: `nullable`, no `propertyNames`, no empty `required`."""
    if isinstance(schema, (list, tuple)):
        return [as_3_0(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {
        key: as_3_0(value)
        for key, value in schema.items()
        if key != "propertyNames" and (key, value) != ("required", [])
    }
    if {"type": "null"} not in schema.get("anyOf", []):
        return schema
    (choice,) = (choice for choice in schema.pop("anyOf") if choice != {"type": "null"})
    if "$ref" in choice:  # 3.0 ignores whatever stands beside a $ref, and `nullable` without a `type`
        choice = {"type": "object", "allOf": [choice]}
    return {**schema, **choice, "nullable": True}
