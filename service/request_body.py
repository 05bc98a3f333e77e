"""Reading one request body: refused by its headers if they suffice, limited while it arrives.

RFC 9110 sections 8.3 (content type) and 8.4 (content encoding).
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from service.decoding import request_error
from service.errors import FieldError, PayloadTooLarge, UnsupportedMediaType

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, max_bytes: int) -> bytes | None:
    """The JSON body of an ASGI request, not decoded; None if the client left before it was complete.

    Args:
        headers: Request headers, names in lower case, as ASGI has them.
    Raises:
        UnsupportedMediaType: not `application/json` in UTF-8, or compressed.
        PayloadTooLarge: announced or found to be over `max_bytes`; the rest is not read.
        RequestError: empty.
    """
    content_type = headers.get(b"content-type", b"")
    if content_type != b"application/json":
        _check_content_type(content_type.decode("latin-1"))
    if b"content-encoding" in headers:
        _check_encoding(headers[b"content-encoding"].decode("latin-1"))
    announced = headers.get(b"content-length", b"")
    # int() of unbounded digits is quadratic, and refuses over 4,300 of them.
    if announced.isdigit() and (len(announced) > 18 or int(announced) > max_bytes):
        raise _too_large(max_bytes)
    body = await _receive_all(receive, max_bytes)
    if body == b"":
        raise request_error([FieldError("", "malformed_json", "the body is empty; send a JSON object")])
    return body


async def expect_none(receive: Receive, max_bytes: int) -> bytes | None:
    """b"" where a request that takes no fields has sent none, as no body or as `{}`; None if the client left.

    Raises:
        PayloadTooLarge: over `max_bytes`. RequestError: it says something, which would go unheard.
    """
    body = await _receive_all(receive, max_bytes)
    if body and body.translate(None, b" \t\r\n") not in (b"", b"{}"):
        raise request_error([FieldError("", "unknown_field", "this takes no fields; send no body, or {}")])
    return None if body is None else b""


async def _receive_all(receive: Receive, max_bytes: int) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return b"".join((*chunks, chunk)) if chunks else chunk
        chunks.append(chunk)


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is over {max_bytes} bytes; send fewer ids")


def _check_content_type(content_type: str) -> None:
    media_type, *parameters = content_type.split(";")
    if media_type.strip().lower() != "application/json":
        raise UnsupportedMediaType(f"content-type {content_type[:100]!r}; send application/json")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() != "utf-8":
            raise UnsupportedMediaType(f"charset {value[:100]!r}; send UTF-8")


def _check_encoding(encoding: str) -> None:
    if encoding.strip().lower() != "identity":
        raise UnsupportedMediaType(f"content-encoding {encoding[:100]!r}; send the body uncompressed")
