"""What is known of items beside the bundle: they can be described anew, withheld, published and retired at run time."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
import numpy as np

from recsys.vocabulary import item_keys


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One item as its owner describes it.

    Attributes:
        title, categories: None: as in the bundle.
        available: False: not to be shown. publish_ms, expire_ms: Shown from, and until before, UTC epoch milliseconds.
        deleted: Not to be shown, and not there for who asks.
    """

    title: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    categories: tuple[str, ...] | None = None
    available: bool = True
    publish_ms: int | None = None
    expire_ms: int | None = None
    deleted: bool = False

    def shown_at(self, ms: int) -> bool:
        """Whether it may be shown at a moment."""
        return (
            self.available
            and not self.deleted
            and (self.publish_ms is None or self.publish_ms <= ms)
            and (self.expire_ms is None or ms < self.expire_ms)
        )

    def turns_between(self, start_ms: int, end_ms: int) -> bool:
        """Whether it is published or expires with start_ms < time <= end_ms."""
        return any(at is not None and start_ms < at <= end_ms for at in (self.publish_ms, self.expire_ms))


def unavailable(items: Mapping[str, Item], ms: int) -> np.ndarray:
    """Keys of the items that may not be shown at a moment, uint64 [u]."""
    return item_keys(item_id for item_id, item in items.items() if not item.shown_at(ms))
