"""Request bodies: bytes in, a checked struct out, or a `RequestError` that points at the field.

Cost on the hot path: one msgspec pass and one scan of the ids. Everything else here runs on errors only.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from service.errors import FieldError, RequestError
from service.experiment_schemas import ExperimentChange, ExperimentRequest
from service.item_schemas import ItemDescription, ItemPatch, ItemsRequest
from service.record_schemas import WhyNotRequest
from service.schemas import (
    MAX_ID_BYTES,
    ContextValue,
    EventsRequest,
    MergeRequest,
    RecommendationRequest,
    SimilarRequest,
)

T = TypeVar("T", bound=msgspec.Struct)

_RECOMMENDATION = msgspec.json.Decoder(RecommendationRequest)
_SIMILAR = msgspec.json.Decoder(SimilarRequest)
_EVENTS = msgspec.json.Decoder(EventsRequest)
_MERGE = msgspec.json.Decoder(MergeRequest)
_EXPERIMENT = msgspec.json.Decoder(ExperimentRequest)
_EXPERIMENT_CHANGE = msgspec.json.Decoder(ExperimentChange)
_WHY_NOT = msgspec.json.Decoder(WhyNotRequest)
_ITEM = msgspec.json.Decoder(ItemDescription)
_ITEM_PATCH = msgspec.json.Decoder(ItemPatch)
_ITEMS = msgspec.json.Decoder(ItemsRequest)

# msgspec: "Expected `str`, got `int` - at `$.filter.categories.any[0]`" or "... - at `key` in `$.context`".
_NAMED_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*?)`?", re.DOTALL)
_PATH_STEP = re.compile(r"\.([^.\[`]+)|\[(\d+|\.\.\.)\]")
_CODES = (("` of length ", "length"), ("matching regex", "pattern"), (", got `", "type"), ("atetime", "timestamp"))
_PATTERN = "expected 1 to 64 letters, digits, '_', '.', ':' or '-'"  # of a placement, the only pattern there is
_LONGEST_NAME = 256  # a longer unknown name is not echoed


def decode_recommendation(body: bytes) -> RecommendationRequest:
    """Decode and check a recommendation request. Raises RequestError, also where a category has two quotas."""
    request = _decode(_RECOMMENDATION, body)
    session = request.session
    _check_ids(
        ("/user_id", (request.user_id,)),
        ("/session/id", (session.id,) if session and session.id is not None else ()),
        ("/session/item_ids/", session.item_ids if session else ()),
        ("/exclude_item_ids/", request.exclude_item_ids),
    )
    if request.quotas:
        _check_distinct([one.category for one in request.quotas], "/quotas/{}/category")
    return request


def decode_similar(body: bytes) -> SimilarRequest:
    """Decode and check a similar-items request. Raises RequestError."""
    request = _decode(_SIMILAR, body)
    _check_ids(("/item_ids/", request.item_ids), ("/exclude_item_ids/", request.exclude_item_ids))
    return request


def decode_events(body: bytes) -> EventsRequest:
    """Decode and check events. Raises RequestError, if any row is not shaped as an event."""
    request = _decode(_EVENTS, body)
    ids = [(row.event_id, row.user_id, row.item_id, row.recommendation_id or "") for row in request.events]
    if not _plain("".join(map("".join, ids))):
        names = ("event_id", "user_id", "item_id", "recommendation_id")
        _check_ids(
            *(
                (f"/events/{n}/{name}", (one,))
                for n, row in enumerate(ids)
                for name, one in zip(names, row, strict=True)
            )
        )
    return request


def decode_merge(body: bytes) -> MergeRequest:
    """Decode and check whose interactions to merge. Raises RequestError."""
    request = _decode(_MERGE, body)
    _check_ids(("/from_user_id", (request.from_user_id,)))
    return request


def decode_experiment(body: bytes) -> ExperimentRequest:
    """Decode and check the description of an experiment. Raises RequestError."""
    return _decode(_EXPERIMENT, body)


def decode_experiment_change(body: bytes) -> ExperimentChange:
    """Decode and check who starts or stops an experiment, and why. Raises RequestError."""
    return _decode(_EXPERIMENT_CHANGE, body)


def decode_why_not(body: bytes) -> WhyNotRequest:
    """Decode and check which item is asked about. Raises RequestError."""
    request = _decode(_WHY_NOT, body)
    _check_ids(("/item_id", (request.item_id,)))
    return request


def decode_item(body: bytes) -> ItemDescription:
    """Decode and check the description of an item. Raises RequestError."""
    return _decode(_ITEM, body)


def decode_item_patch(body: bytes) -> ItemPatch:
    """Decode and check changes of an item. Raises RequestError."""
    return _decode(_ITEM_PATCH, body)


def decode_items(body: bytes) -> ItemsRequest:
    """Decode and check descriptions of many items. Raises RequestError, also where an item is there twice."""
    request = _decode(_ITEMS, body)
    ids = [row.item_id for row in request.items]
    if not _plain("".join(ids)):
        _check_ids(*((f"/items/{n}/item_id", (one,)) for n, one in enumerate(ids)))
    _check_distinct(ids, "/items/{}/item_id")
    return request


def checked_id(item_id: str) -> str:
    """An id from a path, which no schema has checked. Raises RequestError."""
    if refused := list(_refused_ids([("", (item_id,))])):
        raise request_error(refused)
    return item_id


def _check_distinct(names: Sequence[str], pointer: str) -> None:
    """Refuse each name that was there before. `pointer` has a place for its number. Raises RequestError."""
    first = {one: n for n, one in reversed(list(enumerate(names)))}
    if twice := [n for n, one in enumerate(names) if first[one] != n]:
        raise request_error([FieldError(pointer.format(n), "duplicate", "is there twice") for n in twice])


def _decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        refused = _refused_field(str(error), body)
        if refused.code == "pattern":
            refused = FieldError(refused.pointer, refused.code, _PATTERN)
    except msgspec.DecodeError as error:
        refused = FieldError("", "malformed_json", _malformed(str(error)))
    except UnicodeDecodeError as error:
        where = f"{error.reason} {error.start} bytes into it"
        refused = FieldError("", "malformed_json", f"a string is not valid UTF-8: {where}")
    raise request_error([refused])


def request_error(refused: Sequence[FieldError]) -> RequestError:
    """A RequestError whose detail repeats the refused fields, for readers of the one line."""
    detail = "; ".join(f"{field.pointer or 'body'}: {field.detail}" for field in refused[:5])
    return RequestError(detail, refused)


def _malformed(message: str) -> str:
    if "truncated" in message:  # msgspec says so of a lone surrogate near the end, too
        return "the JSON ends too early, or a \\ud800-\\udfff escape lacks its other half"
    return message


def _refused_field(message: str, body: bytes) -> FieldError:
    what, _, path = message.partition(" - at `")
    pointer = _pointer(path, body)
    if named := _NAMED_FIELD.fullmatch(what):
        problem, name = named.groups()
        if problem == "missing required":
            return FieldError(f"{pointer}/{_escaped(name)}", "missing", "required, but missing")
        if len(name) > _LONGEST_NAME:
            return FieldError(pointer, "unknown_field", "an unknown field with a very long name; remove it")
        return FieldError(f"{pointer}/{_escaped(name)}", "unknown_field", "unknown field; remove it")
    code = next((code for fragment, code in _CODES if fragment in what), "range")
    return FieldError(pointer, code, f"a key of this object: {what}" if path.startswith("key`") else what)


def _pointer(path: str, body: bytes) -> str:
    """msgspec's `$.filter.categories.any[0]` as an RFC 6901 pointer."""
    pointer = ""
    for field, index in _PATH_STEP.findall(path):
        if index == "...":  # msgspec does not name the entry of a mapping; the only mapping is `context`
            key = _refused_context_key(body)
            return pointer if key is None else f"{pointer}/{_escaped(key)}"
        pointer += f"/{field or index}"
    return pointer


class _ContextOnly(msgspec.Struct):
    context: dict[str, msgspec.Raw]


def _refused_context_key(body: bytes) -> str | None:
    try:
        context = msgspec.json.decode(body, type=_ContextOnly).context
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the body is broken further on, or nested without end
    for key, value in context.items():
        try:
            msgspec.json.decode(value, type=ContextValue)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return key
    return None  # the refused entry has a namesake after it, which replaced it


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _check_ids(*groups: tuple[str, Sequence[str]]) -> None:
    """Refuse ids that the schema cannot: over 256 bytes, or with U+0000.

    A pointer that ends in "/" is a list's and gets the index. Short ASCII ids, the rule, cost one join.
    """
    if _plain("".join("".join(ids) for _, ids in groups)):
        return
    if refused := list(_refused_ids(groups)):
        raise request_error(refused)


def _plain(ids: str) -> bool:
    """Whether ids are such as the schema has checked in full: ASCII, where characters are bytes, and no U+0000."""
    return ids.isascii() and "\0" not in ids


def _refused_ids(groups: Sequence[tuple[str, Sequence[str]]]) -> Iterator[FieldError]:
    for pointer, ids in groups:
        for index, id_ in enumerate(ids):
            at = f"{pointer}{index}" if pointer.endswith("/") else pointer
            if (size := len(id_.encode())) > MAX_ID_BYTES:
                yield FieldError(at, "length", f"{size} UTF-8 bytes; an id has at most {MAX_ID_BYTES}")
            elif "\0" in id_:
                yield FieldError(at, "character", "contains U+0000, which no id may")
