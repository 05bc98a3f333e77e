"""A bundle's world as of a snapshot: its item stats, and the items that were described since the bundle was trained."""

from dataclasses import replace

from recsys.bundle import Bundle
from recsys.overlay import Description, described, overlaid
from recsys.types import World
from service.item_snapshot import Snapshot


class OverlaidWorlds:
    """Makes worlds of one bundle; remembers the last bundle with items in it, since they change far less than stats.

    Args:
        built: The world as the bundle makes it.
    """

    def __init__(self, built: World) -> None:
        self.built = built
        self._last: tuple[dict[str, Description], Bundle] = ({}, built.bundle)

    def of(self, snapshot: Snapshot) -> World:
        """The world as of a snapshot, with all computed that the first request would have to wait for.

        Cost: the counters' columns; where descriptions have changed, a copy of the bundle's arrays and index.
        """
        wanted = described(self.built.bundle, snapshot.items)
        descriptions, bundle = self._last
        if wanted != descriptions:
            bundle = overlaid(self.built.bundle, wanted)
            self._last = wanted, bundle
        world = replace(self.built, bundle=bundle, item_stats=snapshot.stats(bundle.vocabulary))
        for _ in (
            world.popular,
            world.item_columns,
            world.available_bits,
            world.available_count,
            world.item_stats_digest,
        ):
            pass
        for _ in (bundle.factor_scale, bundle.category_marks, bundle.category_number):
            pass
        return world
