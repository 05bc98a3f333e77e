"""What a list would be otherwise: without an item that the user met, without anything known, without a rule.

Every rank here comes from the stages of `recommend`, run on the changed request; nothing is estimated.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from recsys.explanations.removal import without_history, without_items
from recsys.explanations.rules import Rule, in_force, without_rules
from recsys.explanations.trace import Trace
from recsys.types import QueryBatch

TRIED = 16  # newest different items of the user; each costs about .7 ms of CPU
ROWS = 4  # requests of one step: about 3 ms in which nobody else has a turn
DEPTH = 50  # ranks that are told apart; 100 take four times as long where lists are diversified, 200 twelve times


@dataclass(frozen=True, slots=True, eq=False)
class Counterfactuals:
    """Of a list of `t` items.

    Attributes:
        tried: int32 [k], items that the user met, newest first.
        without: int32 [k, t], the rank of each item of the list without each of them; 0: beyond DEPTH and the list's
            end, or no candidate any more.
        unknown: int32 [t], the rank of each where nothing is known of the user; 0 likewise.
        rules: The list without each rule that was in force, int32 items, best first.
    """

    tried: np.ndarray
    without: np.ndarray
    unknown: np.ndarray
    rules: dict[Rule, np.ndarray]


def counterfactuals(trace: Trace) -> Generator[None, None, Counterfactuals]:
    """Of a request, alone in its batch; yields after each step."""
    world, batch, listed = trace.world, trace.batch, trace.listed(0)
    users = trace.retrieved.users_of(world, batch)
    tried = met(users.history.item[0])[:TRIED]
    without = np.zeros((len(tried), len(listed)), np.int32)
    for start in range(0, len(tried), ROWS):
        some = slice(start, start + ROWS)
        fewer = without_items(batch, world.bundle.vocabulary.key[tried[some]])
        without[some] = Trace.of(world, fewer).ranks(listed, DEPTH)
        yield
    unknown = Trace.of(world, without_history(batch, users.states)).ranks(listed, DEPTH)[0]
    yield
    rules = {}
    for rule in in_force(batch, trace.retrieved.explored):
        rules[rule] = _list(trace, without_rules(batch, [rule]))
        yield
    return Counterfactuals(tried, without, unknown, rules)


def met(item: np.ndarray) -> np.ndarray:
    """The different items of a ring, newest first: int32 [h], -1 for none -> int32 [k]."""
    known = item[item >= 0]
    return known[np.sort(np.unique(known, return_index=True)[1])]


def _list(trace: Trace, batch: QueryBatch) -> np.ndarray:
    return Trace.of(trace.world, batch).listed(0)
