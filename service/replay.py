"""Recorded answers made again: each from its record and its bundle alone, compared bit for bit, stage by stage."""

import struct
from collections.abc import Callable
from itertools import zip_longest
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from recsys import digests
from recsys.bundle import Bundle
from recsys.digests import Stage
from recsys.errors import RecsysError
from recsys.experiments.interleaving import interleave
from recsys.features.codec import unpack
from recsys.features.matrix import NAMES, SCHEMA_HASH
from recsys.filtering import Reason
from recsys.recommend import recommend
from recsys.types import QueryBatch, Slates, World
from service.decisions import Decision, Erased, Interleaved
from service.errors import ServiceError
from service.queries import Query, batch_of, resolve
from service.record_schemas import Made, Outcome, Place, Replay
from service.schemas import RecommendationRequest

ERASED = "its user was forgotten, and the record with them"
DRAFTED = "it was drafted from the lists of two variants, whose scores are not of one model"
UNDECODABLE = "undecodable_state"  # cause in `degraded` of an answer whose state was treated as missing

_WHAT = {
    Stage.STATE: "the user state, or what the session makes of it, is another one",
    Stage.ITEM_STATS: "the item stats of this version hold other values",
    Stage.FILTER: "other items are ruled out",
    Stage.RETRIEVAL: "the user vector, the candidates or their scores are others",
    Stage.FEATURES: "the candidates are the same, these features are not",
    Stage.RANKING: "the features are the same, the scores are not",
    Stage.SELECTION: "the scores are the same, the list is not",
}
_NO_DIGESTS = "the record has no digests of this version, so no stage can be named"


class Again(NamedTuple):
    """What `recommend` is called with to make an answer again."""

    record: Decision
    world: World
    batch: QueryBatch

    def verdict(self) -> Replay:
        """What comes of it."""
        return _compared(self.record, self.world, recommend(self.world, self.batch))


def replay(record: Decision | Erased, world_of: Callable[[Decision], World]) -> Replay:
    """Make one answer again. Arguments as of `again`."""
    if isinstance(record, Decision) and record.interleaved and record.interleaved.lists:
        return _drafted_again(record, record.interleaved, world_of)
    found = again(record, world_of)
    return found.verdict() if isinstance(found, Again) else found


def again(record: Decision | Erased, world_of: Callable[[Decision], World]) -> Again | Replay:
    """What an answer was made from, or why it cannot be made again.

    Args:
        world_of: The world that a record was made in; raises RecsysError where it cannot be had.
    """
    if isinstance(record, Erased):
        return Replay(recommendation_id=record.id, outcome=Outcome.ERASED, detail=ERASED)
    if record.interleaved and record.interleaved.lists:
        return _refused(record, DRAFTED)
    if reason := _not_replayable(record):
        return _refused(record, reason)
    try:
        world = world_of(record)
        query = query_of(record, world.bundle)
    except (RecsysError, ServiceError, msgspec.ValidationError) as error:
        return _refused(record, str(error))
    if record.item_stats != world.item_stats.version:
        return _refused(
            record,
            f"item stats {record.item_stats!r} are gone: they end with another import, and `withdrawn_kept_s` after a "
            f"user was forgotten; there are {world.item_stats.version!r}",
        )
    states, undecodable = unpack([record.user_state], SCHEMA_HASH)
    was_undecodable = any(one["cause"] == UNDECODABLE for one in record.degraded)
    if bool(undecodable) != was_undecodable:
        now = f"does not decode: {undecodable[0]}" if undecodable else "decodes now and did not when it was served"
        return _different(record, Stage.STATE, f"the user state {now}")
    return Again(record, world, batch_of([query], states))


def _drafted_again(record: Decision, of: Interleaved, world_of: Callable[[Decision], World]) -> Replay:
    """Both lists made again, each in its world; then the draft of what was served of them."""
    for side, one in zip(of.variants, record.alone(), strict=True):
        if (again := replay(one, world_of)).outcome is not Outcome.IDENTICAL:
            return msgspec.structs.replace(again, detail=f"the list of {side}: {again.detail}")
    one, other = of.lists
    draft = interleave(one.items, other.items, count=record.query["count"], seed=record.seed)
    if (draft.items, draft.team) == (record.items, of.team):
        return Replay(recommendation_id=record.id, outcome=Outcome.IDENTICAL)
    return _different(record, Stage.SELECTION, "both lists are the same, what was drafted of them is not")


def query_of(record: Decision, bundle: Bundle) -> Query:
    """The recorded request, resolved anew. Raises ValidationError, Unprocessable."""
    request = msgspec.convert(record.query, RecommendationRequest)
    return resolve(
        bundle,
        count=request.count,
        session_ids=request.session.item_ids if request.session else [],
        excluded_ids=request.exclude_item_ids,
        filter_=request.filter,
        explore=record.explore,
        diversity=record.diversity,
        quality=record.quality,
        popularity_damping=request.popularity_damping,
        quotas=request.quotas,
        seed=record.seed,
        now_s=record.now_s,
    )


def places(record: Decision) -> list[Place]:
    """The list as it was served."""
    served = zip(record.items, record.scores, strict=True)
    found = [Place(rank=rank, item_id=item, score=score) for rank, (item, score) in enumerate(served, 1)]
    if (of := record.interleaved) is None or not of.team:
        return found
    return [
        msgspec.structs.replace(place, variant=of.variants[team] if team >= 0 else UNSET, propensity=propensity)
        for place, team, propensity in zip(found, of.team, of.propensities, strict=True)
    ]


def removed_by(counts: list[int]) -> dict[str, int]:
    """Items ruled out by the name of the reason; none of a record that does not say."""
    return {reason.name.lower(): count for reason, count in zip(Reason, counts, strict=False)}


def _not_replayable(record: Decision) -> str:
    if record.kind != "recommendations":
        return f"answers of kind {record.kind!r} are not made by recommend() alone"
    if stages := [one["stage"] for one in record.degraded if one["stage"] not in ("features", "interleaving")]:
        return f"degraded: {', '.join(stages)}"
    return ""


def _refused(record: Decision, reason: str) -> Replay:
    return Replay(recommendation_id=record.id, outcome=Outcome.NOT_REPLAYABLE, detail=reason)


def _different(record: Decision, stage: Stage, detail: str) -> Replay:
    return Replay(recommendation_id=record.id, outcome=Outcome.DIFFERENT, stage=stage, detail=detail)


def _compared(record: Decision, world: World, slates: Slates) -> Replay:
    """The verdict on one answer made again, the only one in `slates`."""
    item_id = world.bundle.vocabulary.item_id
    made = msgspec.structs.replace(
        record,
        items=[item_id[row] for row in slates.item.tolist()],
        scores=slates.score.tolist(),
        removed=slates.removed[0].tolist(),
        ranked=int(slates.ranked[0]),
        digests=digests.packed(slates.digests[0]),
    )
    then, now = _first_difference(places(record), places(made))
    same_list = then is now is None
    stage, features, what = _first_stage(record, made, same_list)
    if stage is None and same_list:
        return Replay(recommendation_id=record.id, outcome=Outcome.IDENTICAL)
    return Replay(
        recommendation_id=record.id,
        outcome=Outcome.DIFFERENT,
        stage=stage or UNSET,
        features=features,
        detail=f"{what}; {_both(then, now)}",
        served=_made(record, then),
        now=_made(made, now),
    )


def _first_difference(then: list[Place], now: list[Place]) -> tuple[Place | None, Place | None]:
    """The first places at which two lists part, None where a list is over; both None where they do not."""
    pairs = zip_longest(then, now)
    return next((pair for pair in pairs if _bits(pair[0]) != _bits(pair[1])), (None, None))


def _bits(place: Place | None) -> tuple[str, bytes] | None:
    """What tells a place from another; a score by its bits, since NaN is not equal to itself, and 0.0 is to -0.0."""
    return None if place is None else (place.item_id, struct.pack("<d", place.score))


def _first_stage(then: Decision, now: Decision, same_list: bool) -> tuple[Stage | None, list[str], str]:
    """The first stage that differs, None if none does or nobody can tell; its features; what differs, in words."""
    kept, made = digests.unpacked(then.digests), digests.unpacked(now.digests)
    if kept is None or made is None or len(kept) != len(made):
        return None, [], _NO_DIGESTS
    stage, features = digests.differing(kept, made, NAMES)
    if stage is None and not same_list:
        stage = Stage.SELECTION
    what = _WHAT[stage] if stage else ""
    return stage, features, f"{what}: {', '.join(features)}" if features else what


def _made(record: Decision, place: Place | None) -> Made:
    return Made(removed=removed_by(record.removed), ranked=record.ranked, place=place or UNSET)


def _both(then: Place | None, now: Place | None) -> str:
    place = then or now
    if place is None:
        return "the list is the same"
    return f"rank {place.rank}: {_named(then)} served, {_named(now)} now"


def _named(place: Place | None) -> str:
    return f"{place.item_id!r} with score {place.score!r}" if place else "nothing"
