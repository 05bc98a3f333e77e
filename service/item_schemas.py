"""The JSON bodies of the items API."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from recsys.items import Item
from service.schemas import Category, Id, Request

Title = Annotated[str, Meta(min_length=1, max_length=1000)]
Categories = Annotated[list[Category], Meta(max_length=50)]
Moment = Annotated[datetime, Meta(tz=True, description="RFC 3339, with an offset.")]


class ItemDescription(Request, frozen=True, kw_only=True):
    """An item as it is from now on. What is left out is as the bundle has it, or for a new item unknown."""

    title: Annotated[Title | None, Meta(description="null: as in the bundle; of a new item its id.")] = None
    categories: Annotated[
        Categories | None, Meta(description="null: as in the bundle. They place a new item among the others.")
    ] = None
    available: Annotated[bool, Meta(description="false: in no list.")] = True
    publish_at: Annotated[Moment | None, Meta(description="In no list before.")] = None
    expires_at: Annotated[Moment | None, Meta(description="In no list from then on.")] = None

    def item(self) -> Item:
        """As it is kept."""
        categories = None if self.categories is None else tuple(self.categories)
        return Item(self.title, categories, self.available, _ms(self.publish_at), _ms(self.expires_at))

    @classmethod
    def of(cls, item: Item) -> "ItemDescription":
        """As it is shown."""
        categories = None if item.categories is None else list(item.categories)
        return cls(
            title=item.title,
            categories=categories,
            available=item.available,
            publish_at=_moment(item.publish_ms),
            expires_at=_moment(item.expire_ms),
        )


class ItemPatch(Request, frozen=True, kw_only=True):
    """The fields of a description that change; the others stay."""

    title: Title | UnsetType | None = UNSET
    categories: Categories | UnsetType | None = UNSET
    available: bool | UnsetType = UNSET
    publish_at: Moment | UnsetType | None = UNSET
    expires_at: Moment | UnsetType | None = UNSET

    def applied_to(self, item: Item) -> Item:
        """The item with these changes."""
        given = {
            name: value
            for name in ("title", "categories", "available", "publish_at", "expires_at")
            if (value := getattr(self, name)) is not UNSET
        }
        return msgspec.structs.replace(ItemDescription.of(item), **given).item()


class ItemRow(ItemDescription, frozen=True, kw_only=True):
    """One of many items."""

    item_id: Id


class ItemsRequest(Request, frozen=True, kw_only=True):
    """Describe many items."""

    items: Annotated[list[ItemRow], Meta(min_length=1, max_length=1000, description="No item twice.")]


class ItemState(ItemDescription, frozen=True, kw_only=True):
    """An item as it is described; times in UTC."""

    item_id: str
    deleted: bool


class ItemsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """How many items were described: all of them."""

    accepted: int


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
