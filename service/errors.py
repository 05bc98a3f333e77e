"""The errors of the service. Each message says what is wrong, the value, and the next step.

ServiceError
  SettingsError             settings cannot be read or are out of range
  StackError                a process of the stack did not start, or a port is taken
  MetricsError              metrics clash, or what would tell them is not allowed to
  TrafficError              the traffic table cannot be read, or a change of it cannot be made
  AutopilotError            what is known of runs of the autopilot cannot be read or kept
  HttpError                 answered to the client as `application/problem+json`
    RequestError            400  the request is malformed; points at each field
    NotFound                404  no such route or named resource
    MethodNotAllowed        405  the route exists, the method does not; `Allow`
    TrafficConflict         409  who gets what cannot be changed so
    Gone                    410  it was there, and was erased
    PayloadTooLarge         413  the body is over the limit
    UnsupportedMediaType    415  the body is not plain JSON in UTF-8
    Unprocessable           422  well-formed, but cannot be satisfied; points at the fields in conflict
    Overloaded              429  shed; `Retry-After`
    InternalError           500  a bug; the log has the traceback
    BatchFailed             503  the micro-batch of this request failed
    CatalogueUnavailable  503  an item could not be described; `Retry-After`
    LogUnavailable          503  events could not be put on record; `Retry-After`
    StoreUnavailable        503  an order could not be put on record, or its receipt not read; `Retry-After`
    RecordsUnavailable      503  decision records cannot be read; `Retry-After`

Every error survives pickling: it crosses process boundaries in the distributed topology.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import msgspec


class ServiceError(Exception):
    """Base of every error that `service` raises on purpose."""


class SettingsError(ServiceError):
    """Settings cannot be read, are unknown, of the wrong type or out of range."""


class StackError(ServiceError):
    """The stack cannot be started or stopped: a port is taken, a process did not come up."""


class MetricsError(ServiceError):
    """Metrics that Prometheus could not tell apart or would not take, or a reading that was not made for its metric."""


class TrafficError(ServiceError):
    """The traffic table cannot be read, or a change of it cannot be made; it stays as it is."""


class AutopilotError(ServiceError):
    """What is known of runs of the autopilot cannot be read or kept; nothing is done then."""


class Unknown(ServiceError):
    """A link of a walk through records and data that cannot be had, with the reason."""


class FieldError(msgspec.Struct, frozen=True):
    """One refused field: an RFC 6901 `pointer` into the body ("" is the whole), a stable `code`, why."""

    pointer: str
    code: str
    detail: str


class HttpError(ServiceError):
    """An error with an answer: RFC 9457 `type`, `title` and `status`; `detail` is the message.

    `type` is stable and is what a client should branch on. `errors` names the fields, if it is about fields.
    """

    status: ClassVar[int]
    type: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Extra response headers of this error."""
        return ()


class RequestError(HttpError):
    """The request is malformed; `errors` says where."""

    status, type, title = 400, "urn:riffle:problem:malformed-request", "Malformed request"


class NotFound(HttpError):
    """No such route or named resource. An unknown user is not an error."""

    status, type, title = 404, "urn:riffle:problem:not-found", "Not found"


class MethodNotAllowed(HttpError):
    """The route exists, the method does not; `allow` lists those that do."""

    status, type, title = 405, "urn:riffle:problem:method-not-allowed", "Method not allowed"

    def __init__(self, detail: str, allow: str = "") -> None:
        super().__init__(detail)
        self.allow = allow

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"allow", self.allow.encode("ascii")),)


class Gone(HttpError):
    """What was asked for was erased, because its user was forgotten."""

    status, type, title = 410, "urn:riffle:problem:erased", "Erased"


class TrafficConflict(HttpError):
    """Who gets what cannot be changed so: it is at odds with itself, with what runs, or a replica does not follow."""

    status, type, title = 409, "urn:riffle:problem:traffic-conflict", "Traffic conflict"


class PayloadTooLarge(HttpError):
    """The body is over the limit."""

    status, type, title = 413, "urn:riffle:problem:payload-too-large", "Payload too large"


class UnsupportedMediaType(HttpError):
    """The body is not uncompressed `application/json` in UTF-8."""

    status, type, title = 415, "urn:riffle:problem:unsupported-media-type", "Unsupported media type"


class Unprocessable(HttpError):
    """Well-formed, but cannot be satisfied; `errors` names the fields in conflict."""

    status, type, title = 422, "urn:riffle:problem:unprocessable", "Unprocessable request"


class Overloaded(HttpError):
    """The request was shed; try again after `retry_after_s` seconds."""

    status, type, title = 429, "urn:riffle:problem:overloaded", "Overloaded"

    def __init__(self, detail: str, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        # Retry-After counts whole seconds; 0 would invite a retry storm.
        return ((b"retry-after", b"%d" % max(1, math.ceil(self.retry_after_s))),)


class InternalError(HttpError):
    """A bug. Says nothing about the inside; the log has the traceback."""

    status, type, title = 500, "urn:riffle:problem:internal-error", "Internal error"


class BatchFailed(HttpError):
    """The micro-batch failed; every request that waited for it gets this error."""

    status, type, title = 503, "urn:riffle:problem:batch-failed", "Batch failed"


class LogUnavailable(HttpError):
    """Events could not be put into the log, or nobody knows whether they are; sending them again is safe."""

    status, type, title = 503, "urn:riffle:problem:log-unavailable", "Event log unavailable"

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"retry-after", b"1"),)


class StoreUnavailable(HttpError):
    """What was asked for about a user could not be done or read; sending it again is safe."""

    status, type, title = 503, "urn:riffle:problem:store-unavailable", "Store unavailable"

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"retry-after", b"1"),)


class RecordsUnavailable(HttpError):
    """Decision records cannot be read: the store does not answer."""

    status, type, title = 503, "urn:riffle:problem:records-unavailable", "Decision records unavailable"

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"retry-after", b"1"),)


class CatalogueUnavailable(HttpError):
    """A change of an item could not be put on record; sending it again is safe."""

    status, type, title = 503, "urn:riffle:problem:catalogue-unavailable", "Catalogue unavailable"

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"retry-after", b"1"),)
