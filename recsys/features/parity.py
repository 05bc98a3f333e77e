"""Where a stored user state parts from the events that it should hold, and where two feature matrices part."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from recsys.features.user import UserStates, fingerprint


class Difference(StrEnum):
    """What is wrong with an event in a state, or with the state."""

    MISSING = "missing"
    DOUBLED = "doubled"
    DISPLACED = "displaced"  # it is there, after events that came after it
    OTHER_TIME = "other_time"
    OTHER_VERB = "other_verb"
    OTHER_ITEM = "other_item"
    AHEAD = "ahead"  # it came after the event that the state names as its last
    FOREIGN = "foreign"  # in its turn the state has something that the user never did
    POSITION = "position"  # the event that the state names as its last one is nowhere
    COUNTERS = "counters"  # the state shows the right events and counts them wrongly


class Interaction(NamedTuple):
    """One event as a ring keeps it: item key, UTC epoch seconds, verb."""

    item_key: int
    ts_s: int
    verb: int


@dataclass(frozen=True, slots=True)
class Parting:
    """The first event at which a state and the events part.

    Attributes:
        event: Its place among the user's events; None where no event can be named (POSITION, COUNTERS).
        shown: What the state has in its turn; None where it has nothing, or no more than a fingerprint.
        columns: Of COUNTERS, those that differ.
    """

    difference: Difference
    event: int | None = None
    shown: Interaction | None = None
    columns: tuple[str, ...] = ()


class _Shown(NamedTuple):
    """One event in a state; `detail` is None of those that have left the ring."""

    fingerprint: int
    detail: Interaction | None

    def is_of(self, event: Interaction) -> bool:
        return event == self.detail if self.detail else self.fingerprint == event.item_key >> 32


def parting(stored: UserStates, rebuilt: UserStates, row: int, events: Sequence[Interaction], applied: int) -> Parting:
    """The first event at which two states part that are not the same.

    Events are walked in their order beside what the stored state shows: of those that have left the ring only items
    can be compared. Interactions of one item, verb and second are taken for one another.

    Args:
        stored, rebuilt: Their rows `row` are compared.
        events: All of the user's in the order of the log. applied: How many of them `rebuilt` holds.
    """
    shown = _shown(stored, row)
    begin = _begin(shown, events, applied, int(stored.events[row]))
    place = _agreeing(shown, events[begin:applied])
    if place < max(len(shown), applied - begin):
        return _named(shown, place, events, begin + place, applied)
    columns = tuple(
        name
        for name in ("activity", "activity_s", "events", "positives")
        if getattr(stored, name)[row].tobytes() != getattr(rebuilt, name)[row].tobytes()
    )
    return Parting(Difference.COUNTERS, columns=columns) if columns else Parting(Difference.POSITION)


def _shown(states: UserStates, row: int) -> list[_Shown]:
    """What a state shows of its events, oldest first."""
    newest_first = slice(int(states.length[row]))
    key, ts_s, verb = (column[row, newest_first][::-1] for column in (states.item_key, states.ts_s, states.verb))
    ring = map(Interaction, key.tolist(), ts_s.tolist(), verb.tolist())
    left = [_Shown(one, None) for one in states.seen[row, : states.seen_count[row]].tolist()]
    return left + list(map(_Shown, fingerprint(key).tolist(), ring))


def _begin(shown: Sequence[_Shown], events: Sequence[Interaction], applied: int, ever: int) -> int:
    """The event that the oldest of what is shown should be of.

    A state that has forgotten its first fingerprints is aligned by the events it ever counted, or by its newest one if
    that fits better: then what went wrong has been forgotten.
    """
    if ever <= len(shown):
        return 0
    places = [min(max(total - len(shown), 0), applied) for total in (ever, applied)]
    return max(places, key=lambda begin: _agreeing(shown, events[begin:applied]))


def _agreeing(shown: Sequence[_Shown], events: Sequence[Interaction]) -> int:
    """How many are of each other from the first on."""
    pairs = enumerate(zip(shown, events, strict=False))
    return next((place for place, (one, event) in pairs if not one.is_of(event)), min(len(shown), len(events)))


def _named(shown: Sequence[_Shown], place: int, events: Sequence[Interaction], turn: int, applied: int) -> Parting:
    """What is wrong at the first place that does not agree, where it would be the turn of event number `turn`."""
    if place == len(shown):
        return Parting(Difference.MISSING, turn)
    one = shown[place]
    earlier = next((event for event in reversed(range(turn)) if one.is_of(events[event])), None)
    if turn == applied:
        later = next((event for event in range(turn, len(events)) if one.is_of(events[event])), None)
        if later is not None:
            return Parting(Difference.AHEAD, later, one.detail)
        what = Difference.FOREIGN if earlier is None else Difference.DOUBLED
        return Parting(what, earlier, one.detail)
    event = events[turn]
    surplus = len(shown) - (applied - (turn - place))
    is_later = any(one.is_of(other) for other in events[turn + 1 :])
    # A fingerprint may be of another event with the same item: where the state has too few, it is.
    comes = any(other.is_of(event) for other in shown[place + 1 :] if other.detail or surplus >= 0)
    if earlier is not None and (not is_later or surplus > 0):
        return Parting(Difference.DOUBLED, earlier, one.detail)
    if is_later:
        return Parting(Difference.DISPLACED if comes else Difference.MISSING, turn, one.detail)
    return Parting(Difference.FOREIGN if comes else _changed(event, one.detail), turn, one.detail)


def _changed(event: Interaction, shown: Interaction | None) -> Difference:
    """How something shown differs from the event whose turn it is."""
    if shown is None or shown.item_key != event.item_key:
        same_but_item = shown is None or shown[1:] == event[1:]
        return Difference.OTHER_ITEM if same_but_item else Difference.FOREIGN
    return Difference.OTHER_TIME if shown.ts_s != event.ts_s else Difference.OTHER_VERB


def first_differing(
    served: np.ndarray, served_item: np.ndarray, now: np.ndarray, now_item: np.ndarray
) -> list[tuple[int, int, int]]:
    """The features whose values differ in their bits for an item that is a candidate of both, and where first.

    Args:
        served: float32 [m, F]. served_item: int32 [m], rows of the bundle, distinct. now, now_item: Likewise, [n].
    Returns:
        (feature, cell of `served`, cell of `now`) in the order of features; the first cell in the order of `served`.
    """
    by_item = np.argsort(now_item)
    place = np.minimum(np.searchsorted(now_item, served_item, sorter=by_item), max(len(now_item) - 1, 0))
    in_both = np.flatnonzero(now_item[by_item][place] == served_item) if len(now_item) else np.zeros(0, np.int64)
    if not len(in_both):
        return []
    cell = by_item[place[in_both]]
    then, again = (np.ascontiguousarray(one).view(np.uint32) for one in (served[in_both], now[cell]))
    differs = then != again
    first = differs.argmax(axis=0)
    return [
        (feature, int(in_both[first[feature]]), int(cell[first[feature]]))
        for feature in np.flatnonzero(differs.any(axis=0)).tolist()
    ]
