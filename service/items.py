"""Items as their owners describe them: into the store and the catalogue's stream, one by one or many together.

The store's hash has each item as it is; a write also puts it on the stream, in the same script, which snapshots follow.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from redis.exceptions import OutOfMemoryError, RedisError

from recsys.items import Item
from recsys.vocabulary import Vocabulary, item_keys
from service.errors import CatalogueUnavailable, FieldError, NotFound, Overloaded, Unprocessable
from service.item_schemas import ItemDescription, ItemPatch, ItemsRequest
from service.item_snapshot import CATALOGUE
from service.round_trips import RoundTrips
from service.state_keys import beside
from service.store_client import StoreClient, is_cluster_client

ITEMS = "riffle:items"  # as `items_key` says
_ATTEMPTS = 5

# KEYS: items, catalogue. ARGV: entries at which the catalogue is full; per item its id, what it was read as ("" for
# nothing), what it becomes.
_WRITE = """
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[1]) then return -1 end
for i = 2, #ARGV, 3 do
  if (redis.call('HGET', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = 2, #ARGV, 3 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  redis.call('XADD', KEYS[2], '*', 'id', ARGV[i], 'item', ARGV[i + 2])
end
return 1
"""
# KEYS: items. ARGV: per item its id, what it is if nothing is said of it yet.
_RESTORE = """
for i = 1, #ARGV, 2 do
  if not redis.call('HGET', KEYS[1], ARGV[i]) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
"""
_CHUNK = 1000
_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Item).decode


class ItemCatalogue:
    """Takes descriptions of items. What changes one may also raise Overloaded.

    What describes one raises Unprocessable where it would expire before it is published.

    Args:
        known: The items of the bundle: they are there without having been described.
        limit: Entries of the catalogue's stream at which it takes no more.
    """

    def __init__(self, store: RoundTrips, known: Vocabulary, *, limit: int) -> None:
        self._store, self._limit = store, limit
        self._known: tuple[Vocabulary, ...] = (known,)

    def know(self, champion: Vocabulary, *others: Vocabulary) -> None:
        """From now on these are the items that are there without having been described."""
        self._known = (champion, *others)

    async def put(self, item_id: str, description: ItemDescription) -> dict[str, Any]:
        """Describe an item from scratch, a new one or not; shaped as `ItemState`. Raises CatalogueUnavailable."""
        given = _shown_at_some_time(description.item(), "")
        return (await self._change([item_id], lambda _, __: given))[0]

    async def patch(self, item_id: str, patch: ItemPatch) -> dict[str, Any]:
        """Change some fields of an item; shaped as `ItemState`. Raises NotFound, CatalogueUnavailable."""

        def changed(_: str, before: Item | None) -> Item:
            return _shown_at_some_time(patch.applied_to(self._there(item_id, before)), "")

        return (await self._change([item_id], changed))[0]

    async def delete(self, item_id: str) -> dict[str, Any]:
        """Take an item out for good, or until it is put again; doing it twice is the same.

        Raises:
            NotFound: there never was such an item. CatalogueUnavailable.
        """

        def deleted(_: str, before: Item | None) -> Item:
            return Item(deleted=True) if before and before.deleted else self._deleted(item_id, before)

        return (await self._change([item_id], deleted))[0]

    async def show(self, item_id: str) -> dict[str, Any]:
        """An item as it is described; shaped as `ItemState`. Raises NotFound, CatalogueUnavailable."""
        ((value,),) = await self._read([item_id])
        return _state(item_id, self._there(item_id, _decode(value) if value else None))

    async def put_many(self, request: ItemsRequest) -> dict[str, Any]:
        """Describe items, all or none of them; shaped as `ItemsResponse`. Raises CatalogueUnavailable."""
        given = {
            row.item_id: _shown_at_some_time(row.item(), f"/items/{number}") for number, row in enumerate(request.items)
        }
        await self._change(list(given), lambda item_id, _: given[item_id])
        return {"accepted": len(given)}

    async def _change(
        self, item_ids: Sequence[str], changed: Callable[[str, Item | None], Item]
    ) -> list[dict[str, Any]]:
        """Read, change and write, together with whoever else does so."""
        for _ in range(_ATTEMPTS):
            (before,) = await self._read(item_ids)
            items = [
                changed(one, _decode(value) if value else None) for one, value in zip(item_ids, before, strict=True)
            ]
            arguments: list[str | bytes] = [str(self._limit)]
            for item_id, value, item in zip(item_ids, before, items, strict=True):
                arguments += (item_id, value or b"", _encode(item))
            keys = items_key(is_cluster=self._store.is_cluster), CATALOGUE
            (written,) = await self._call([("EVAL", _WRITE, "2", *keys, *arguments)])
            if written < 0:
                raise Overloaded(f"{self._limit} changes of items wait already; send it again later")
            if written:
                return [_state(item_id, item) for item_id, item in zip(item_ids, items, strict=True)]
        raise CatalogueUnavailable("others change the same items all the time; send it again")

    async def _read(self, item_ids: Sequence[str]) -> list[Any]:
        return await self._call([("HMGET", items_key(is_cluster=self._store.is_cluster), *item_ids)])

    async def _call(self, commands: Sequence[tuple[str | bytes, ...]]) -> list[Any]:
        try:
            return await self._store.demand(commands)
        except OutOfMemoryError as error:
            raise CatalogueUnavailable("the store has no memory left; send it again later") from error
        except (RedisError, OSError, TimeoutError) as error:
            raise CatalogueUnavailable("the catalogue does not answer; send it again") from error

    def _there(self, item_id: str, before: Item | None) -> Item:
        if before is None and any(one.rows(item_keys([item_id]))[0] >= 0 for one in self._known):
            return Item()
        if before is None or before.deleted:
            raise NotFound(f"no item {item_id!r}", [FieldError("", "unknown_item", "no such item; PUT makes one")])
        return before

    def _deleted(self, item_id: str, before: Item | None) -> Item:
        self._there(item_id, before)
        return Item(deleted=True)


def items_key(*, is_cluster: bool) -> str:
    """Where the items lie: they change together with the catalogue's stream."""
    return beside(CATALOGUE, ITEMS, is_cluster=is_cluster)


def restore(client: StoreClient, items: Mapping[str, Item]) -> None:
    """Describe items to a store that has lost them, as the archive has them; what it knows stays. Raises RedisError."""
    key = items_key(is_cluster=is_cluster_client(client))
    if client.hlen(key) >= len(items):
        return
    described = list(items.items())
    for start in range(0, len(described), _CHUNK):
        pairs = [(item_id, _encode(item)) for item_id, item in described[start : start + _CHUNK]]
        client.eval(_RESTORE, 1, key, *(part for pair in pairs for part in pair))


def _shown_at_some_time(item: Item, at: str) -> Item:
    """The same item; `at` points at it in the body. Raises Unprocessable where it expires before it is published."""
    if item.publish_ms is not None and item.expire_ms is not None and item.expire_ms <= item.publish_ms:
        problem = FieldError(f"{at}/expires_at", "empty_window", "not after publish_at: no list would ever hold it")
        raise Unprocessable("an item cannot expire before it is published", [problem])
    return item


def _state(item_id: str, item: Item) -> dict[str, Any]:
    return {"item_id": item_id, **msgspec.to_builtins(ItemDescription.of(item)), "deleted": item.deleted}
