"""Orders to forget users: taken by gateways, carried out by `service.eraser`, with a receipt.

One script refuses the user from now on, puts the order on record and deletes the live state: all of it or nothing. The
order holds the id for as long as it waits; everything that stays holds a digest of it.
"""

import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec
from redis.exceptions import RedisError

from recsys.erased_users import user_digest
from service.errors import FieldError, NotFound, RequestError, StoreUnavailable
from service.round_trips import RoundTrips
from service.schemas import MAX_ID_BYTES, Erasure
from service.state_keys import live_key, live_name, rebuilt_key, refused_key, state_key

ORDERS = "riffle:erasures"  # receipt id -> order, for as long as it waits
_ATTEMPTS = 3

# KEYS: what says that the user is refused, orders, the receipt, the names of the live states and of those being
# rebuilt, the user's states. ARGV: these two names, receipt id, ms for which the user is refused, order, receipt.
_ORDER = """
if (redis.call('GET', KEYS[4]) or '') ~= ARGV[1] or (redis.call('GET', KEYS[5]) or '') ~= ARGV[2] then return '' end
local known = redis.call('GET', KEYS[1])
if known then return known end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[5])
redis.call('SET', KEYS[3], ARGV[6])
for i = 6, #KEYS do redis.call('DEL', KEYS[i]) end
return ARGV[3]
"""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done: what arrived of a user, or arrives before `until_ms` (UTC epoch), is erased."""

    receipt: Erasure
    user_id: str
    until_ms: int


def receipt_key(receipt_id: str) -> str:
    """Where a receipt lies."""
    return f"{ORDERS}:{receipt_id}"


def rfc_3339(epoch_ms: int) -> str:
    """A moment as answers tell it."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Forgetting:
    """Takes orders and shows their receipts.

    Args:
        refuse_s: How long events of the user are refused.
    """

    def __init__(self, store: RoundTrips, *, refuse_s: int) -> None:
        self._store, self._refuse_s = store, refuse_s

    async def forget(self, user_id: str) -> dict[str, Any]:
        """Order that a user is forgotten; shaped as `Erasure`. While the user is refused, the receipt of that order.

        Raises:
            RequestError: no such id can be. StoreUnavailable: ordering again is safe.
        """
        if len(user_id.encode()) > MAX_ID_BYTES or "\0" in user_id:
            detail = f"a user id has at most {MAX_ID_BYTES} UTF-8 bytes, and no U+0000"
            raise RequestError(detail, [FieldError("", "user_id", detail)])
        for _ in range(_ATTEMPTS):
            if known := await self._order(user_id):
                return await self.receipt(known)
        raise StoreUnavailable("other states became live meanwhile; order it again")

    async def receipt(self, receipt_id: str) -> dict[str, Any]:
        """How far an order is; shaped as `Erasure`.

        Raises:
            NotFound: no such receipt. StoreUnavailable: the store does not answer.
        """
        (found,) = await self._demand(("GET", receipt_key(receipt_id)))
        if found is None:
            raise NotFound(f"no receipt {receipt_id[:100]!r}; it is in the answer to DELETE /v1/users/{{user_id}}")
        return msgspec.json.decode(found)

    async def _order(self, user_id: str) -> str:
        """The id of the receipt; "" where states became live in between."""
        live, rebuilt, now = await self._demand(("GET", live_key()), ("GET", rebuilt_key()), ("TIME",))
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
        until_ms = now_ms + 1000 * self._refuse_s
        receipt = Erasure(
            receipt_id=secrets.token_hex(16),
            user=user_digest(user_id),
            status="pending",
            requested_at=rfc_3339(now_ms),
            refused_until=rfc_3339(until_ms),
        )
        order = Order(receipt=receipt, user_id=user_id, until_ms=until_ms)
        names = {live_name(live), *([rebuilt.decode()] if rebuilt else [])}
        keys = [refused_key(user_id), ORDERS, receipt_key(receipt.receipt_id), live_key(), rebuilt_key()]
        keys += [state_key(name, user_id) for name in sorted(names)]
        arguments = [live or b"", rebuilt or b"", receipt.receipt_id, str(1000 * self._refuse_s)]
        arguments += [msgspec.json.encode(order), msgspec.json.encode(receipt)]
        (known,) = await self._demand(("EVAL", _ORDER, str(len(keys)), *keys, *arguments))
        return known.decode()

    async def _demand(self, *commands: tuple[str | bytes, ...]) -> list[Any]:
        try:
            return await self._store.demand(commands)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"the store does not answer: {str(error) or type(error).__name__}") from error
