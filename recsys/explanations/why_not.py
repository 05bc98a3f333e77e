"""Why an item is not on a list: the first stage that kept it off, and what would be if it had not.

The verdict is read off what the stages made; each removal it names is the list made again without that one.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from recsys import filtering
from recsys.explanations.explanation import contributions_of
from recsys.explanations.places import Places, fused_place, places
from recsys.explanations.rules import Rule, in_force, without_rules
from recsys.explanations.trace import Trace, ranks_in
from recsys.features.matrix import NAMES
from recsys.filtering import Reason
from recsys.types import QueryBatch, World

COSTS = 5  # features that are named


class Verdict(StrEnum):
    """What became of an item, in the order of the stages."""

    NOT_IN_BUNDLE = "not_in_bundle"
    FILTERED = "filtered"
    NOT_RETRIEVED = "not_retrieved"
    OUTRANKED = "outranked"
    DISPLACED = "displaced"  # its score is enough, a rule of the list is in the way
    LISTED = "listed"


@dataclass(frozen=True, slots=True)
class Otherwise:
    """What the list is without something: whether the item is on it, and its rank; 0 where it is no candidate."""

    listed: bool
    rank: int


@dataclass(frozen=True, slots=True, eq=False)
class WhyNot:
    """The verdict on one item and one request.

    Attributes:
        rank: By the scores alone; of what is listed, in the list. 0 where the item is no candidate.
        ranked: Candidates of the request. count: Places that they could fill.
        reasons: Why it is filtered, in their order. otherwise: The same question without them.
        offered: Of each source the place in its list, and in all that it could offer, as two `Places`.
        fused: Where the lists together put it, of which the first `ranked` are ranked; 0 where none of them has it.
        gap: Score of the last item of the list by score less its own. costs: The features that make most of it.
        rules: Without any one of which it is listed, or all of which are in its way together. without: What each list
            without a rule came to, as it was made.
    """

    verdict: Verdict
    rank: int = 0
    ranked: int = 0
    count: int = 0
    reasons: list[Reason] = field(default_factory=list)
    otherwise: "WhyNot | None" = None
    offered: list[tuple[Places, Places]] = field(default_factory=list)
    fused: int = 0
    gap: float = 0.0
    costs: dict[str, float] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    without: dict[str, Otherwise] = field(default_factory=dict)


def why_not(world: World, batch: QueryBatch, key: int | np.integer) -> WhyNot:
    """Why an item is not on the list of a request, alone in its batch; or that it is.

    Args:
        key: Of the item.
    Cost: 1 to 5 ms; of what is not retrieved it grows with the catalogue, since sources are read to their ends.
    """
    item = world.bundle.vocabulary.rows(np.array([key], np.uint64))
    if item[0] < 0:
        return WhyNot(Verdict.NOT_IN_BUNDLE)
    trace = Trace.of(world, batch)
    ranked = len(trace.retrieved.candidates.item)
    count = min(int(batch.count[0]), ranked)
    found = WhyNot(Verdict.OUTRANKED, ranked=ranked, count=count)
    if rank := _rank(trace.listed(0), item):
        return replace(found, verdict=Verdict.LISTED, rank=rank)
    if reasons := _reasons(trace, int(item[0])):
        lifted = why_not(world.lifting(int(item[0]), _bits(reasons)), batch, key)
        return replace(found, verdict=Verdict.FILTERED, reasons=reasons, otherwise=lifted)
    rank = _rank(trace.by_score(0), item)
    if not rank:
        offered = list(zip(places(trace, item), places(trace, item, whole=True), strict=True))
        return replace(found, verdict=Verdict.NOT_RETRIEVED, offered=offered, fused=fused_place(trace, item))
    without = {str(rule): _otherwise(trace, [rule], item) for rule in in_force(batch, trace.retrieved.explored)}
    rules = [Rule(name) for name, one in without.items() if one.listed]
    if len(without) > 1 and not rules:
        every = [Rule(name) for name in without]
        without["all"] = _otherwise(trace, every, item)
        rules = every if without["all"].listed else []
    if rules:
        return replace(found, verdict=Verdict.DISPLACED, rank=rank, rules=rules, without=without)
    gap, costs = _gap(trace, item, count)
    return replace(found, rank=rank, gap=gap, costs=costs, without=without)


def _reasons(trace: Trace, item: int) -> list[Reason]:
    """All that rule an item out, each on its own: it still is where the others are lifted."""
    if _is_eligible(trace, trace.world, item):
        return []
    every = _bits(Reason)
    return [one for one in Reason if not _is_eligible(trace, trace.world.lifting(item, every & ~_bits([one])), item)]


def _is_eligible(trace: Trace, world: World, item: int) -> bool:
    users = trace.retrieved.users_of(trace.world, trace.batch)
    bits, _ = filtering.eligible(world, trace.batch, users)
    return filtering.is_eligible(bits[0], item)


def _bits(reasons: Iterable[Reason]) -> int:
    return sum(1 << one for one in reasons)


def _otherwise(trace: Trace, rules: Collection[Rule], item: np.ndarray) -> Otherwise:
    other = Trace.of(trace.world, without_rules(trace.batch, rules))
    listed = _rank(other.listed(0), item)
    return Otherwise(bool(listed), listed or _rank(other.by_score(0), item))


def _gap(trace: Trace, item: np.ndarray, count: int) -> tuple[float, dict[str, float]]:
    """Score of the last item that a list by score would have less that of this one, and the features of that."""
    found = contributions_of(trace, item, trace.by_score(0)[:count][-1:])
    largest = np.argsort(found.value[0], kind="stable")[:COSTS]
    costs = {NAMES[at]: -float(found.value[0, at]) for at in largest if found.value[0, at] < 0}
    return -float(found.value.sum()), costs


def _rank(order: np.ndarray, item: np.ndarray) -> int:
    return int(ranks_in(order, item)[0])
