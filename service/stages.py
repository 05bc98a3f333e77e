"""The stages of a micro-batch behind one interface: in this process, or in deployments of their own."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from recsys.recommend import Ranked, Retrieved, rank, retrieve
from recsys.types import QueryBatch, World
from service.lookup import StateLookup, States

_log = logging.getLogger(__name__)


class StageUnavailable(Exception):
    """A stage gave no answer; `reason` is "timeout", "unavailable", "other_bundle", "other_item_stats" or "error".

    Not `cause`: Ray delivers a remote error as a subclass of it and of RayTaskError, which has a `cause` of its own.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage, self.reason = stage, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.stage, self.reason)


Named = tuple[str, str]  # a world by its bundle's id and the version of its item stats


class Stages(Protocol):
    """What the gateway asks of the stages. Each call says in which world: one and the same for a whole micro-batch."""

    async def lookup(self, user_ids: Sequence[str]) -> States:
        """Packed user states, and for each why it could not be read, or None."""
        ...

    async def retrieve(self, world: World, batch: QueryBatch, *, timeout_s: float) -> Retrieved:
        """Candidates. Raises StageUnavailable."""
        ...

    async def rank(self, world: World, batch: QueryBatch, retrieved: Retrieved, *, timeout_s: float) -> Ranked:
        """Scores. Raises StageUnavailable."""
        ...


class ColocatedStages:
    """Retrieval and ranking in this process."""

    def __init__(self, lookup: StateLookup) -> None:
        self._lookup = lookup

    async def lookup(self, user_ids: Sequence[str]) -> States:
        return await self._lookup.fetch(user_ids)

    async def retrieve(self, world: World, batch: QueryBatch, *, timeout_s: float) -> Retrieved:
        del timeout_s  # compute in this process cannot be cut short
        try:
            return retrieve(world, batch)
        except Exception as error:
            _log.exception("retrieval failed for a batch of %d", len(batch))
            raise StageUnavailable("retrieval", "error") from error

    async def rank(self, world: World, batch: QueryBatch, retrieved: Retrieved, *, timeout_s: float) -> Ranked:
        if timeout_s <= 0:
            raise StageUnavailable("ranking", "timeout")
        try:
            return rank(world, batch, retrieved)
        except Exception as error:
            _log.exception("ranking failed for a batch of %d", len(batch))
            raise StageUnavailable("ranking", "error") from error


class DistributedStages:
    """Each stage is a Serve deployment, called once per micro-batch with the batch's arrays.

    A stage that has another bundle refuses, as does one for which the version of the item stats is gone.

    Args:
        feature_lookup, candidate_retrieval, ranking: Handles with a `remote` method.
        lookup_timeout_s: For the lookup, its deployment's own Redis timeout included.
    """

    def __init__(
        self,
        feature_lookup: Any,
        candidate_retrieval: Any,
        ranking: Any,
        *,
        lookup_timeout_s: float,
    ) -> None:
        self._feature_lookup, self._retrieval, self._ranking = feature_lookup, candidate_retrieval, ranking
        self._lookup_timeout_s = lookup_timeout_s

    async def lookup(self, user_ids: Sequence[str]) -> States:
        try:
            return await _within(self._feature_lookup.remote(list(user_ids)), self._lookup_timeout_s, "features")
        except StageUnavailable as error:
            return [None] * len(user_ids), [error.reason] * len(user_ids)

    async def retrieve(self, world: World, batch: QueryBatch, *, timeout_s: float) -> Retrieved:
        return await _within(self._retrieval.remote(_named(world), batch), timeout_s, "retrieval")

    async def rank(self, world: World, batch: QueryBatch, retrieved: Retrieved, *, timeout_s: float) -> Ranked:
        asked = self._ranking.remote(_named(world), batch.without_filters(), retrieved)
        return await _within(asked, timeout_s, "ranking")


def _named(world: World) -> Named:
    return world.bundle.id, world.item_stats.version


async def _within(response: Any, timeout_s: float, stage: str) -> Any:
    """The answer of another deployment, or StageUnavailable."""
    try:
        return await asyncio.wait_for(response, max(timeout_s, 0.001))
    except TimeoutError as error:
        raise StageUnavailable(stage, "timeout") from error
    except StageUnavailable:
        raise
    except Exception as error:  # whatever a remote replica raised, Ray wraps in types of its own
        raise StageUnavailable(stage, "unavailable") from error
