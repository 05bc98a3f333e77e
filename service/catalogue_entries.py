"""What lies in the catalogue's stream, decoded: items as they were described; entries that are none are passed over."""

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from recsys.archive import Position
from recsys.items import Item
from service.log_entries import Entry, position_of

_log = logging.getLogger(__name__)
_decode = msgspec.msgpack.Decoder(Item).decode


class Change(NamedTuple):
    """An item as it is since a position of the stream."""

    position: Position
    item_id: str
    item: Item


def changes_in(entries: Sequence[Entry]) -> list[Change]:
    """What was read of the stream, in its order."""
    changes = []
    for position, fields in entries:
        raw = dict(zip((fields or [])[::2], (fields or [])[1::2], strict=False))
        try:
            item = _decode(raw.get(b"item", b""))
            changes.append(Change(position_of(position), raw.get(b"id", b"").decode(), item))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("entry %s of the catalogue is no item: %s", position.decode(), error)
    return changes


def items_after(changes: Iterable[Change], horizon_ms: int) -> dict[str, Item]:
    """Items as changes before a moment leave them, in the order in which they were first changed."""
    return {one.item_id: one.item for one in changes if one.position[0] < horizon_ms}
