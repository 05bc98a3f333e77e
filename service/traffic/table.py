"""The traffic table in the store: one document that is swapped whole, what it was before, and who has taken it.

All keys share a hash tag, so that on a Redis Cluster, too, a change and its history are one transaction.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from redis.exceptions import RedisError

from service.errors import StackError, TrafficError
from service.round_trips import RoundTrips
from service.traffic import changes
from service.traffic.document import Traffic, decode, encode

KEY = "riffle:{traffic}"
HISTORY = "riffle:{traffic}:history"
REPORTS = "riffle:{traffic}:replicas"
LEASE_KEY = "riffle:{traffic}:lease"
HISTORY_LENGTH = 10_000  # versions; the last before are kept in the document itself
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LOOKED_BACK = 1_000  # versions in which the one that made a champion is looked for
TELL_S = 1.0  # between reports of a replica
FRESH_S = 5.0  # since its last report a replica counts as there
GONE_S = 600.0  # then its report is removed
TRIES = 20
COMMAND_MS = 3_000

Result = TypeVar("Result")

# Only over the very bytes that the caller has seen: two controllers at once cannot both believe that theirs came next.
_SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 't', ARGV[2])
return 1
"""
# By the clock of the store alone: those of the nodes may differ.
_REPORT = """
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], t[1] .. ' ' .. ARGV[2])
return 1
"""
_REPORTS = "return {redis.call('TIME')[1], redis.call('HVALS', KEYS[1])}"


class Report(msgspec.Struct, frozen=True):
    """What a replica says of itself.

    Attributes:
        replica: Its name. role: Of which deployment. node: On which machine.
        version: Of the table that it obeys; 0: not all its bundles are here, so everybody gets the champion.
        champion: The bundle that answers there. loaded: All that it holds. failed: Those it cannot load, and why.
        age_s: Since it said so.
    """

    replica: str
    role: str
    node: str
    version: int
    champion: str
    loaded: list[str]
    failed: dict[str, str]
    age_s: float = 0.0


class TrafficTable:
    """Reads and changes the document. Every method raises RedisError, OSError, TimeoutError where the store fails."""

    def __init__(self, store: RoundTrips) -> None:
        self._store = store

    async def read(self) -> Traffic | None:
        """The document; None where there is none yet. Raises TrafficError: it cannot be read."""
        value = await self.value()
        return decode(value) if value else None

    async def value(self) -> bytes:
        """Its bytes; empty where there is none."""
        return (await self._store.demand([("GET", KEY)]))[0] or b""

    async def begin(self, champion: str, *, who: str, reason: str, previous: str | None = None) -> Traffic:
        """The document, made with this champion, and the one before, where there is none."""
        return await self.restore(Traffic(1, _now(), who, reason, champion, previous))

    async def restore(self, traffic: Traffic) -> Traffic:
        """The document; this one, where there is none: a new store, or one that lost what it had."""
        return traffic if await self._swap(b"", traffic) else await self.demand()

    async def put_back(self, value: bytes, traffic: Traffic) -> bool:
        """This document in the place of an older one, whose bytes are given; False where something else is there."""
        return await self._swap(value, traffic)

    async def demand(self) -> Traffic:
        """The document. Raises TrafficError: there is none, or it cannot be read."""
        found = await self.read()
        if found is None:
            raise TrafficError("there is no traffic table yet; `riffle serve` makes it")
        return found

    async def change(self, by: Callable[[Traffic], Traffic], *, who: str, reason: str) -> Traffic:
        """The next version, made from the one that is; made anew where another came first.

        Args:
            by: Pure; gets a document and gives it changed. The same object: nothing is to be done.
        Raises:
            TrafficError: the change cannot be made, no reason or nobody is named, or others always came first.
        """
        check_named(who, reason)
        for _ in range(TRIES):
            value = await self.value()
            if not value:
                raise TrafficError("there is no traffic table yet; `riffle serve` makes it")
            before = decode(value)
            changed = by(before)
            if changed is before:
                return before
            now = _now()
            after = msgspec.structs.replace(changed, version=before.version + 1, time=now, who=who, reason=reason)
            after = changes.ended(after, now)
            if await self._swap(value, after):
                return after
        raise TrafficError(f"{TRIES} other changes came first; try again")

    async def now_ms(self) -> int:
        """This moment of the store's clock, UTC epoch milliseconds."""
        return await self._store.now_ms()

    async def history(self, count: int) -> list[Traffic]:
        """The newest versions, the newest last. Those that this version of Riffle cannot read are left out."""
        (found,) = await self._store.demand([("XREVRANGE", HISTORY, "+", "-", "COUNT", str(count))])
        versions = []
        for _, fields in reversed(found):
            try:
                versions.append(msgspec.json.decode(fields[1], type=Traffic))
            except msgspec.DecodeError:
                continue
        return versions

    async def champion_since(self, traffic: Traffic) -> Traffic:
        """The version that made the champion of this one, with its who and why; this one, where no history says."""
        found = traffic
        for one in reversed(await self.history(LOOKED_BACK)):
            if one.version < traffic.version and one.champion != traffic.champion:
                break
            if one.version < traffic.version:
                found = one
        return found

    async def entries(self, stream: str, field: bytes) -> list[bytes]:
        """What a stream beside the table holds, the oldest first."""
        (found,) = await self._store.demand([("XRANGE", stream, "-", "+")])
        return [dict(zip(fields[::2], fields[1::2], strict=True)).get(field, b"") for _, fields in found]

    async def report(self, of: Report) -> None:
        """Say what a replica has taken."""
        await self._store.demand([("EVAL", _REPORT, "1", REPORTS, of.replica, msgspec.json.encode(of))])

    async def reports(self) -> list[Report]:
        """Of the replicas that are there: who has reported within FRESH_S."""
        ((seconds, values),) = await self._store.demand([("EVAL", _REPORTS, "1", REPORTS)])
        found = [_aged(value, int(seconds)) for value in values]
        if gone := [one.replica for one in found if one.age_s > GONE_S]:
            await self._store.demand([("HDEL", REPORTS, *gone)])
        return sorted((one for one in found if one.age_s <= FRESH_S), key=lambda one: (one.role, one.replica))

    async def _swap(self, before: bytes, after: Traffic) -> bool:
        value = encode(after.check())
        command = ("EVAL", _SWAP, "2", KEY, HISTORY, before, value, str(HISTORY_LENGTH))
        return bool((await self._store.demand([command]))[0])


def check_named(who: str, reason: str) -> None:
    """Raise TrafficError where a change has no reason, or nobody makes it."""
    if not reason.strip() or not who.strip():
        raise TrafficError("a change of traffic needs a reason and somebody who makes it; both are kept")
    try:
        f"{who}{reason}".encode()
    except UnicodeEncodeError as error:
        raise TrafficError("the reason, or who gives it, is not valid UTF-8") from error
    if CONTROL.search(who + reason):
        raise TrafficError("the reason, or who gives it, has control characters; they would be shown to others")


def on_table(url: str, work: Callable[[TrafficTable], Awaitable[Result]]) -> Result:
    """Do something with the table of a store, from a command that waits for it.

    Raises:
        StackError: the store does not answer. TrafficError: as `work` does.
    """

    async def go() -> Result:
        store = RoundTrips(url, timeout_ms=COMMAND_MS, connections=1)
        try:
            return await work(TrafficTable(store))
        except (RedisError, OSError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise StackError(f"the store does not answer: {why}; `riffle doctor` looks for causes") from error
        finally:
            await store.close()

    return asyncio.run(go())


def _aged(value: bytes, now_s: int) -> Report:
    at, _, body = value.partition(b" ")
    return msgspec.structs.replace(msgspec.json.decode(body, type=Report), age_s=max(0.0, now_s - int(at)))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
