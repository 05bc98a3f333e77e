"""A bundle that answers some requests once more, after their answers were sent, and is compared list by list.

Who waits goes first: only where no request waits or runs is a small batch made, for which who comes meanwhile waits.
What has waited too long is dropped, and counted. It is asked as of the item stats that the answer was made with: what
differs is the bundle.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple

import msgspec
import numpy as np
from redis.exceptions import RedisError

from recsys.digests import Stage, differing
from recsys.experiments.buckets import BUCKETS
from recsys.experiments.outcomes import distance
from recsys.features.codec import unpack
from recsys.features.matrix import NAMES, SCHEMA_HASH
from recsys.recommend import recommend
from recsys.types import World
from service.answers import Answer
from service.errors import HttpError
from service.lanes import Lanes
from service.queries import Query, batch_of, resolve_request
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest
from service.settings import Settings
from service.traffic.document import Arm
from service.traffic.table import TrafficTable

STREAM = "riffle:{traffic}:shadow"
STREAM_LENGTH = 20_000
QUEUE = 64
BATCH = 4  # requests computed at a time, while who comes waits
STALE_S = 1.0
PAUSE_S = 0.02
HEAD = 10  # items of a list that are looked at

_log = logging.getLogger("ray.serve")


class Compared(msgspec.Struct, frozen=True, array_like=True):
    """One list beside that of the shadow.

    Attributes:
        bundle, shadow: Who made them. personal: Whether anything of the user was known.
        distance: As `outcomes.distance`. overlap: Items of the first HEAD that both have, as a share.
        stage: The first that made something else; "" where none did.
        entered, left: Items of the first HEAD that only the shadow has, and that only the answer had.
    """

    bundle: str
    shadow: str
    personal: bool
    distance: float
    overlap: float
    stage: str
    entered: list[str]
    left: list[str]


class _Sent(NamedTuple):
    at: float
    world: World
    request: RecommendationRequest
    query: Query
    arm: Arm
    answer: Answer
    items: list[str]


class Shadow:
    """Takes answers that were sent, and makes some of them again with the bundle of the traffic table's shadow.

    Args:
        is_busy: Whether any request waits or is being answered.
        store: Takes what was compared.
    """

    def __init__(self, lanes: Lanes, settings: Settings, is_busy: Callable[[], bool], store: RoundTrips) -> None:
        self._lanes, self._settings, self._is_busy, self._store = lanes, settings, is_busy, store
        self._queue: deque[_Sent] = deque()
        self._task: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter()  # "compared", "dropped", "failed"

    def offer(
        self, request: RecommendationRequest, query: Query, arm: Arm, answer: Answer, body: dict[str, Any]
    ) -> None:
        """An answer that has been made; where there is no shadow this looks no further."""
        shadow = self._lanes.traffic.shadow
        if shadow is None or answer.degraded or (query.seed >> 16) % BUCKETS >= shadow.share:
            return
        lane = self._lanes.shadow
        if lane is None:
            return
        served, other = answer.world, lane.serving.world
        world = served if other.bundle.id == served.bundle.id else other
        if len(self._queue) >= QUEUE or not _as_of_one_moment(world, served):
            self.counts["dropped"] += 1
            return
        items = [item["item_id"] for item in body["items"]]
        self._queue.append(_Sent(monotonic(), world, request, query, arm, answer, items))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def settled(self) -> None:
        """Wait until everything offered so far is compared or dropped."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._queue:
                await asyncio.sleep(PAUSE_S)
                while self._queue and monotonic() - self._queue[0].at > STALE_S:
                    self._queue.popleft()
                    self.counts["dropped"] += 1
                if not self._queue or self._is_busy():
                    continue
                sent = [self._queue.popleft()]
                while self._queue and len(sent) < BATCH and self._queue[0].world is sent[0].world:
                    sent.append(self._queue.popleft())
                try:
                    compared = compare(sent[0].world, sent, self._settings)
                except Exception as error:
                    self.counts["failed"] += len(sent)
                    if not isinstance(error, HttpError):
                        _log.exception("the shadow failed for %d requests", len(sent))
                    continue
                self.counts["compared"] += len(compared)
                await self._tell(compared)
        finally:
            self._task = None

    async def _tell(self, compared: Sequence[Compared]) -> None:
        commands = [
            ("XADD", STREAM, "MAXLEN", "~", str(STREAM_LENGTH), "*", "c", msgspec.msgpack.encode(one))
            for one in compared
        ]
        try:
            await self._store.demand(commands)
        except (RedisError, OSError, TimeoutError):
            self.counts["dropped"] += len(commands)


async def compared(table: TrafficTable) -> list[Compared]:
    """All that is on record, the oldest first; what cannot be read is passed over."""
    found = []
    for value in await table.entries(STREAM, b"c"):
        try:
            found.append(msgspec.msgpack.decode(value, type=Compared))
        except msgspec.DecodeError:
            continue
    return found


def compare(world: World, sent: Sequence[_Sent], settings: Settings) -> list[Compared]:
    """The same requests, states, moments and seeds in another world. Raises Unprocessable: a category it lacks."""
    queries = [
        resolve_request(world.bundle, one.request, one.arm, settings, seed=one.query.seed, now_s=one.query.now_s)
        for one in sent
    ]
    queries = [
        msgspec.structs.replace(query, quality=one.answer.quality or 1.0)
        for query, one in zip(queries, sent, strict=True)
    ]
    states, _ = unpack([one.answer.user_state for one in sent], SCHEMA_HASH)
    slates = recommend(world, batch_of(queries, states))
    found = []
    for row, one in enumerate(sent):
        cells = slates.item[slates.indptr[row] : slates.indptr[row + 1]]
        other = [world.bundle.vocabulary.item_id[item] for item in cells]
        head, served = other[:HEAD], one.items[:HEAD]
        both = {*head} & {*served}
        found.append(
            Compared(
                bundle=one.answer.world.bundle.id,
                shadow=world.bundle.id,
                personal=one.answer.personal,
                distance=distance(one.items, other),
                overlap=len(both) / max(len(head), len(served), 1),
                stage=_first_difference(
                    one.answer.slates.digests[one.answer.row], slates.digests[row], alike=one.items == other
                ),
                entered=[item for item in head if item not in both],
                left=[item for item in served if item not in both],
            )
        )
    return found


def _as_of_one_moment(world: World, other: World) -> bool:
    """Whether both know the same item stats; each bundle has its own until the store has any."""
    versions = world.item_stats.version, other.item_stats.version
    return versions[0] == versions[1] or any(one.startswith("bundle-") for one in versions)


def _first_difference(one: np.ndarray, other: np.ndarray, *, alike: bool) -> str:
    """The first stage whose digests differ; of lists that are alike "" where none does."""
    stage, _ = differing(one, other, NAMES)
    return stage or ("" if alike else Stage.SELECTION)
