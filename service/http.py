"""The HTTP edge: one plain ASGI application in front of a recommender.

A request costs one dict lookup by path, one decode and one encode: no framework, no middleware. The edge
refuses what is malformed; what the fields mean is the recommender's business.
"""

import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import msgspec
import orjson

from service import arrival, docs_page, openapi
from service.arrival import ROOM_HEADER, waited_s
from service.backends import Catalogue, Experiments, Forgetting, Intake, Merging, Recommender, RecordedAnswers
from service.decoding import (
    checked_id,
    decode_events,
    decode_experiment,
    decode_experiment_change,
    decode_item,
    decode_item_patch,
    decode_items,
    decode_merge,
    decode_recommendation,
    decode_similar,
    decode_why_not,
)
from service.errors import HttpError, InternalError
from service.request_body import Message, Receive, expect_none, read_body
from service.routes import Answer, Headers, Methods, Route, Routes
from service.schemas import Problem
from service.telemetry.requests import CLIENT_LEFT, UNKNOWN, RequestWatch

Send = Callable[[Message], Awaitable[None]]

_log = logging.getLogger(__name__)

_JSON: Headers = ((b"content-type", b"application/json"),)
_PROBLEM: Headers = ((b"content-type", b"application/problem+json"),)
_LIVE_JSON: Headers = (*_JSON, (b"cache-control", b"no-store"))
_UNEXPECTED = "unexpected error; quote the request_id, the server's log has the cause under it"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


class HttpEdge:
    """An ASGI 3 application that serves `recommender`.

    Args:
        recommender: Answers decoded requests. intake: Takes decoded events. recorded: Shows earlier answers.
        catalogue: Takes descriptions of items.
        merging: Gives one user's interactions to another. forgetting: Forgets users.
        experiments: Describes, begins, ends and reports them.
        max_body_bytes: Larger bodies are refused with 413, before or while they arrive.
        watch: Counts and traces requests.

    `routes` has every route; there is no other way in.
    """

    def __init__(
        self,
        recommender: Recommender,
        intake: Intake,
        recorded: RecordedAnswers,
        catalogue: Catalogue,
        merging: Merging,
        forgetting: Forgetting,
        experiments: Experiments,
        *,
        max_body_bytes: int = 524_288,
        watch: RequestWatch | None = None,
    ) -> None:
        self._recommender, self._intake, self._recorded = recommender, intake, recorded
        self._catalogue, self._merging, self._forgetting = catalogue, merging, forgetting
        self._experiments = experiments
        self._max_body_bytes = max_body_bytes
        self._watch = watch or RequestWatch()
        self.routes = Routes(
            {
                "/v1/recommendations": {"POST": Route(self._recommend, reads_body=True, waited=True)},
                "/v1/recommendations/{recommendation_id}": _readable(self._show),
                "/v1/recommendations/{recommendation_id}:replay": {"POST": Route(self._replay)},
                "/v1/recommendations/{recommendation_id}:explain": {"POST": Route(self._explain)},
                "/v1/recommendations/{recommendation_id}:why-not": {"POST": Route(self._why_not, reads_body=True)},
                "/v1/similar": {"POST": Route(self._similar, reads_body=True, waited=True)},
                "/v1/events": {"POST": Route(self._events, reads_body=True)},
                "/v1/items:batch": {"POST": Route(self._put_items, reads_body=True)},
                "/v1/items/{item_id}": {
                    **_readable(self._show_item),
                    "PUT": Route(self._put_item, reads_body=True),
                    "PATCH": Route(self._patch_item, reads_body=True),
                    "DELETE": Route(self._delete_item),
                },
                "/v1/users/{user_id}": {"DELETE": Route(self._forget)},
                "/v1/users/{user_id}:merge": {"POST": Route(self._merge, reads_body=True)},
                "/v1/erasures/{receipt_id}": _readable(self._erasure),
                "/v1/experiments": {
                    **_readable(self._list_experiments),
                    "POST": Route(self._create_experiment, reads_body=True),
                },
                "/v1/experiments/{name}:start": {"POST": Route(self._start_experiment, reads_body=True)},
                "/v1/experiments/{name}:stop": {"POST": Route(self._stop_experiment, reads_body=True)},
                "/v1/experiments/{name}/report": _readable(self._report_experiment),
                "/readyz": _readable(self._readyz),
                **{path: _readable(_always(answer)) for path, answer in _fixed_answers().items()},
            }
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection. A client that leaves before its body arrived gets nothing."""
        if scope["type"] != "http":
            await _other_protocol(scope["type"], receive, send)
            return
        method: str = scope["method"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        began, trace = monotonic(), self._watch.began(headers, scope["headers"])
        waited = waited_s(headers.get(arrival.HEADER))
        request_id = _request_id(headers.get(b"x-request-id", b""))
        template, status = UNKNOWN, CLIENT_LEFT
        try:
            try:
                route, ids = self.routes.find(method, scope["path"], scope.get("raw_path", b""))
                template = route.template
                body: bytes | None = b""
                if route.reads_body:
                    body = await read_body(headers, receive, self._max_body_bytes)
                elif method == "POST":
                    body = await expect_none(receive, self._max_body_bytes)
                if body is None:
                    return
                answer = await (route.handler(body, waited) if route.waited else route.handler(body, *ids))
            except HttpError as error:
                answer = _problem(error, request_id)
            except Exception:  # the log has the template of the path: ids of users are not logged
                _log.exception("%s %r failed, request %s", method, template, request_id.decode("ascii"))
                answer = _problem(InternalError(_UNEXPECTED), request_id)
            status = answer.status
            sent = [*answer.headers, (b"content-length", b"%d" % len(answer.body)), (b"x-request-id", request_id)]
            if headers.get(arrival.HEADER):
                sent.append((ROOM_HEADER, b"%d" % self._recommender.room()))
            await send({"type": "http.response.start", "status": status, "headers": sent})
            await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})
        finally:
            self._watch.ended(trace, method, template, status, monotonic() - began, waited)

    async def _recommend(self, body: bytes, waited_s: float) -> Answer:
        request = decode_recommendation(body)
        if request.validate_only:
            return Answer(200, _JSON, _encode(await self._recommender.validate(request)))
        return Answer(200, _JSON, _encode(await self._recommender.recommend(request, waited_s=waited_s)))

    async def _similar(self, body: bytes, waited_s: float) -> Answer:
        request = decode_similar(body)
        return Answer(200, _JSON, _encode(await self._recommender.similar(request, waited_s=waited_s)))

    async def _events(self, body: bytes) -> Answer:
        return Answer(200, _JSON, _encode(await self._intake.record(decode_events(body))))

    async def _show(self, _: bytes, recommendation_id: str) -> Answer:
        return Answer(200, _LIVE_JSON, _encode(await self._recorded.show(recommendation_id)))

    async def _replay(self, _: bytes, recommendation_id: str) -> Answer:
        return Answer(200, _LIVE_JSON, _encode(await self._recorded.replay(recommendation_id)))

    async def _explain(self, _: bytes, recommendation_id: str) -> Answer:
        return Answer(200, _LIVE_JSON, _encode(await self._recorded.explain(recommendation_id)))

    async def _why_not(self, body: bytes, recommendation_id: str) -> Answer:
        item_id = decode_why_not(body).item_id
        return Answer(200, _LIVE_JSON, _encode(await self._recorded.why_not(recommendation_id, item_id)))

    async def _show_item(self, _: bytes, item_id: str) -> Answer:
        return Answer(200, _LIVE_JSON, _encode(await self._catalogue.show(checked_id(item_id))))

    async def _put_item(self, body: bytes, item_id: str) -> Answer:
        return Answer(200, _JSON, _encode(await self._catalogue.put(checked_id(item_id), decode_item(body))))

    async def _patch_item(self, body: bytes, item_id: str) -> Answer:
        return Answer(200, _JSON, _encode(await self._catalogue.patch(checked_id(item_id), decode_item_patch(body))))

    async def _delete_item(self, _: bytes, item_id: str) -> Answer:
        return Answer(200, _JSON, _encode(await self._catalogue.delete(checked_id(item_id))))

    async def _put_items(self, body: bytes) -> Answer:
        return Answer(200, _JSON, _encode(await self._catalogue.put_many(decode_items(body))))

    async def _merge(self, body: bytes, user_id: str) -> Answer:
        merge = self._merging.merge(checked_id(user_id), decode_merge(body).from_user_id)
        return Answer(200, _LIVE_JSON, _encode(await merge))

    async def _forget(self, _: bytes, user_id: str) -> Answer:
        return Answer(202, _LIVE_JSON, _encode(await self._forgetting.forget(user_id)))

    async def _erasure(self, _: bytes, receipt_id: str) -> Answer:
        return Answer(200, _LIVE_JSON, _encode(await self._forgetting.receipt(receipt_id)))

    async def _list_experiments(self, _: bytes) -> Answer:
        return Answer(200, _LIVE_JSON, _encode(await self._experiments.list()))

    async def _create_experiment(self, body: bytes) -> Answer:
        return Answer(200, _LIVE_JSON, _encode(await self._experiments.create(decode_experiment(body))))

    async def _start_experiment(self, body: bytes, name: str) -> Answer:
        return Answer(200, _LIVE_JSON, _encode(await self._experiments.start(name, decode_experiment_change(body))))

    async def _stop_experiment(self, body: bytes, name: str) -> Answer:
        return Answer(200, _LIVE_JSON, _encode(await self._experiments.stop(name, decode_experiment_change(body))))

    async def _report_experiment(self, _: bytes, name: str) -> Answer:
        return Answer(200, _LIVE_JSON, _encode(await self._experiments.report(name)))

    async def _readyz(self, _: bytes) -> Answer:
        ready, details = self._recommender.readiness()
        return Answer(200 if ready else 503, _LIVE_JSON, _encode({**details, "ready": ready}))


def _fixed_answers() -> dict[str, Answer]:
    """The routes whose answer never changes while the process lives."""
    index = {"service": "riffle", "version": openapi.version(), "docs": "/docs", "openapi": "/openapi.json"}
    page_headers = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", docs_page.PAGE_POLICY),
    )
    answers = {
        "/": Answer(200, _JSON, _encode(index)),
        "/livez": Answer(200, _LIVE_JSON, _encode({"live": True})),
        "/openapi.json": Answer(200, _JSON, _encode(openapi.document())),
        "/docs": Answer(200, page_headers, docs_page.PAGE),
    }
    for name, asset in docs_page.load_assets().items():
        headers = (
            (b"content-type", asset.content_type),
            (b"cache-control", b"public, max-age=3600"),
            (b"x-content-type-options", b"nosniff"),
        )
        answers[f"/docs/{name}"] = Answer(200, headers, asset.body)
    return answers


def _always(answer: Answer) -> Callable[[bytes], Awaitable[Answer]]:
    async def handler(_: bytes) -> Answer:
        return answer

    return handler


def _readable(handler: Callable[..., Awaitable[Answer]]) -> Methods:
    return dict.fromkeys(("GET", "HEAD"), Route(handler))


def _encode(answer: dict[str, Any]) -> bytes:
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _problem(error: HttpError, request_id: bytes) -> Answer:
    problem = Problem(
        type=error.type,
        title=error.title,
        status=error.status,
        detail=str(error),
        errors=error.errors,
        request_id=request_id.decode("ascii"),
    )
    return Answer(error.status, (*_PROBLEM, *error.headers()), msgspec.json.encode(problem))


def _request_id(sent: bytes) -> bytes:
    if _REQUEST_ID.fullmatch(sent):
        return sent
    return uuid.uuid4().hex.encode("ascii")


async def _other_protocol(kind: str, receive: Receive, send: Send) -> None:
    if kind != "lifespan":  # a WebSocket: refuse the handshake
        await send({"type": f"{kind}.close"})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
