"""Whose the entries of streams are, also of entries that are no events and no records."""

from collections.abc import Collection
from typing import Any

import msgspec

from service.archives import user_of
from service.decision_stream import record_of
from service.log_entries import Entry, Run


def event_user(entry: Entry, *, number: int, users: Collection[str]) -> str | None:
    """The user, of the given ones, whose event lies in an entry of a shard of the log; also one that is no event."""
    run = Run.of(number, [entry])
    if not run.events:
        return mentioned(entry, b"e", users)
    return run.events[0].user_id if run.events[0].user_id in users else None


def decision_user(entry: Entry, users: Collection[str]) -> str | None:
    """The user, of the given ones, whose decision record lies in an entry; also one that is no record."""
    record = record_of(_field(entry, b"d"))
    if record is None:
        return mentioned(entry, b"d", users)
    user = user_of(record)
    return user if user in users else None


def mentioned(entry: Entry, field: bytes, users: Collection[str]) -> str | None:
    """A user whose id is a value in what lies in an entry; where that does not decode, among its bytes."""
    raw = _field(entry, field)
    try:
        texts = set(_texts(msgspec.msgpack.decode(raw)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return next((user for user in users if user.encode() in raw), None)
    return next((user for user in users if user in texts), None)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in _texts(part)]


def _field(entry: Entry, name: bytes) -> bytes:
    fields = entry[1] or []
    return dict(zip(fields[::2], fields[1::2], strict=False)).get(name, b"")
