"""Verdicts beside the full trace: for each pair of a request and an item, everything that a verdict claims."""

from collections import Counter

import numpy as np

from recsys.explanations.verdict_words import sentence
from recsys.explanations.why_not import Verdict, WhyNot, why_not
from recsys.recommend import recommend
from recsys.types import World
from tests.recsys.explanations.oracle import Stages
from tests.worlds import batch_of, controlled_asks

ITEMS = 5  # of each request: two of all, three of those that came further


def pairs(world: World, seed: int, n: int) -> Counter[Verdict]:
    """Compare `n` random pairs; how often there was which verdict.

    Raises:
        AssertionError: a verdict, or something that it claims, is not what the trace says.
    """
    rng, counts = np.random.default_rng(seed), Counter[Verdict]()
    for ask in controlled_asks(world, rng, n // ITEMS):
        stages = Stages.of(world, ask)
        for item in _some(world, stages, rng):
            counts[agreed(stages, item).verdict] += 1
    return counts


def _some(world: World, stages: Stages, rng: np.random.Generator) -> list[int]:
    further = stages.candidates or [0]
    some = rng.integers(0, len(world.bundle.vocabulary), 2).tolist()
    head = stages.by_score[: max(2 * len(stages.listed), 1)] or [0]
    return [*some, int(rng.choice(further)), int(rng.choice(head)), int(rng.choice(head))]


def agreed(stages: Stages, item: int) -> WhyNot:
    """The verdict on one item, once it agrees with the trace."""
    world, ask = stages.world, stages.ask
    found = why_not(world, batch_of(world, [ask]), world.bundle.vocabulary.key[item])
    assert found.verdict is stages.verdict(item)
    assert sentence(found)
    if found.verdict is Verdict.LISTED:
        assert stages.listed[found.rank - 1] == item
    if found.verdict is Verdict.FILTERED:
        _filtered(stages, item, found)
    if found.verdict is Verdict.NOT_RETRIEVED:
        _not_retrieved(found)
    if found.verdict in (Verdict.OUTRANKED, Verdict.DISPLACED):
        assert stages.by_score[found.rank - 1] == item
        assert (found.ranked, found.count) == (len(stages.candidates), min(ask.count, len(stages.candidates)))
        _rules(stages, item, found)
    if found.verdict is Verdict.OUTRANKED:
        last = stages.by_score[found.count - 1]
        assert abs(found.gap - (stages.score[last] - stages.score[item])) < 1e-9
        assert sum(found.costs.values()) >= found.gap - 1e-9 or len(found.costs) == 5
    return found


def _filtered(stages: Stages, item: int, found: WhyNot) -> None:
    """All reasons; and the list made again without them is what it says."""
    world, batch = stages.world, batch_of(stages.world, [stages.ask])
    assert found.reasons == stages.reasons(item)
    lifted = recommend(world.lifting(item, sum(1 << one for one in found.reasons)), batch)
    assert recommend(world, batch).removed.sum() - lifted.removed.sum() == 1
    other = found.otherwise
    assert other
    assert other.verdict is not Verdict.FILTERED
    assert (item in lifted.item) == (other.verdict is Verdict.LISTED)
    if other.verdict is Verdict.LISTED:
        assert lifted.item[other.rank - 1] == item


def _not_retrieved(found: WhyNot) -> None:
    assert (found.fused > 0) == any(one.place[0] for one, _ in found.offered)
    assert found.fused == 0 or found.fused > found.ranked
    for one, whole in found.offered:
        assert one.source is whole.source
        if one.place[0]:
            assert one.place[0] == whole.place[0] <= one.length
        else:
            assert whole.place[0] == 0 or whole.place[0] > one.length


def _rules(stages: Stages, item: int, found: WhyNot) -> None:
    """Each list without a rule is made again from a request that never had it."""
    assert [str(one) for one in found.rules] == stages.displaced_by(item)
    for name, other in found.without.items():
        again = stages.without(name)
        order = again.listed if other.listed else again.by_score
        assert (item in again.listed) == other.listed
        assert (order.index(item) + 1 if item in order else 0) == other.rank
