"""The event log: one Redis stream per shard of users, each event in it once.

An event id is remembered for a day at least, beside a digest of its body (`service.event_ids`). Remembering and
appending are one script, so an id is either both or neither. On a cluster it is a script for each shard, and an id is
known within its shard: with the user of another one it is another event.
"""

import hashlib
import logging
from collections.abc import Sequence
from enum import Enum
from typing import Any

import msgspec
from redis.exceptions import ClusterDownError, ConnectionError, OutOfMemoryError, RedisError, TryAgainError

from service.errors import LogUnavailable, Overloaded
from service.event_ids import bucket_of, day_of, ids_of
from service.round_trips import Command, RoundTrips
from service.state_keys import fence_key, refused_key, shard

# KEYS: per event today's and yesterday's ids, the stream, what says that its user is refused. ARGV: entries at which a
# shard is full; per event its id and body digests, and the event. Returns the outcomes, a character for each.
_APPEND = """
local results, refused, lengths, limit = {}, {}, {}, tonumber(ARGV[1])
for i = 4, #KEYS, 4 do refused[i / 4] = KEYS[i] end
local anybody = redis.call('EXISTS', unpack(refused)) > 0  -- once, not for each of up to 1,000
for i = 1, #KEYS / 4 do
  local today, yesterday, stream = KEYS[4 * i - 3], KEYS[4 * i - 2], KEYS[4 * i - 1]
  local id, body, known = ARGV[3 * i - 1], ARGV[3 * i], nil
  lengths[stream] = lengths[stream] or redis.call('XLEN', stream)
  if anybody and redis.call('EXISTS', KEYS[4 * i]) == 1 then
    results[i] = '-'
  else
    known = redis.call('HGET', yesterday, id)
    if not known and lengths[stream] >= limit then
      known = redis.call('HGET', today, id)
      if not known then results[i] = '#' end
    elseif not known and redis.call('HSETNX', today, id, body) == 0 then
      known = redis.call('HGET', today, id)
    elseif not known then
      redis.call('XADD', stream, '*', 'e', ARGV[3 * i + 1])
      lengths[stream] = lengths[stream] + 1
      results[i] = '+'
    end
    if known then results[i] = string.sub(known, 1, #body) == body and '=' or '!' end
  end
end
return table.concat(results)
"""


class Event(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One event as it lies in the log.

    Attributes:
        ts_ms: When it happened, received_ms: when it came; UTC epoch milliseconds.
        verb: `recsys.verbs.Verb`, or 0 where it leaves the user's state as it is.
        position: Rank of the item in the list it was shown in, from 1. value: Of a rating, or an amount.
    """

    event_id: str
    type: str
    user_id: str
    item_id: str
    ts_ms: int
    received_ms: int
    verb: int
    recommendation_id: str | None = None
    position: int | None = None
    value: float | None = None
    properties: dict[str, Any] = {}


class Outcome(Enum):
    """What became of an event."""

    ACCEPTED = "+"
    DUPLICATE = "="  # the same id with the same body is in the log already
    CONFLICT = "!"  # the same id with another body is
    REFUSED = "-"  # its user was forgotten
    FULL = "#"


REPLICAS_MS = 1_000  # below the log's timeout
_OUTCOME = {ord(one.value): one for one in Outcome}
_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode


def stream_key(number: int) -> str:
    """Where the events of a shard lie."""
    return f"riffle:{{s{number:02d}}}:events"


class EventLog:
    """Appends events; returns when they are in the log.

    Args:
        limit: Entries of one shard at which it takes no more.
        replicas: That must have an event before it counts as logged. A server that fails takes with it what its
            replicas do not have yet.
    """

    def __init__(self, store: RoundTrips, *, limit: int, replicas: int = 0) -> None:
        self._store, self._limit, self._replicas = store, limit, replicas

    async def append(self, events: Sequence[Event], *, now_s: float | None = None) -> list[Outcome]:
        """Append each event whose id is new; what became of each. Where a shard is full, those before stay in the log.

        Raises:
            Overloaded: a shard is full, or the store has no memory left; sending all of them again is safe.
            LogUnavailable: the store does not answer, or too few replicas have them; whether events were appended is
                unknown, sending again is safe.
        """
        day = day_of(now_s)
        groups = self._groups(events)
        commands: list[Command] = []
        for places in groups:
            commands.append(self._script([events[place] for place in places], day))
            commands += self._fence(shard(events[places[0]].user_id))
        try:
            replies = await self._store.call(commands)
        except (TimeoutError, ConnectionError, OSError, RedisError) as error:
            raise LogUnavailable("the event log does not answer; send the events again") from error
        for reply in replies:
            if isinstance(reply, Exception):
                raise _refusal(reply) from reply
        step = len(commands) // len(groups)
        if self._replicas and min(replies[step - 1 :: step]) < self._replicas:
            raise LogUnavailable(f"fewer than {self._replicas} replicas have the events; send them again")
        outcomes = [Outcome.FULL] * len(events)
        for places, reply in zip(groups, replies[::step], strict=True):
            for place, one in zip(places, reply, strict=True):
                outcomes[place] = _OUTCOME[one]
        if Outcome.FULL in outcomes:
            raise Overloaded(f"{self._limit} events of one shard wait already; send all of them again later")
        return outcomes

    def _groups(self, events: Sequence[Event]) -> list[list[int]]:
        """Places of the events that go into one script: on a cluster those of a shard."""
        if not self._store.is_cluster:
            return [list(range(len(events)))]
        of_shard: dict[int, list[int]] = {}
        for place, event in enumerate(events):
            of_shard.setdefault(shard(event.user_id), []).append(place)
        return list(of_shard.values())

    def _script(self, events: Sequence[Event], day: int) -> Command:
        is_cluster = self._store.is_cluster
        number = shard(events[0].user_id) if is_cluster else None
        today, yesterday = ids_of(day, number), ids_of(day - 1, number)
        keys: list[str] = []
        arguments: list[str | bytes] = [str(self._limit)]
        for event in events:
            id_digest = hashlib.blake2b(event.event_id.encode(), digest_size=16).digest()
            bucket = bucket_of(id_digest, is_cluster=is_cluster)
            stream = stream_key(shard(event.user_id))
            keys += (today + bucket, yesterday + bucket, stream, refused_key(event.user_id))
            arguments += (id_digest, _body_digest(event), _encode(event))
        return ("EVAL", _APPEND, str(len(keys)), *keys, *arguments)

    def _fence(self, number: int) -> list[Command]:
        """Wait for the replicas. WAIT looks at the last write of its connection: of an event that another one has
        written and that is sent again there would be none.
        """
        if not self._replicas:
            return []
        return [("SET", fence_key(number), ""), ("WAIT", str(self._replicas), str(REPLICAS_MS))]


def _refusal(reply: Exception) -> LogUnavailable | Overloaded:
    if isinstance(reply, OutOfMemoryError):
        return Overloaded("the event log has no memory left; send the events again later")
    if isinstance(reply, ConnectionError | OSError | ClusterDownError | TryAgainError):
        return LogUnavailable("the event log does not answer; send the events again")
    _log.error("the store refuses events: %s", reply)
    return LogUnavailable("the event log refuses events; the server's log says why")


def _body_digest(event: Event) -> bytes:
    """8 bytes over what the client sent; when it came is not part of it."""
    return hashlib.blake2b(_encode(msgspec.structs.replace(event, received_ms=0)), digest_size=8).digest()
