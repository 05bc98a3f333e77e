"""The world that a gateway serves, with what belongs to it."""

from dataclasses import replace
from typing import NamedTuple

import msgspec

from recsys.types import Source, World
from service.encoding import ItemEncoder


class Serving(NamedTuple):
    """A world, the same with nothing but its popular list, and what encodes its items."""

    world: World
    popular: World
    encoder: ItemEncoder

    @classmethod
    def of(cls, world: World, before: "Serving | None" = None) -> "Serving":
        """Serve a world; what is remembered of the bundle of the one before is kept where it is the same bundle."""
        recipe = msgspec.structs.replace(world.bundle.recipe, sources=(Source.POPULAR.name,))
        popular = replace(world, bundle=replace(world.bundle, recipe=recipe, ranker=None))
        same = before is not None and before.world.bundle is world.bundle
        return cls(world, popular, before.encoder if before and same else ItemEncoder(world.bundle))
