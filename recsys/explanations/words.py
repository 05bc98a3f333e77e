"""What an explanation comes to in words: each one says something that holds, or says nothing.

Items that the user met are named only where the list without them was made and has the item further down. Words about
demand and reception name counts of the item stats. The groups are those in which contributions are summed up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from recsys.contributions import contributions
from recsys.explanations.explanation import Explanation
from recsys.features import item, user
from recsys.features.matrix import NAMES
from recsys.types import Source, World
from recsys.verbs import Verb

NAMED = 2  # items that the user met, in one sentence
LEAST = 0.1  # share of what speaks for an item, below which a group is not worth words
FIRST = 10  # of a category, or of all items, by demand: what is worth words
_DID = {
    Verb.VIEW: "viewed",
    Verb.CLICK: "clicked",
    Verb.LIKE: "liked",
    Verb.PURCHASE: "bought",
    Verb.RATING: "rated",
    Verb.HIDE: "hid",
}
_OF_CROSS = {
    "cross_transitions": "last_interactions",
    "cross_nearby": "last_interactions",
    "cross_similar": "similar_items",
    "cross_history": "similar_items",
    "cross_factor": "similar_items",
    "cross_als": "taste",
    "cross_spectral": "taste",
    "cross_content": "content",
    "cross_category": "categories",
    "cross_retrieval": "sources",
}


def _group(name: str) -> str:
    if name == "item_positive_rate":
        return "reception"
    if name in {one.name for one in item.FEATURES}:
        return "demand"
    if name in {one.name for one in user.FEATURES}:
        return "user"
    return next(group for prefix, group in _OF_CROSS.items() if name.startswith(prefix))


GROUP: Mapping[str, str] = MappingProxyType({name: _group(name) for name in NAMES})
_GROUPS = tuple(dict.fromkeys(GROUP.values()))
_NUMBER = np.array([_GROUPS.index(GROUP[name]) for name in NAMES])


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item is on a list.

    Attributes:
        code: Stable: `new`, `because_of_items`, or the group that speaks for it.
        text: In English. items: Of those that the user met, their rows.
    """

    code: str
    text: str
    items: tuple[int, ...] = ()


def grouped(value: np.ndarray) -> dict[str, float]:
    """Contributions of features, float64 [F], summed up by group, largest first."""
    sums = zip(_GROUPS, np.bincount(_NUMBER, value).tolist(), strict=True)
    return dict(sorted(sums, key=lambda one: -one[1]))


def falls(explained: Explanation, place: int) -> list[tuple[int, int]]:
    """The items without which the one at a place, from 0, is further down: (row, rank there), the deepest fall first.

    A rank of 0 is beyond what is told apart.
    """
    tried, without = explained.counterfactuals.tried, explained.counterfactuals.without[:, place]
    depth = np.where(without == 0, np.iinfo(np.int32).max, without)
    order = np.argsort(-depth, kind="stable")  # of equal falls the newest item first
    return [(int(tried[at]), int(without[at])) for at in order if depth[at] > place + 1]


def reasons(explained: Explanation, place: int) -> list[Reason]:
    """Why the item at a place of the list, from 0, is on it, the strongest reason first."""
    trace, listed = explained.trace, explained.trace.listed(0)
    row, last = int(listed[place]), place == len(listed) - 1
    if last and trace.slates.propensity[0] > 0:
        return [Reason("new", "new here: drawn by chance, so that it can be met")]
    causes = [one for one, _ in falls(explained, place)[:NAMED]]
    found = [Reason("because_of_items", _because(explained, causes), tuple(causes))] if causes else []
    sums = grouped(explained.contributions.value[place])
    most = sum(one for one in sums.values() if one > 0) * LEAST
    unknown = int(explained.counterfactuals.unknown[place])
    named = bool(causes) or 0 < unknown <= place + 1  # then what was met is not why it is so high
    said: set[str] = set()
    for group, value in sums.items():
        if value > most and (text := _text(explained, group, row, named=named)) and text not in said:
            found.append(Reason(group, text))
            said.add(text)
    return found


def _because(explained: Explanation, causes: Sequence[int]) -> str:
    """ "because you liked A and B"; of an item that was met more than once the last time counts."""
    trace, world = explained.trace, explained.trace.world
    users = trace.retrieved.users_of(world, trace.batch)
    ring, verbs = users.history.item[0], users.states.verb[0]
    said: dict[str, list[str]] = {}
    for one in causes:
        verb = int(verbs[np.argmax(ring == one)])
        said.setdefault(_DID.get(Verb(verb), "") if verb in list(Verb) else "met", []).append(_title(world, one))
    return "because you " + " and ".join(f"{did} {' and '.join(titles)}" for did, titles in said.items())


def _text(explained: Explanation, group: str, row: int, *, named: bool) -> str:
    """What a group that speaks for an item says; "" where that is nothing, or is said by the items' names."""
    world, knows = explained.trace.world, bool(explained.trace.slates.personal[0])
    if group == "demand":
        return _demand(world, row)
    if group == "reception":
        rates, rate = world.item_stats.positive_rate, world.item_stats.positive_rate[row]
        if rate <= np.median(rates[explained.trace.by_score(0)]):  # a ranker may have learnt to like a low one
            return ""
        return f"better received than most: {rate:.0%} of what people did with it was positive"
    if not knows:
        return ""
    if group == "categories":
        shared = _shared_categories(explained, row)
        return f"you often choose {' and '.join(shared)}" if shared else ""
    if group == "content":
        users = explained.trace.retrieved.users_of(world, explained.trace.batch)
        alike = contributions(world, users, 0, row, Source.CONTENT)
        return f"described like {_title(world, alike[0].item)}" if alike else ""
    if group == "taste":
        return "close to your taste as a whole"
    if group in ("last_interactions", "similar_items") and not named:
        return "goes with several of the items that you met"
    if group == "sources":
        bits = int(explained.trace.slates.sources[np.argmax(explained.trace.listed(0) == row)])
        count = bits.bit_count()
        return f"{count} sources found it independently" if count > 1 else ""
    return ""


def _demand(world: World, row: int) -> str:
    """Where an item is among the first of a category, or of all; by demand of the last month or of all time."""
    stats, bundle = world.item_stats, world.bundle
    best = (FIRST + 1, "", "")
    for word, span, count in (("trending", "these weeks", stats.trend), ("popular", "of all time", stats.popularity)):
        groups = [(bundle.category_name[one], bundle.category_item[one]) for one in bundle.item_category[row].tolist()]
        for name, rows in [*groups, ("", np.arange(len(count)))]:
            others = rows[stats.available[rows]]
            at = int((count[others] > count[row]).sum()) + 1
            if count[row] > 0 and at < best[0]:
                best = (at, f"{word}{' in ' * bool(name)}{name}", span)
    return f"{best[1]} (number {best[0]} {best[2]})" if best[1] else ""


def _shared_categories(explained: Explanation, row: int) -> list[str]:
    """Categories of an item that more than half of what the user liked has; at most two, the most frequent first."""
    trace = explained.trace
    history, bundle = trace.retrieved.users_of(trace.world, trace.batch).history, trace.world.bundle
    liked = history.item[0][history.positive[0]]
    if not len(liked):
        return []
    own = [set(bundle.item_category[one].tolist()) for one in liked.tolist()]
    share = {one: sum(one in other for other in own) / len(own) for one in bundle.item_category[row].tolist()}
    often = sorted((one for one, value in share.items() if value > 0.5), key=lambda one: -share[one])
    return [bundle.category_name[one] for one in often[:2]]


def _title(world: World, row: int) -> str:
    return world.bundle.title[row] or world.bundle.vocabulary.item_id[row]
