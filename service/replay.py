"""Recorded answers made again: each from its record and its bundle alone, and compared bit for bit."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import redis

from recsys.bundle import Bundle
from recsys.errors import RecsysError
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import recommend
from recsys.types import World
from service.decisions import STREAM, Decision
from service.errors import HttpError, StackError
from service.queries import Query, batch_of, resolve
from service.schemas import RecommendationRequest

PAGE = 500
WRITTEN_WITHIN_MS = 60_000  # a record is in the stream so long after its answer, or it was dropped


class Outcome(StrEnum):
    """What became of making an answer again."""

    IDENTICAL = "identical"
    DIFFERENT = "different"
    NOT_REPLAYABLE = "not replayable"  # the answer was not made by `recommend` alone, or what made it is gone


class Verdict(NamedTuple):
    """Of one record; `detail` says what differs, or why it cannot be made again."""

    id: str
    outcome: Outcome
    detail: str


def replay(record: Decision, world_of: Callable[[str, int], World]) -> Verdict:
    """Make one answer again.

    Args:
        world_of: The world of a bundle id, with so many candidates; raises RecsysError where it cannot be had.
    """
    reason = _not_replayable(record)
    if reason:
        return Verdict(record.id, Outcome.NOT_REPLAYABLE, reason)
    try:
        world = world_of(record.bundle, record.candidates)
        query = query_of(record, world.bundle)
    except (RecsysError, HttpError, msgspec.ValidationError) as error:
        return Verdict(record.id, Outcome.NOT_REPLAYABLE, str(error))
    if record.item_stats != world.item_stats.version:
        detail = f"item stats {record.item_stats!r} are gone; the bundle has {world.item_stats.version!r}"
        return Verdict(record.id, Outcome.NOT_REPLAYABLE, detail)
    states, undecodable = unpack([record.user_state], SCHEMA_HASH)
    if undecodable:
        return Verdict(record.id, Outcome.NOT_REPLAYABLE, f"user state: {undecodable[0]}")
    slates = recommend(world, batch_of([query], states))
    items = [world.bundle.vocabulary.item_id[row] for row in slates.item.tolist()]
    if difference := _difference(record, items, slates.score.tolist()):
        return Verdict(record.id, Outcome.DIFFERENT, difference)
    return Verdict(record.id, Outcome.IDENTICAL, "")


def query_of(record: Decision, bundle: Bundle) -> Query:
    """The recorded request, resolved anew. Raises ValidationError, Unprocessable."""
    request = msgspec.convert(record.query, RecommendationRequest)
    return resolve(
        bundle,
        count=request.count,
        session_ids=request.session.item_ids if request.session else [],
        excluded_ids=request.exclude_item_ids,
        filter_=request.filter,
        seed=record.seed,
        now_s=record.now_s,
    )


def _not_replayable(record: Decision) -> str:
    if record.kind != "recommendations":
        return f"answers of kind {record.kind!r} are not made by recommend() alone"
    if stages := [one["stage"] for one in record.degraded if one["stage"] != "features"]:
        return f"degraded: {', '.join(stages)}"
    return ""


def _difference(record: Decision, items: list[str], scores: list[float]) -> str:
    """The first place at which the served list and the one made again part; "" where they do not."""
    if len(items) != len(record.items):
        return f"{len(record.items)} items served, {len(items)} now"
    served = zip(record.items, record.scores, strict=True)
    for rank, (then, now) in enumerate(zip(served, zip(items, scores, strict=True), strict=True), 1):
        if then != now:
            return f"rank {rank}: {then[0]!r} with score {then[1]!r} served, {now[0]!r} with {now[1]!r} now"
    return ""


def newest(url: str, count: int) -> Iterator[Decision]:
    """The newest `count` records, newest first. Raises StackError."""
    return _pages(url, count, lambda client, last: client.xrevrange(STREAM, max=last or "+", count=PAGE))


def find(url: str, recommendation_id: str) -> Decision:
    """The record of one answer.

    Raises:
        StackError: it is no recommendation id, there is no such record, or the store does not answer.
    """
    try:
        at_ms = UUID(recommendation_id).int >> 80
    except ValueError as error:
        raise StackError(f"{recommendation_id!r} is no recommendation id; it is a UUID, as in an answer") from error
    end = str(at_ms + WRITTEN_WITHIN_MS)
    records = _pages(url, None, lambda client, last: client.xrange(STREAM, last or at_ms, end, count=PAGE))
    for record in records:
        if record.id == recommendation_id:
            return record
    raise StackError(f"no record of {recommendation_id}; the stream keeps the newest ones only")


_Read = Callable[[redis.Redis, str | None], Any]  # a list of (position, fields)


def _pages(url: str, most: int | None, read: _Read) -> Iterator[Decision]:
    """Records page by page; `read` gets where to go on, exclusively. Entries that are no records are left out."""
    given, last = 0, None
    try:
        with redis.Redis.from_url(url, socket_timeout=10) as client:
            while page := read(client, last):
                for _, fields in page:
                    if most is not None and given == most:
                        return
                    try:
                        record = msgspec.msgpack.decode(fields.get(b"d", b""), type=Decision)
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        continue
                    given += 1
                    yield record
                last = "(" + page[-1][0].decode()
    except redis.RedisError as error:
        raise StackError(f"decision records cannot be read: {error}") from error
