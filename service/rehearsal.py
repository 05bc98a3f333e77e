"""Whether the variants of an experiment would make different lists: tried out before anybody is drawn into it.

A setting can be another one and still do nothing: more candidates than there are items, chance where no item is new,
diversity where every client asks for its own. So the newest requests on record are made again as each variant would
answer them; where there are next to none, requests about a few items stand in.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import combinations
from typing import NamedTuple

import msgspec
import numpy as np
from redis.exceptions import RedisError

from recsys.errors import BundleError, RegistryError, StateError
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import recommend
from recsys.types import World
from service.archives import decision_archive
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import Decision
from service.errors import TrafficError, Unprocessable
from service.live_world import LiveWorld
from service.queries import Query, batch_of, resolve_request
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest, Session
from service.settings import Settings
from service.traffic.document import Arm, Experiment, Traffic, Variant
from service.world import load_world

LISTS = 200  # made by each variant: where 3 in 200 lists would differ, one of 20 experiments seems to do nothing
ENOUGH = 50  # recorded ones, beside which none are invented: what nobody asks for is no effect
LOOKED_AT = 5_000  # records, for those of the experiment's placements
BATCH = 20
SESSION = 5  # items that an invented request is about
COMMAND_MS = 10_000


class _Question(NamedTuple):
    request: RecommendationRequest
    user_state: bytes | None
    seed: int
    now_s: int


class Rehearsal:
    """Tries out experiments, one at a time.

    Args:
        store: Of the item stats. load: Verifies and maps a bundle; called in a thread.
    """

    def __init__(
        self, settings: Settings, store: RoundTrips, records: DecisionRecords, load: Callable[[str], World]
    ) -> None:
        self._settings, self._store, self._records, self._load = settings, store, records, load
        self._trying = asyncio.Lock()

    async def demand_difference(self, traffic: Traffic, experiment: Experiment) -> None:
        """Refuse an experiment of which two variants make the same lists, unless that is wanted.

        Raises:
            TrafficError: it names the variants, and what has no effect; or a bundle cannot be loaded, or another
                experiment is being tried.
            RecordsUnavailable: the records cannot be read.
        """
        if experiment.same:
            return
        if self._trying.locked():
            raise TrafficError("another experiment is being tried at this moment; start this one after it")
        async with self._trying:
            await self._demand_difference(traffic, experiment)

    async def _demand_difference(self, traffic: Traffic, experiment: Experiment) -> None:
        worlds = {one: await self._world(one) for one in {arm.bundle or traffic.champion for arm in experiment.arms()}}
        recorded = await self._recorded(traffic, experiment)
        invented = _invented(worlds[min(worlds)], experiment, LISTS - len(recorded)) if len(recorded) < ENOUGH else []
        questions = recorded + invented
        alike = await asyncio.to_thread(self._alike, traffic, experiment, worlds, questions)
        if alike is not None:
            one, other = alike
            raise TrafficError(
                f"variants {one.name!r} and {other.name!r} of {experiment.name!r} make the same list of each of "
                f"{len(questions)} requests ({len(recorded)} on record, {len(invented)} invented): here "
                f"{_in_words(one.arm, other.arm)} has no effect; `same` makes it a test of the test"
            )

    async def _world(self, bundle_id: str) -> World:
        try:
            live = LiveWorld(await asyncio.to_thread(self._load, bundle_id), self._store)
        except (BundleError, RegistryError) as error:
            raise TrafficError(f"{bundle_id} cannot be loaded: {error}") from error
        with suppress(RedisError, OSError, TimeoutError, StateError):
            await live.refresh()
        return live.world

    async def _recorded(self, traffic: Traffic, experiment: Experiment) -> list[_Question]:
        found: list[_Question] = []
        async for one in self._records.newest(LOOKED_AT):
            if not isinstance(one, Decision) or one.kind != "recommendations":
                continue
            try:
                request = _as_asked(msgspec.convert(one.query, RecommendationRequest), one, traffic)
            except msgspec.ValidationError:  # of another version
                continue
            if not experiment.placements or request.placement in experiment.placements:
                found.append(_Question(request, one.user_state, one.seed, one.now_s))
            if len(found) == LISTS:
                break
        return found

    def _alike(
        self, traffic: Traffic, experiment: Experiment, worlds: Mapping[str, World], questions: Sequence[_Question]
    ) -> tuple[Variant, Variant] | None:
        """Two variants whose lists are all the same; one list that differs is enough, and mostly the first batch has
        it."""
        alike = list(combinations(experiment.variants, 2))
        for start in range(0, len(questions), BATCH):
            some = questions[start : start + BATCH]
            made: dict[Arm, list[list[str] | None]] = {}
            for arm in {arm for pair in alike for arm in _surely(self._settings, *pair)}:
                made[arm] = self._lists(worlds[arm.bundle or traffic.champion], arm, some)
            alike = [pair for pair in alike if _is_alike(*(made[arm] for arm in _surely(self._settings, *pair)))]
            if not alike:
                return None
        return alike[0] if alike else None

    def _lists(self, world: World, arm: Arm, questions: Sequence[_Question]) -> list[list[str] | None]:
        """The lists of an arm; None of what it cannot be asked: everybody gets the champion's there."""
        queries = [self._query(world, arm, one) for one in questions]
        rows = [row for row, query in enumerate(queries) if query is not None]
        made: list[list[str] | None] = [None] * len(questions)
        if not rows:
            return made
        asked = world if arm.candidates is None else world.with_candidates(arm.candidates)
        states, _ = unpack([questions[row].user_state for row in rows], SCHEMA_HASH)
        slates = recommend(asked, batch_of([query for query in queries if query is not None], states))
        names = [world.bundle.vocabulary.item_id[row] for row in slates.item]
        for row, begin, end in zip(rows, slates.indptr[:-1], slates.indptr[1:], strict=True):
            made[row] = names[begin:end]
        return made

    def _query(self, world: World, arm: Arm, of: _Question) -> Query | None:
        try:
            return resolve_request(world.bundle, of.request, arm, self._settings, seed=of.seed, now_s=of.now_s)
        except Unprocessable:  # a category that it does not know
            return None


async def rehearse(settings: Settings, url: str, traffic: Traffic, experiment: Experiment) -> None:
    """`Rehearsal.demand_difference`, for a command, of what this home and its store have."""
    store = RoundTrips(url, timeout_ms=COMMAND_MS, connections=1)
    records = DecisionRecords(DecisionStream(store), decision_archive(settings))
    try:
        rehearsal = Rehearsal(settings, store, records, partial(load_world, settings))
        await rehearsal.demand_difference(traffic, experiment)
    finally:
        await store.close()


def _as_asked(request: RecommendationRequest, record: Decision, traffic: Traffic) -> RecommendationRequest:
    """A recorded request without the rules of the variants that its user was in."""
    for one in traffic.experiments:
        for variant in one.variants:
            if record.variants.get(one.name) != variant.name:
                continue
            if variant.arm.popularity_damping == request.popularity_damping:
                request = msgspec.structs.replace(request, popularity_damping=0.0)
            if variant.arm.quotas and [*variant.arm.quotas] == [(of.category, of.max) for of in request.quotas]:
                request = msgspec.structs.replace(request, quotas=[])
    return request


def _is_alike(one: Sequence[list[str] | None], other: Sequence[list[str] | None]) -> bool:
    return all(a == b for a, b in zip(one, other, strict=True) if a is not None and b is not None)


def _invented(world: World, experiment: Experiment, count: int) -> list[_Question]:
    """Requests of nobody in particular, about a few items each."""
    now_s = int(time.time())
    rng = np.random.default_rng(count)
    names = world.bundle.vocabulary.item_id
    placement = experiment.placements[0] if experiment.placements else "default"
    found = []
    for number in range(count):
        rows = rng.integers(len(names), size=SESSION)
        session = Session(item_ids=list(dict.fromkeys(names[row] for row in rows)))
        request = RecommendationRequest(user_id=f"riffle:rehearsal-{number}", session=session, placement=placement)
        found.append(_Question(request, None, int(rng.integers(2**63)), now_s))
    return found


def _surely(settings: Settings, one: Variant, other: Variant) -> tuple[Arm, Arm]:
    """Two arms of which the one that explores less does so never, and the other always: an item that is shown once in
    a hundred lists is an effect."""
    own = [settings.explore if of.arm.explore is None else of.arm.explore for of in (one, other)]
    if own[0] == own[1]:
        return one.arm, other.arm
    sure = [float(mine == max(own)) for mine in own]
    return msgspec.structs.replace(one.arm, explore=sure[0]), msgspec.structs.replace(other.arm, explore=sure[1])


def _written(value: object) -> str:
    return "+".join(f"{category}:{most}" for category, most in value) if isinstance(value, tuple) else f"{value}"


def _in_words(one: Arm, other: Arm) -> str:
    given = {name: [getattr(arm, name) for arm in (one, other)] for name in sorted(one.changes() | other.changes())}
    told = [
        f"{name} {' beside '.join('as usual' if value is None else _written(value) for value in values)}"
        for name, values in given.items()
        if values[0] != values[1]
    ]
    return ", ".join(told)
