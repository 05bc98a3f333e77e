"""Every field of the request bodies: what is refused, with which pointer and code, and what is taken."""

import json
from typing import Any

import msgspec
import pytest

from service.decoding import decode_recommendation, decode_similar
from service.errors import RequestError
from service.schemas import Problem, RecommendationRequest, SimilarRequest

ID_256 = "i" * 256
BYTES_258 = "é" * 129  # 129 characters, 258 bytes
ABSENT = object()


def body(**fields: Any) -> bytes:
    fields = {"user_id": "u1", **fields}
    return json.dumps({name: value for name, value in fields.items() if value is not ABSENT}).encode()


def similar_body(**fields: Any) -> bytes:
    fields = {"item_ids": ["i1"], **fields}
    return json.dumps({name: value for name, value in fields.items() if value is not ABSENT}).encode()


def filter_of(categories: Any) -> dict[str, Any]:
    return {"filter": {"categories": categories}}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"user_id": ABSENT}, "/user_id", "missing"),
    ({"user_id": None}, "/user_id", "type"),
    ({"user_id": 7}, "/user_id", "type"),
    ({"user_id": True}, "/user_id", "type"),
    ({"user_id": ""}, "/user_id", "length"),
    ({"user_id": ID_256 + "i"}, "/user_id", "length"),
    ({"user_id": BYTES_258}, "/user_id", "length"),
    ({"user_id": "a\0b"}, "/user_id", "character"),
    ({"count": 0}, "/count", "range"),
    ({"count": 501}, "/count", "range"),
    ({"count": -1}, "/count", "range"),
    ({"count": 10**30}, "/count", "range"),
    ({"count": 20.0}, "/count", "type"),
    ({"count": 1e99}, "/count", "type"),
    ({"count": "20"}, "/count", "type"),
    ({"count": True}, "/count", "type"),
    ({"count": None}, "/count", "type"),
    ({"placement": ""}, "/placement", "pattern"),
    ({"placement": "a b"}, "/placement", "pattern"),
    ({"placement": "home\n"}, "/placement", "pattern"),
    ({"placement": "a" * 65}, "/placement", "pattern"),
    ({"placement": None}, "/placement", "type"),
    ({"session": []}, "/session", "type"),
    ({"session": {}}, "/session/item_ids", "missing"),
    ({"session": {"item_ids": None}}, "/session/item_ids", "type"),
    ({"session": {"item_ids": "i1"}}, "/session/item_ids", "type"),
    ({"session": {"item_ids": ["i"] * 101}}, "/session/item_ids", "length"),
    ({"session": {"item_ids": ["i", 2]}}, "/session/item_ids/1", "type"),
    ({"session": {"item_ids": ["i", ""]}}, "/session/item_ids/1", "length"),
    ({"session": {"item_ids": ["i", BYTES_258]}}, "/session/item_ids/1", "length"),
    ({"session": {"item_ids": [], "id": ""}}, "/session/id", "length"),
    ({"session": {"item_ids": [], "id": "\0"}}, "/session/id", "character"),
    ({"session": {"item_ids": [], "ids": 1}}, "/session/ids", "unknown_field"),
    ({"context": None}, "/context", "type"),
    ({"context": []}, "/context", "type"),
    ({"context": {"": 1}}, "/context", "length"),
    ({"context": {"k" * 65: 1}}, "/context", "length"),
    ({"context": {str(n): n for n in range(33)}}, "/context", "length"),
    ({"context": {"ok": 1, "device": None}}, "/context/device", "type"),
    ({"context": {"a/b~c": []}}, "/context/a~1b~0c", "type"),
    ({"context": {"device": {"os": "ios"}}}, "/context/device", "type"),
    ({"context": {"device": "x" * 257}}, "/context/device", "length"),
    ({"context": {"n": 2**63}}, "/context/n", "range"),
    ({"context": {"n": -(2**63) - 1}}, "/context/n", "range"),
    ({"exclude_item_ids": None}, "/exclude_item_ids", "type"),
    ({"exclude_item_ids": ["i"] * 1001}, "/exclude_item_ids", "length"),
    ({"exclude_item_ids": ["i", None]}, "/exclude_item_ids/1", "type"),
    ({"exclude_item_ids": ["i"] * 7 + ["a\0"]}, "/exclude_item_ids/7", "character"),
    ({"filter": {}}, "/filter/categories", "missing"),
    ({"filter": {"all": []}}, "/filter/all", "unknown_field"),
    ({"filter": "Drama"}, "/filter", "type"),
    (filter_of(["Drama"]), "/filter/categories", "type"),
    (filter_of({}), "/filter/categories/any", "missing"),
    (filter_of({"any": []}), "/filter/categories/any", "length"),
    (filter_of({"any": ["c"] * 51}), "/filter/categories/any", "length"),
    (filter_of({"any": ["Drama", 3]}), "/filter/categories/any/1", "type"),
    (filter_of({"any": [""]}), "/filter/categories/any/0", "length"),
    (filter_of({"any": ["Drama"], "none": []}), "/filter/categories/none", "unknown_field"),
    ({"quotas": None}, "/quotas", "type"),
    ({"quotas": {"Drama": 3}}, "/quotas", "type"),
    ({"quotas": [{"category": f"c{n}", "max": 1} for n in range(51)]}, "/quotas", "length"),
    ({"quotas": [{"category": "Drama"}]}, "/quotas/0/max", "missing"),
    ({"quotas": [{"max": 1}]}, "/quotas/0/category", "missing"),
    ({"quotas": [{"category": "", "max": 1}]}, "/quotas/0/category", "length"),
    ({"quotas": [{"category": "Drama", "max": 0}]}, "/quotas/0/max", "range"),
    ({"quotas": [{"category": "Drama", "max": 501}]}, "/quotas/0/max", "range"),
    ({"quotas": [{"category": "Drama", "max": 2.5}]}, "/quotas/0/max", "type"),
    ({"quotas": [{"category": "Drama", "max": 1, "min": 0}]}, "/quotas/0/min", "unknown_field"),
    ({"quotas": [{"category": c, "max": 1} for c in ("Drama", "Comedy", "Drama")]}, "/quotas/2/category", "duplicate"),
    ({"diversity": -0.01}, "/diversity", "range"),
    ({"diversity": 1.01}, "/diversity", "range"),
    ({"diversity": "0.5"}, "/diversity", "type"),
    ({"diversity": True}, "/diversity", "type"),
    ({"popularity_damping": -0.01}, "/popularity_damping", "range"),
    ({"popularity_damping": 1.01}, "/popularity_damping", "range"),
    ({"popularity_damping": None}, "/popularity_damping", "type"),
    ({"return": None}, "/return", "type"),
    ({"return": {"scores": 1}}, "/return/scores", "type"),
    ({"return": {"trace": True}}, "/return/trace", "unknown_field"),
    ({"deadline_ms": 0}, "/deadline_ms", "range"),
    ({"deadline_ms": 10_001}, "/deadline_ms", "range"),
    ({"deadline_ms": 1.5}, "/deadline_ms", "type"),
    ({"deadline_ms": "80"}, "/deadline_ms", "type"),
    ({"validate_only": "true"}, "/validate_only", "type"),
    ({"validate_only": None}, "/validate_only", "type"),
    ({"userid": "u"}, "/userid", "unknown_field"),
    ({"a/b~": 1}, "/a~1b~0", "unknown_field"),
    ({"x`y": 1}, "/x`y", "unknown_field"),
    ({"n" * 300: 1}, "", "unknown_field"),
]

REFUSED_SIMILAR: list[tuple[dict[str, Any], str, str]] = [
    ({"item_ids": ABSENT}, "/item_ids", "missing"),
    ({"item_ids": []}, "/item_ids", "length"),
    ({"item_ids": ["i"] * 51}, "/item_ids", "length"),
    ({"item_ids": "i1"}, "/item_ids", "type"),
    ({"item_ids": [None]}, "/item_ids/0", "type"),
    ({"item_ids": ["i", BYTES_258]}, "/item_ids/1", "length"),
    ({"count": 501}, "/count", "range"),
    ({"exclude_item_ids": ["\0"]}, "/exclude_item_ids/0", "character"),
    ({"filter": {}}, "/filter/categories", "missing"),
    ({"return": []}, "/return", "type"),
    ({"deadline_ms": 0}, "/deadline_ms", "range"),
    ({"user_id": "u1"}, "/user_id", "unknown_field"),
    ({"validate_only": True}, "/validate_only", "unknown_field"),
    ({"diversity": 0.5}, "/diversity", "unknown_field"),
]

MALFORMED: list[tuple[bytes, str, str, str]] = [
    (b"   ", "", "malformed_json", "ends too early"),
    (b"{", "", "malformed_json", "ends too early"),
    (b'{"user_id":"u1" "count":1}', "", "malformed_json", "(byte 16)"),
    (b'{"user_id":"u1"} {}', "", "malformed_json", "trailing characters"),
    (b'{"user_id":"u1","count":NaN}', "", "malformed_json", "(byte 24)"),
    (b'{"user_id":"u1","count":Infinity}', "", "malformed_json", "(byte 24)"),
    (b'{"user_id":"u1","context":{"a":-Infinity}}', "", "malformed_json", "(byte 32)"),
    (b"\xef\xbb\xbf{}", "", "malformed_json", "(byte 0)"),
    (b'{"user_id":"u\xff"}', "", "malformed_json", "not valid UTF-8: invalid start byte 1 bytes into it"),
    (b'{"user_id":"\\ud800"}', "", "malformed_json", "escape lacks its other half"),
    (b'{"user_id":"\\ud800 and more"}', "", "malformed_json", "surrogate pair"),
    (b"null", "", "type", "got `null`"),
    (b'["u1"]', "", "type", "got `array`"),
    (b"[" * 100_000, "", "type", "got `array`"),
    (b'{"user_id":"u1","x":' + b"[" * 100_000, "/x", "unknown_field", "remove it"),
    (b'{"user_id":"u1","context":{"a":' + b"[" * 100_000, "/context", "type", "got `array`"),
    (b'{"user_id":"u1","context":{"a":1e400}}', "/context/a", "range", "out of range"),
    (b'{"user_id":"u1","context":{"a":' + b"9" * 5000 + b"}}", "/context/a", "range", "out of range"),
    (b'{"user_id":"u1","context":{"a":null,"a":1}}', "/context", "type", "got `null`"),
    (b'{"user_id":"u1","context":{"a":null,"a":"\\ud800"}}', "/context", "type", "got `null`"),
    (b'{"user_id":"u1","context":{"a":null,"a":"\xff"}}', "/context/a", "type", "got `null`"),
    (b'{"user_id":"u1","context":{"a":null},"count":!}', "/context", "type", "got `null`"),
]


@pytest.mark.parametrize(("fields", "pointer", "code"), REFUSED)
def test_bad_field_is_refused_with_a_pointer_to_it(fields: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(RequestError) as refusal:
        decode_recommendation(body(**fields))
    assert [(field.pointer, field.code) for field in refusal.value.errors] == [(pointer, code)]


@pytest.mark.parametrize(("fields", "pointer", "code"), REFUSED_SIMILAR)
def test_bad_field_of_a_similar_request_is_refused(fields: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(RequestError) as refusal:
        decode_similar(similar_body(**fields))
    assert [(field.pointer, field.code) for field in refusal.value.errors] == [(pointer, code)]


@pytest.mark.parametrize(("raw", "pointer", "code", "detail"), MALFORMED)
def test_malformed_json_is_refused_with_its_position(raw: bytes, pointer: str, code: str, detail: str) -> None:
    with pytest.raises(RequestError) as refusal:
        decode_recommendation(raw)
    (field,) = refusal.value.errors
    assert (field.pointer, field.code) == (pointer, code)
    assert detail in field.detail


def test_every_id_that_the_schema_cannot_refuse_is_reported_at_once() -> None:
    with pytest.raises(RequestError) as refusal:
        decode_recommendation(body(user_id=BYTES_258, exclude_item_ids=["a", "b\0"]))
    assert [field.pointer for field in refusal.value.errors] == ["/user_id", "/exclude_item_ids/1"]
    assert str(refusal.value).startswith("/user_id: 258 UTF-8 bytes; an id has at most 256; /exclude_item_ids/1")


def test_refusal_does_not_echo_a_huge_field_name() -> None:
    with pytest.raises(RequestError) as refusal:
        decode_recommendation(body(**{"n" * 100_000: 1}))
    assert len(str(refusal.value)) < 200


def test_smallest_request_has_the_documented_defaults() -> None:
    assert decode_recommendation(b'{"user_id":"u1"}') == RecommendationRequest(
        user_id="u1",
        count=20,
        placement="default",
        session=None,
        context={},
        exclude_item_ids=[],
        filter=None,
        quotas=[],
        diversity=None,
        popularity_damping=0.0,
    )
    similar = decode_similar(b'{"item_ids":["i1"]}')
    assert (similar.count, similar.deadline_ms) == (20, None)
    assert (similar.return_.metadata, similar.return_.scores, similar.return_.reasons) == (True, True, False)


LIMITS: list[dict[str, Any]] = [
    {"user_id": ID_256},
    {"user_id": "é" * 128},
    {"user_id": "😀/?#% \n\x01"},
    {"count": 1},
    {"count": 500},
    {"placement": "a" * 64},
    {"placement": "Home_1.2:b-c"},
    {"session": None, "filter": None, "deadline_ms": None},
    {"session": {"item_ids": [], "id": "s1"}},
    {"session": {"item_ids": [ID_256] * 100, "id": None}},
    {"context": {"k" * 64: "x" * 256, "min": -(2**63), "max": 2**63 - 1, "f": 1.5, "b": False}},
    {"context": {str(n): n for n in range(32)}},
    {"exclude_item_ids": [ID_256] * 1000},
    filter_of({"any": ["c"] * 50}),
    {"quotas": [{"category": f"c{n}", "max": 500 if n else 1} for n in range(50)]},
    {"diversity": 0.0, "popularity_damping": 0.0},
    {"diversity": 1.0, "popularity_damping": 1.0},
    {"diversity": 1, "popularity_damping": 0},
    {"diversity": None},
    {"deadline_ms": 1},
    {"deadline_ms": 10_000},
]


@pytest.mark.parametrize("fields", LIMITS)
def test_value_at_its_limit_is_taken_as_it_is(fields: dict[str, Any]) -> None:
    taken = msgspec.to_builtins(decode_recommendation(body(**fields)))
    assert {name: taken[name] for name in fields} == fields


def test_ints_and_floats_of_the_context_keep_their_type() -> None:
    context = decode_recommendation(body(context={"int": 1, "float": 1.0, "bool": True})).context
    assert {name: type(value) for name, value in context.items()} == {
        "int": int,
        "float": float,
        "bool": bool,
    }


def test_requests_are_immutable() -> None:
    request = decode_similar(similar_body())
    with pytest.raises(AttributeError):
        request.count = 3  # type: ignore[misc]
    assert isinstance(request, SimilarRequest)


def test_problem_without_field_errors_has_no_errors_member() -> None:
    problem = Problem(type="urn:x", title="t", status=404, detail="d", request_id="r")
    assert "errors" not in json.loads(msgspec.json.encode(problem))
