"""Orders to forget users: taken by gateways, carried out by `service.eraser`, with a receipt.

The order is put on record first, then the user is refused, then the live states are deleted: who dies on the way leaves
an order that the eraser takes up where it stands. Nobody writes a state of a user who is refused, so the states that
are live after that are all there are. The order holds the id for as long as it waits; everything that stays holds a
digest of it.
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
        (known,) = await self._demand(("GET", refused_key(user_id)))
        if not known:
            order = await self._record(user_id)
            known = await self._refuse(order)
            if known != order.receipt.receipt_id.encode():  # another order was first: it is the one
                await self._demand(("HDEL", ORDERS, order.receipt.receipt_id))
                await self._demand(("UNLINK", receipt_key(order.receipt.receipt_id)))
        return await self.receipt(known.decode())

    async def resume(self, order: Order) -> None:
        """See to it that a user is refused of whom an order waits, and that no state is live. Raises StoreUnavailable.

        Whoever took the order may have died before that.
        """
        await self._refuse(order)

    async def receipt(self, receipt_id: str) -> dict[str, Any]:
        """How far an order is; shaped as `Erasure`.

        Raises:
            NotFound: no such receipt. StoreUnavailable: the store does not answer.
        """
        (found,) = await self._demand(("GET", receipt_key(receipt_id)))
        if found is None:
            raise NotFound(f"no receipt {receipt_id[:100]!r}; it is in the answer to DELETE /v1/users/{{user_id}}")
        return msgspec.json.decode(found)

    async def _record(self, user_id: str) -> Order:
        """A new order, on record."""
        now_ms = await self._now_ms()
        until_ms = now_ms + 1000 * self._refuse_s
        receipt = Erasure(
            receipt_id=secrets.token_hex(16),
            user=user_digest(user_id),
            status="pending",
            requested_at=rfc_3339(now_ms),
            refused_until=rfc_3339(until_ms),
        )
        order = Order(receipt=receipt, user_id=user_id, until_ms=until_ms)
        await self._demand(("HSET", ORDERS, receipt.receipt_id, msgspec.json.encode(order)))
        await self._demand(("SET", receipt_key(receipt.receipt_id), msgspec.json.encode(receipt), "NX"))
        return order

    async def _refuse(self, order: Order) -> bytes:
        """Refuse the user and delete the states that are live; the id of the receipt that the refusal names."""
        own = order.receipt.receipt_id
        left_ms = order.until_ms - await self._now_ms()
        known = None
        if left_ms > 0:
            refuse = ("SET", refused_key(order.user_id), own, "NX", "GET", "PX", str(left_ms))
            (known,) = await self._demand(refuse)
        live, rebuilt = await self._demand(("GET", live_key()), ("GET", rebuilt_key()))
        names = {live_name(live), *([rebuilt.decode()] if rebuilt else [])}
        await self._demand(("DEL", *(state_key(name, order.user_id) for name in sorted(names))))
        return known or own.encode()

    async def _now_ms(self) -> int:
        try:
            return await self._store.now_ms()
        except (RedisError, OSError, TimeoutError) as error:
            raise _unavailable(error) from error

    async def _demand(self, *commands: tuple[str | bytes, ...]) -> list[Any]:
        try:
            return await self._store.demand(commands)
        except (RedisError, OSError, TimeoutError) as error:
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"the store does not answer: {str(error) or type(error).__name__}")
