"""The HTTP edge, driven as an ASGI server drives it."""

import asyncio
import json
import logging
import pickle
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import arrival, errors, examples, openapi
from service.experiment_schemas import ExperimentChange, ExperimentRequest
from service.http import HttpEdge
from service.schemas import EventsRequest, RecommendationRequest, SimilarRequest
from service.telemetry.requests import RequestWatch
from service.telemetry.trace import Sampler, Trace, current

JSON = [(b"content-type", b"application/json")]
RECOMMEND = "/v1/recommendations"
MINIMAL = b'{"user_id":"u1"}'
MAX_BODY_BYTES = 4096


class RecordingRecommender:
    """Answers the documented examples and remembers what it was asked."""

    def __init__(
        self,
        answer: dict[str, Any] = examples.RECOMMENDATION_ANSWER,
        failure: Exception | None = None,
        ready: bool = True,
    ) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answer = answer
        self.failure = failure
        self.ready = ready
        self.waited_s: list[float] = []

    async def recommend(self, request: RecommendationRequest, *, waited_s: float = 0.0) -> dict[str, Any]:
        self.waited_s.append(waited_s)
        return self._answer("recommend", request, self.answer)

    async def similar(self, request: SimilarRequest, *, waited_s: float = 0.0) -> dict[str, Any]:
        self.waited_s.append(waited_s)
        return self._answer("similar", request, examples.SIMILAR_ANSWER)

    async def validate(self, request: RecommendationRequest) -> dict[str, Any]:
        return self._answer("validate", request, {"valid": True})

    async def record(self, request: EventsRequest) -> dict[str, Any]:
        return self._answer("record", request, examples.EVENTS_ANSWER)

    async def show(self, recommendation_id: str) -> dict[str, Any]:
        return self._answer("show", recommendation_id, examples.RECORDED_ANSWER)

    async def replay(self, recommendation_id: str) -> dict[str, Any]:
        return self._answer("replay", recommendation_id, examples.REPLAY)

    async def explain(self, recommendation_id: str) -> dict[str, Any]:
        return self._answer("explain", recommendation_id, examples.RECORDED_EXPLANATION)

    async def why_not(self, recommendation_id: str, item_id: str) -> dict[str, Any]:
        return self._answer("why_not", f"{recommendation_id} {item_id}", examples.RECORDED_WHY_NOT)

    async def merge(self, user_id: str, from_user_id: str) -> dict[str, Any]:
        return await self._answer((user_id, from_user_id))

    async def forget(self, user_id: str) -> dict[str, Any]:
        return self._answer("forget", user_id, examples.ERASURE)

    async def receipt(self, receipt_id: str) -> dict[str, Any]:
        return self._answer("receipt", receipt_id, examples.ERASURE)

    async def list(self) -> dict[str, Any]:
        return self._answer("list", "", {"experiments": [examples.EXPERIMENT_STATE]})

    async def create(self, asked: ExperimentRequest) -> dict[str, Any]:
        return self._answer("create", asked, examples.EXPERIMENT_STATE)

    async def start(self, name: str, change: ExperimentChange) -> dict[str, Any]:
        return self._answer("start", (name, change), examples.EXPERIMENT_STATE)

    async def stop(self, name: str, change: ExperimentChange) -> dict[str, Any]:
        return self._answer("stop", (name, change), examples.EXPERIMENT_STATE)

    async def report(self, name: str) -> dict[str, Any]:
        return self._answer("report", name, examples.EXPERIMENT_REPORT)

    def room(self) -> int:
        return 37

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        return self.ready, {"reasons": [] if self.ready else ["no bundle is loaded"], "bundle": None}

    def _answer(self, name: str, request: Any, answer: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((name, request))
        if self.failure is not None:
            raise self.failure
        return answer


class Response(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def sent_by(edge: HttpEdge, scope: dict[str, Any], messages: Sequence[dict[str, Any]]) -> list[Any]:
    """Everything the edge sends on one connection that receives `messages`."""
    incoming = iter(messages)
    sent: list[Any] = []

    async def receive() -> Any:
        return next(incoming)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(edge(scope, receive, send))
    return sent


def call(
    edge: HttpEdge,
    method: str = "POST",
    path: str = RECOMMEND,
    chunks: Sequence[bytes] = (b"",),
    headers: Sequence[tuple[bytes, bytes]] = JSON,
) -> Response:
    """What a request is answered with; `path` as a client sends it, percent-encoded where it has to be."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": index + 1 < len(chunks)}
        for index, chunk in enumerate(chunks)
    ]
    raw_path = path.encode("utf-8", "surrogatepass")
    scope = {"type": "http", "method": method, "path": unquote(path), "raw_path": raw_path, "headers": list(headers)}
    start, end = sent_by(edge, scope, messages)
    return Response(start["status"], dict(start["headers"]), end["body"])


def edge_of(*, watch: RequestWatch | None = None, **behaviour: Any) -> tuple[HttpEdge, RecordingRecommender]:
    recommender = RecordingRecommender(**behaviour)
    everything = [recommender] * 7
    return HttpEdge(*everything, max_body_bytes=MAX_BODY_BYTES, watch=watch), recommender


def assert_problem(response: Response, status: int, slug: str) -> dict[str, Any]:
    assert response.status == status
    assert response.headers[b"content-type"] == b"application/problem+json"
    problem: dict[str, Any] = response.json
    assert problem["status"] == status
    assert problem["type"] == f"urn:riffle:problem:{slug}"
    assert problem["request_id"].encode() == response.headers[b"x-request-id"]
    assert problem["title"]
    assert "Traceback" not in response.body.decode()
    return problem


def test_recommendation_reaches_the_recommender_and_its_answer_the_client() -> None:
    edge, recommender = edge_of()
    response = call(edge, chunks=[MINIMAL])
    assert (response.status, response.json) == (200, examples.RECOMMENDATION_ANSWER)
    assert response.headers[b"content-type"] == b"application/json"
    assert response.headers[b"content-length"] == b"%d" % len(response.body)
    assert recommender.asked == [("recommend", RecommendationRequest(user_id="u1"))]


def test_similar_reaches_the_recommender_and_its_answer_the_client() -> None:
    edge, recommender = edge_of()
    response = call(edge, path="/v1/similar", chunks=[b'{"item_ids":["i1"]}'])
    assert (response.status, response.json) == (200, examples.SIMILAR_ANSWER)
    assert recommender.asked == [("similar", SimilarRequest(item_ids=["i1"]))]


@pytest.mark.parametrize(("path", "body"), [(RECOMMEND, MINIMAL), ("/v1/similar", b'{"item_ids":["i1"]}')])
def test_lists_are_told_how_long_they_waited_in_front_of_this_process(path: str, body: bytes) -> None:
    edge, recommender = edge_of()
    arrived = b"%d" % ((time.time() - 0.05) * 1e6)
    for headers in (JSON, [*JSON, (arrival.HEADER, arrived)], [*JSON, (arrival.HEADER, b"yesterday")]):
        assert call(edge, path=path, chunks=[body], headers=headers).status == 200
    assert recommender.waited_s == [0, pytest.approx(0.05, abs=0.04), 0]


def test_the_proxy_that_says_when_a_list_came_is_told_how_many_may_come() -> None:
    edge, recommender = edge_of()
    proxied = [*JSON, (arrival.HEADER, b"%d" % (time.time() * 1e6))]
    assert arrival.ROOM_HEADER not in call(edge, chunks=[MINIMAL]).headers
    assert call(edge, chunks=[MINIMAL], headers=proxied).headers[arrival.ROOM_HEADER] == b"37"
    recommender.failure = errors.Overloaded("later", 1.0)
    refused = call(edge, chunks=[MINIMAL], headers=proxied)
    assert (refused.status, refused.headers[arrival.ROOM_HEADER]) == (429, b"37")


@pytest.mark.parametrize(
    ("method", "path", "asked", "answer"),
    [
        ("GET", f"{RECOMMEND}/019ab1f2", ("show", "019ab1f2"), examples.RECORDED_ANSWER),
        ("POST", f"{RECOMMEND}/019ab1f2:replay", ("replay", "019ab1f2"), examples.REPLAY),
        ("GET", f"{RECOMMEND}/a%2Fb%3Areplay", ("show", "a/b:replay"), examples.RECORDED_ANSWER),
        ("GET", "/v1/erasures/5b1f", ("receipt", "5b1f"), examples.ERASURE),
    ],
)
def test_earlier_answers_are_asked_for_by_the_id_in_the_path_and_without_a_body(
    method: str, path: str, asked: tuple[str, str], answer: dict[str, Any]
) -> None:
    edge, recommender = edge_of()
    response = call(edge, method, path, headers=[])
    assert (response.status, response.json) == (200, answer)
    assert response.headers[b"cache-control"] == b"no-store"
    assert recommender.asked == [asked]


@pytest.mark.parametrize("verb", ["replay", "explain"])
@pytest.mark.parametrize("nothing", [[b""], [b"{}"], [b" {", b"\n} "]])
def test_post_that_takes_no_fields_may_send_an_empty_object(verb: str, nothing: list[bytes]) -> None:
    edge, recommender = edge_of()
    assert call(edge, "POST", f"{RECOMMEND}/019ab1f2:{verb}", chunks=nothing, headers=[]).status == 200
    assert recommender.asked == [(verb, "019ab1f2")]


@pytest.mark.parametrize("body", [b'{"counterfactuals": 3}', b"[]", b"{"])
def test_post_that_takes_no_fields_refuses_what_would_go_unheard(body: bytes) -> None:
    edge, recommender = edge_of()
    refused = call(edge, "POST", f"{RECOMMEND}/019ab1f2:explain", chunks=[body])
    assert (refused.status, refused.json["errors"][0]["code"]) == (400, "unknown_field")
    assert "send no body" in refused.json["detail"]
    assert recommender.asked == []


def test_client_that_leaves_while_it_sends_an_unwanted_body_gets_nothing() -> None:
    edge, recommender = edge_of()
    path = f"{RECOMMEND}/x:replay"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": []}
    assert sent_by(edge, scope, [{"type": "http.disconnect"}]) == []
    assert recommender.asked == []


def test_user_is_forgotten_by_the_id_in_the_path_and_the_order_is_only_accepted() -> None:
    edge, recommender = edge_of()
    response = call(edge, "DELETE", "/v1/users/a%2Fb", headers=[])
    assert (response.status, response.json) == (202, examples.ERASURE)
    assert recommender.asked == [("forget", "a/b")]


def test_unexpected_error_does_not_log_the_id_of_a_user(caplog: pytest.LogCaptureFixture) -> None:
    edge, _ = edge_of(failure=ValueError("a bug"))
    assert call(edge, "DELETE", "/v1/users/ann%20of%20the%20hill", headers=[]).status == 500
    assert "a bug" in caplog.text
    assert "ann" not in caplog.text


def test_validate_only_asks_for_validation_and_never_for_a_list() -> None:
    edge, recommender = edge_of()
    response = call(edge, chunks=[b'{"user_id":"u1","validate_only":true}'])
    assert response.json == {"valid": True}
    assert [name for name, _ in recommender.asked] == ["validate"]


def test_body_in_many_chunks_is_one_body() -> None:
    edge, recommender = edge_of()
    assert call(edge, chunks=[MINIMAL[:3], b"", MINIMAL[3:9], MINIMAL[9:]]).status == 200
    assert recommender.asked == [("recommend", RecommendationRequest(user_id="u1"))]


@pytest.mark.parametrize("received", [[], [{"type": "http.request", "body": b"{", "more_body": True}]])
def test_client_that_leaves_before_its_body_arrived_is_dropped_in_silence(received: list[Any]) -> None:
    edge, recommender = edge_of()
    scope = {"type": "http", "method": "POST", "path": RECOMMEND, "headers": JSON}
    assert sent_by(edge, scope, [*received, {"type": "http.disconnect"}]) == []
    assert recommender.asked == []


def test_numpy_scores_of_the_recommender_are_encoded() -> None:
    edge, _ = edge_of(answer={"score": np.float32(0.5), "ranks": np.arange(2)})
    assert call(edge, chunks=[MINIMAL]).json == {"score": 0.5, "ranks": [0, 1]}


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"; profile=x',
    ],
)
def test_json_content_type_is_taken_with_parameters(content_type: bytes) -> None:
    edge, _ = edge_of()
    assert call(edge, chunks=[MINIMAL], headers=[(b"content-type", content_type)]).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"")],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/jsonx")],
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"application/json; charset=latin-1")],
        [(b"content-type", b"\xff\xfe")],
        [*JSON, (b"content-encoding", b"gzip")],
        [*JSON, (b"content-encoding", b"identity, br")],
    ],
)
def test_body_that_is_not_plain_json_is_415(headers: list[tuple[bytes, bytes]]) -> None:
    edge, recommender = edge_of()
    assert_problem(call(edge, chunks=[MINIMAL], headers=headers), 415, "unsupported-media-type")
    assert recommender.asked == []


def test_identity_encoding_is_taken() -> None:
    edge, _ = edge_of()
    assert call(edge, chunks=[MINIMAL], headers=[*JSON, (b"content-encoding", b"Identity")]).status == 200


@pytest.mark.parametrize("announced", [b"4097", b"9" * 18, b"9" * 5000])
def test_announced_length_over_the_limit_is_413_before_reading(announced: bytes) -> None:
    edge, _ = edge_of()
    scope = {
        "type": "http",
        "method": "POST",
        "path": RECOMMEND,
        "headers": [*JSON, (b"content-length", announced)],
    }
    start, end = sent_by(edge, scope, [])  # receiving anything would fail
    assert_problem(Response(start["status"], dict(start["headers"]), end["body"]), 413, "payload-too-large")


def test_body_over_the_limit_is_413_while_it_arrives() -> None:
    edge, recommender = edge_of()
    problem = assert_problem(call(edge, chunks=[b" " * 2048] * 3), 413, "payload-too-large")
    assert "4096 bytes" in problem["detail"]
    assert recommender.asked == []


def test_body_of_exactly_the_limit_is_read() -> None:
    edge, _ = edge_of()
    body = MINIMAL + b" " * (MAX_BODY_BYTES - len(MINIMAL))
    headers = [*JSON, (b"content-length", b"4096")]
    assert call(edge, chunks=[body], headers=headers).status == 200
    assert call(edge, chunks=[body + b" "]).status == 413


def test_empty_body_is_400() -> None:
    edge, _ = edge_of()
    problem = assert_problem(call(edge), 400, "malformed-request")
    assert problem["errors"] == [
        {"pointer": "", "code": "malformed_json", "detail": "the body is empty; send a JSON object"}
    ]


def test_refused_field_is_400_with_its_pointer() -> None:
    edge, recommender = edge_of()
    problem = assert_problem(call(edge, chunks=[b'{"user_id":"u1","count":501}']), 400, "malformed-request")
    assert problem["errors"] == [{"pointer": "/count", "code": "range", "detail": "Expected `int` <= 500"}]
    assert problem["detail"] == "/count: Expected `int` <= 500"
    assert recommender.asked == []


@pytest.mark.parametrize(
    "path", ["/v1/nope", "", "//", "/v1/recommendations/", "/docs/", "/\ud800\0" * 200, f"{RECOMMEND}/a/b"]
)
def test_unknown_path_is_404(path: str) -> None:
    edge, _ = edge_of()
    problem = assert_problem(call(edge, path=path), 404, "not-found")
    assert len(problem["detail"]) < 1500


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", RECOMMEND, b"POST"),
        ("PUT", "/v1/similar", b"POST"),
        ("OPTIONS", RECOMMEND, b"POST"),
        ("POST", "/livez", b"GET, HEAD"),
        ("DELETE", "/readyz", b"GET, HEAD"),
        ("POST", "/docs/swagger-ui.css", b"GET, HEAD"),
        ("get", "/", b"GET, HEAD"),
        ("DELETE", f"{RECOMMEND}/019ab1f2", b"GET, HEAD"),
        ("GET", f"{RECOMMEND}/019ab1f2:replay", b"POST"),
    ],
)
def test_wrong_method_is_405_and_names_the_right_ones(method: str, path: str, allow: bytes) -> None:
    edge, _ = edge_of()
    response = call(edge, method, path)
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers[b"allow"] == allow


def test_unexpected_error_is_logged_and_answered_without_internals(caplog: pytest.LogCaptureFixture) -> None:
    edge, _ = edge_of(failure=KeyError("redis://secret@host"))
    with caplog.at_level(logging.ERROR):
        response = call(edge, chunks=[MINIMAL], headers=[*JSON, (b"x-request-id", b"r-1")])
    assert_problem(response, 500, "internal-error")
    assert b"secret" not in response.body
    assert "secret" in caplog.text
    assert "r-1" in caplog.text


def test_answer_that_cannot_be_encoded_is_500(caplog: pytest.LogCaptureFixture) -> None:
    edge, _ = edge_of(answer={"x": object()})
    assert_problem(call(edge, chunks=[MINIMAL]), 500, "internal-error")
    assert "not JSON serializable" in caplog.text


FIELD = errors.FieldError("/filter", "conflict", "no item has it")
FAILURES: list[tuple[errors.HttpError, int, str]] = [
    (errors.RequestError("bad", [FIELD]), 400, "malformed-request"),
    (errors.NotFound("no such placement"), 404, "not-found"),
    (errors.MethodNotAllowed("no", "POST"), 405, "method-not-allowed"),
    (errors.PayloadTooLarge("big"), 413, "payload-too-large"),
    (errors.UnsupportedMediaType("xml"), 415, "unsupported-media-type"),
    (errors.Unprocessable("cannot", [FIELD]), 422, "unprocessable"),
    (errors.Overloaded("full", 0.2), 429, "overloaded"),
    (errors.InternalError("bug"), 500, "internal-error"),
    (errors.BatchFailed("failed"), 503, "batch-failed"),
    (errors.LogUnavailable("no log"), 503, "log-unavailable"),
    (errors.RecordsUnavailable("no store"), 503, "records-unavailable"),
]


@pytest.mark.parametrize(("failure", "status", "slug"), FAILURES)
def test_http_error_of_the_recommender_is_its_problem(failure: errors.HttpError, status: int, slug: str) -> None:
    edge, _ = edge_of(failure=failure)
    problem = assert_problem(call(edge, chunks=[MINIMAL]), status, slug)
    assert problem["detail"] == str(failure)
    assert [field["pointer"] for field in problem.get("errors", [])] == [f.pointer for f in failure.errors]


@pytest.mark.parametrize(("failure", "_status", "_slug"), FAILURES)
def test_http_error_survives_pickling(failure: errors.HttpError, _status: int, _slug: str) -> None:
    copy = pickle.loads(pickle.dumps(failure))  # noqa: S301  # what Ray does between processes
    assert type(copy) is type(failure)
    assert (str(copy), copy.headers(), copy.errors) == (str(failure), failure.headers(), failure.errors)


@pytest.mark.parametrize(("retry_after_s", "header"), [(0.0, b"1"), (0.2, b"1"), (2.1, b"3")])
def test_shed_request_is_told_when_to_retry_in_whole_seconds(retry_after_s: float, header: bytes) -> None:
    edge, _ = edge_of(failure=errors.Overloaded("full", retry_after_s))
    assert call(edge, chunks=[MINIMAL]).headers[b"retry-after"] == header


@pytest.mark.parametrize("sent", [b"r", b"018f.A_b:c-9", b"x" * 64])
def test_valid_request_id_is_echoed(sent: bytes) -> None:
    edge, _ = edge_of()
    response = call(edge, chunks=[MINIMAL], headers=[*JSON, (b"x-request-id", sent)])
    assert response.headers[b"x-request-id"] == sent


@pytest.mark.parametrize("sent", [b"", b"x" * 65, b"a b", b"a\r\nset-cookie: x", b"a\n", b"\xff"])
def test_invalid_request_id_is_replaced_by_a_fresh_one(sent: bytes) -> None:
    edge, _ = edge_of()
    headers = [*JSON, (b"x-request-id", sent)]
    first, second = (call(edge, chunks=[MINIMAL], headers=headers).headers[b"x-request-id"] for _ in range(2))
    assert len(first) == len(second) == 32
    assert len({first, second, sent}) == 3


def test_liveness_does_not_depend_on_readiness() -> None:
    edge, _ = edge_of(ready=False)
    assert call(edge, "GET", "/livez").json == {"live": True}


def test_readiness_is_503_with_the_reasons_until_ready() -> None:
    not_ready = call(edge_of(ready=False)[0], "GET", "/readyz")
    assert (not_ready.status, not_ready.json["ready"]) == (503, False)
    assert not_ready.json["reasons"] == ["no bundle is loaded"]
    ready = call(edge_of()[0], "GET", "/readyz")
    assert (ready.status, ready.json["ready"]) == (200, True)
    assert ready.headers[b"cache-control"] == b"no-store"


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/openapi.json", "/docs", "/docs/swagger-ui-bundle.js"])
def test_head_has_the_headers_of_get_and_no_body(path: str) -> None:
    edge, _ = edge_of()
    get = call(edge, "GET", path, headers=[(b"x-request-id", b"r")])
    head = call(edge, "HEAD", path, headers=[(b"x-request-id", b"r")])
    assert get.status == head.status == 200
    assert head.headers == get.headers
    assert get.body != b"" == head.body


def test_index_names_the_docs() -> None:
    edge, _ = edge_of()
    index = call(edge, "GET", "/").json
    for path in (index["docs"], index["openapi"]):
        assert call(edge, "GET", path).status == 200


def test_openapi_route_serves_the_document() -> None:
    edge, _ = edge_of()
    assert call(edge, "GET", "/openapi.json").json == openapi.document()


@pytest.mark.parametrize(
    ("name", "content_type", "content"),
    [
        ("swagger-ui-bundle.js", b"text/javascript; charset=utf-8", b"SwaggerUIBundle"),
        ("start.js", b"text/javascript; charset=utf-8", b"openapi.json"),
        ("swagger-ui.css", b"text/css; charset=utf-8", b".swagger-ui"),
        ("favicon-32x32.png", b"image/png", b"PNG"),
    ],
)
def test_file_of_the_page_is_served_with_its_type(name: str, content_type: bytes, content: bytes) -> None:
    edge, _ = edge_of()
    response = call(edge, "GET", f"/docs/{name}")
    assert response.headers[b"content-type"] == content_type
    assert content in response.body


@pytest.mark.parametrize(
    "name",
    ["index.html", "../__init__.py", "../../../../etc/passwd", "swagger-ui.css/", "swagger-ui.css.map"],
)
def test_file_outside_the_allow_list_is_404(name: str) -> None:
    edge, _ = edge_of()
    assert call(edge, "GET", f"/docs/{name}").status == 404


def test_page_may_load_scripts_from_its_own_origin_only() -> None:
    edge, _ = edge_of()
    page = call(edge, "GET", "/docs")
    assert page.headers[b"content-type"] == b"text/html; charset=utf-8"
    assert b"default-src 'self'" in page.headers[b"content-security-policy"]


def test_lifespan_is_acknowledged() -> None:
    edge, _ = edge_of()
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = sent_by(edge, {"type": "lifespan"}, messages)
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_websocket_handshake_is_refused() -> None:
    edge, _ = edge_of()
    assert sent_by(edge, {"type": "websocket"}, []) == [{"type": "websocket.close"}]


OPTIONAL_FIELDS = ["count", "placement", "session", "context", "exclude_item_ids", "filter", "return"]
OPTIONAL_FIELDS += ["deadline_ms", "validate_only", "quotas", "diversity", "popularity_damping"]
FIELDS = [*OPTIONAL_FIELDS, "user_id", "item_ids", "categories", "category", "max", "any", "id", "metadata"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), inner, max_size=6)
    ),
    max_leaves=20,
)
near_requests = st.fixed_dictionaries(
    {"user_id": st.text(max_size=5)}, optional=dict.fromkeys(OPTIONAL_FIELDS, json_values)
)
bodies = st.binary(max_size=200) | (json_values | near_requests).map(lambda value: json.dumps(value).encode())


@given(body=bodies, path=st.sampled_from([RECOMMEND, "/v1/similar"]))
def test_any_body_is_answered_with_a_list_or_a_problem_never_a_5xx(body: bytes, path: str) -> None:
    edge, recommender = edge_of()
    response = call(edge, path=path, chunks=[body])
    if response.status == 200:
        assert len(recommender.asked) == 1
        return
    problem = assert_problem(response, response.status, "malformed-request")
    assert response.status == 400
    assert all(set(field) == {"pointer", "code", "detail"} for field in problem["errors"])
    assert len(problem["errors"]) >= 1


@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT"]) | st.text(max_size=8),
    path=st.sampled_from(["/", RECOMMEND, "/readyz"]) | st.text(max_size=30),
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"content-type", b"content-length", b"content-encoding", b"x-request-id"]),
            st.binary(max_size=30),
        ),
        max_size=4,
    ),
)
def test_any_method_path_and_headers_are_answered_below_500(
    method: str, path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    edge, _ = edge_of()
    assert call(edge, method, path, chunks=[MINIMAL], headers=headers).status < 500


# --- what is counted and traced ---


def test_every_request_is_counted_by_its_route_whatever_becomes_of_it() -> None:
    watch = RequestWatch()
    edge, _ = edge_of(watch=watch)
    broken, _ = edge_of(watch=watch, failure=ArithmeticError("a bug"))
    shed, _ = edge_of(watch=watch, failure=errors.Overloaded("later"))
    call(edge, chunks=[MINIMAL])
    call(edge, chunks=[b"{"])
    call(edge, chunks=[b"x" * (MAX_BODY_BYTES + 1)])
    call(broken, chunks=[MINIMAL])
    call(shed, chunks=[MINIMAL])
    call(edge, "BREW", RECOMMEND)
    call(edge, "GET", "/v1/nowhere")
    call(edge, "DELETE", "/v1/users/somebody%20in%20particular")
    assert watch.answered() == {
        **{("POST", RECOMMEND, status): 1 for status in ("200", "400", "413", "429", "500")},
        ("none", "none", "405"): 1,
        ("GET", "none", "404"): 1,
        ("DELETE", "/v1/users/{user_id}", "202"): 1,
    }


def test_client_who_left_is_counted_as_such() -> None:
    watch = RequestWatch()
    edge, _ = edge_of(watch=watch)
    scope = {"type": "http", "method": "POST", "path": RECOMMEND, "raw_path": b"", "headers": JSON}
    assert sent_by(edge, scope, [{"type": "http.disconnect"}]) == []
    assert watch.answered() == {("POST", RECOMMEND, "499"): 1}


def test_duration_counts_what_the_proxy_saw() -> None:
    watch = RequestWatch()
    edge, _ = edge_of(watch=watch)
    arrived = b"%d" % (time.time_ns() // 1000 - 300_000)
    call(edge, chunks=[MINIMAL], headers=[*JSON, (arrival.HEADER, arrived)])
    assert 0.3 <= watch.took_s()["POST", RECOMMEND].sum < 5


def test_sampled_request_is_traced_with_its_status_and_template_and_no_id() -> None:
    kept: list[Trace] = []
    edge, _ = edge_of(watch=RequestWatch(Sampler(1.0), kept.append))
    call(edge, "DELETE", "/v1/users/somebody")
    (trace,) = kept
    assert (trace.method, trace.route, trace.status) == ("DELETE", "/v1/users/{user_id}", 202)
    assert "somebody" not in str([getattr(trace, name, None) for name in Trace.__slots__])
    assert current.get() is None


@pytest.mark.parametrize("traceparent", [b"", b"00-", b"\xff" * 9_000, b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_malformed_traceparent_is_answered_as_usual(traceparent: bytes) -> None:
    edge, _ = edge_of(watch=RequestWatch(Sampler(1.0)))
    assert call(edge, chunks=[MINIMAL], headers=[*JSON, (b"traceparent", traceparent)]).status == 200
