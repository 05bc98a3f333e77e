"""From slates to response bodies."""

from functools import lru_cache, partial
from typing import Any

import orjson

from recsys.bundle import Bundle
from recsys.types import Source

SOURCE_NAMES = tuple([s.name.lower() for s in Source if bits >> s & 1] for bits in range(1 << len(Source)))


class ItemEncoder:
    """What an answer says of an item, the costly parts remembered: ids and encoded metadata of 65,536 items.

    Items of an answer are few and popular, so nearly all come from memory.
    """

    def __init__(self, bundle: Bundle) -> None:
        # Functions of the bundle alone: methods of this object would keep it, and the bundle, until a collection.
        self.item_id = lru_cache(1 << 16)(lambda row: bundle.vocabulary.item_id[row])
        self._metadata = lru_cache(1 << 16)(partial(_encoded_metadata, bundle))

    def items(
        self,
        rows: list[int],
        scores: list[float],
        sources: list[int],
        reasons: list[list[str]] | None,
        *,
        metadata: bool,
        with_scores: bool,
    ) -> list[dict[str, Any]]:
        """The `items` of an answer, best first."""
        items: list[dict[str, Any]] = []
        for place, row in enumerate(rows):
            item: dict[str, Any] = {"item_id": self.item_id(row), "rank": place + 1}
            if with_scores:
                item["score"] = scores[place]
            item["sources"] = SOURCE_NAMES[sources[place]]
            if reasons is not None:
                item["reasons"] = reasons[place]
            if metadata:
                item["metadata"] = self._metadata(row)
            items.append(item)
        return items


def _encoded_metadata(bundle: Bundle, row: int) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps({"title": bundle.title[row], "categories": bundle.categories_of(row)}))
