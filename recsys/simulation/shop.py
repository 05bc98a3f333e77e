"""A shop in one process: simulated users get lists from `recommend`, react, and what they do is the next training set.

Half of what they take they find by themselves: a shop whose every interaction came of its own lists could not tell what
another model would have shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys.datasets.dataset import Dataset, Events
from recsys.features.apply import apply
from recsys.features.item_counts import ItemCounts
from recsys.features.user import UserStates
from recsys.plain_batch import plain_batch
from recsys.recommend import recommend
from recsys.simulation.world import SimulatedWorld
from recsys.types import World
from recsys.verbs import Verb
from recsys.vocabulary import item_keys

HOUR_S = 3_600.0
COUNT = 10  # items of a list
KEEN = 8  # of what people find by themselves: at 8 the list of most attraction has an NDCG@10 of .32 for it
_TAKES, _REACTS = range(2)  # streams of one visit's seed


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Lists of a stretch of time, [l] each.

    Attributes:
        user: int64. arm: int64, whose list it is. clicks, likes: int64. expected: float64, clicks on average of such a
            list: what people want is known here.
        items: int64 [l, COUNT], items of the data set; -1 beyond the end.
    """

    user: np.ndarray
    arm: np.ndarray
    clicks: np.ndarray
    likes: np.ndarray
    expected: np.ndarray
    items: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["Served"]) -> "Served":
        """One after the other."""
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in cls.__annotations__))


class Shop:
    """Users of a simulated world in front of lists.

    Args:
        dataset: What happened before: its items are those of the world, its users others.
        organic: Chance that somebody who is shown a list takes something from elsewhere as well.
    """

    def __init__(self, world: SimulatedWorld, dataset: Dataset, *, organic: float = 0.5) -> None:
        self.world, self._before, self._organic = world, dataset, organic
        users, n = len(world.activity), len(dataset.item_id)
        self._key = item_keys(dataset.item_id)
        self._states = UserStates.empty(users)
        self._met = np.zeros((users, n), bool)
        self._counts = ItemCounts.empty()
        self._counts.apply(
            item_key=self._key[dataset.events.item],
            verb=dataset.events.verb,
            ts_s=(dataset.events.ts_ms // 1000).astype(np.uint32),
        )
        self._names = [f"visitor-{one}" for one in range(users)]
        self._log: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self._event = 0

    def live(self, world: World, at_s: float) -> World:
        """A bundle with what is known of items by now."""
        key = world.bundle.vocabulary.key
        gone = np.sort(self._key[~self.world.catalogue.available(np.array([at_s]))[0]])
        stats = self._counts.stats(key, now_s=int(at_s), version=f"at-{int(at_s)}", unavailable=gone)
        return World(world.bundle, stats, world.candidates)

    def serve(
        self, arms: Sequence[World], arm_of: Callable[[np.ndarray], np.ndarray], *, start_s: float, duration_s: float
    ) -> Served:
        """Lists for all who come in a stretch of time, hour by hour, and what they do with them.

        Args:
            arms: Worlds. arm_of: Which of them each user gets, int64 [b] -> int64 [b].
        """
        parts = []
        for hour_s in np.arange(start_s, start_s + duration_s, HOUR_S):
            visits = self.world.visits(float(hour_s), HOUR_S)
            live = [self.live(one, hour_s) for one in arms]
            for turn in range(int(visits.lists.max(initial=0))):
                rows = np.flatnonzero(visits.lists > turn)
                user, first = np.unique(visits.user[rows], return_index=True)  # who comes twice in an hour comes once
                rows = rows[first]
                at_s = np.floor(visits.start_s[rows] + 30.0 * turn)
                parts.append(self._turn(live, arm_of(user), user, at_s, visits.seed[rows] + np.uint64(turn)))
        return Served.joined(parts)

    def asked(self, world: World, user: np.ndarray, at_s: float) -> np.ndarray:
        """Clicks to expect of the lists that users would get now, float64 [b]; nothing is shown and nothing happens."""
        at = np.full(len(user), at_s)
        items = self._lists(self.live(world, at_s), user, at, np.arange(len(user), dtype=np.uint64))
        return self._expected(user, at, items)

    def taken(self, user: Sequence[str], item: np.ndarray, at_s: np.ndarray) -> None:
        """Clicks of somebody else, such as a bot: they count for items, and are in the log."""
        number = {name: place for place, name in enumerate(self._names)}
        for name in user:
            if name not in number:
                number[name] = len(self._names)
                self._names.append(name)
        order = np.argsort(at_s, kind="stable")
        rows = np.array([number[name] for name in user], np.int64)[order]
        self._keep(rows, item[order], at_s[order], np.full(len(rows), Verb.CLICK, np.uint8), organic=True)

    def dataset(self, *, organic: bool = False) -> Dataset:
        """All that has happened; organic: without what came of lists."""
        before, first = self._before, len(self._before.user_id)
        if not self._log:
            return replace(before, user_id=[*before.user_id, *self._names])
        kept = [one[:4] if not organic else tuple(part[one[4]] for part in one[:4]) for one in self._log]
        user, item, at_s, verb = (np.concatenate([one[place] for one in kept]) for place in range(4))
        added = Events(
            user=(first + user).astype(np.int32),
            item=item.astype(np.int32),
            ts_ms=(1000 * at_s).astype(np.int64),
            verb=verb,
            value=np.full(len(user), np.nan, np.float32),
            position=np.zeros(len(user), np.int32),
        )
        columns = {
            name: np.concatenate([getattr(before.events, name), getattr(added, name)])
            for name in Events.__annotations__
        }
        order = np.argsort(columns["ts_ms"], kind="stable")
        events = Events(**{name: column[order] for name, column in columns.items()})
        return replace(before, user_id=[*before.user_id, *self._names], events=events, place=None)

    def _turn(self, live: list[World], arm: np.ndarray, user: np.ndarray, at_s: np.ndarray, seed: np.ndarray) -> Served:
        items = np.full((len(user), COUNT), -1, np.int64)
        for number, world in enumerate(live):
            own = np.flatnonzero(arm == number)
            if len(own):
                items[own] = self._lists(world, user[own], at_s[own], seed[own])
        attraction = self.world.attraction(user, at_s, met=self._met[user])
        shown = np.where(items >= 0, np.take_along_axis(attraction, np.maximum(items, 0), axis=1), 0.0)
        click, like = np.zeros(items.shape, bool), np.zeros(items.shape, bool)
        for visit, one in enumerate(seed.tolist()):
            done = self.world.behaviour.react(np.random.default_rng([one, _REACTS]), shown[visit])
            click[visit], like[visit] = done.click, done.like
        row, place = np.nonzero(click)
        verb = np.where(like[row, place], Verb.LIKE, Verb.CLICK).astype(np.uint8)
        self._keep(user[row], items[row, place], at_s[row] + 1 + place, verb, organic=False)
        self._take(user, at_s + 20, seed)
        expected = self.world.behaviour.expected_clicks(shown)
        return Served(user, arm, click.sum(axis=1), like.sum(axis=1), expected, items)

    def _take(self, user: np.ndarray, at_s: np.ndarray, seed: np.ndarray) -> None:
        """What people find by themselves: an item drawn by how much it attracts them."""
        attraction = self.world.attraction(user, at_s, met=self._met[user])
        takes = []
        for row, one in enumerate(seed.tolist()):
            rng = np.random.default_rng([one, _TAKES])
            if rng.random() < self._organic and attraction[row].any():
                chance = attraction[row] ** KEEN
                takes.append((row, rng.choice(len(chance), p=chance / chance.sum())))
        if takes:
            row, item = np.array(takes, np.int64).T
            self._keep(user[row], item, at_s[row], np.full(len(row), Verb.LIKE, np.uint8), organic=True)

    def _lists(self, world: World, user: np.ndarray, at_s: np.ndarray, seed: np.ndarray) -> np.ndarray:
        b = len(user)
        batch = plain_batch(self._states.take(user), now_s=at_s, seed=seed, count=COUNT)
        slates = recommend(world, batch)
        items = np.full((b, COUNT), -1, np.int64)
        of = np.repeat(np.arange(b), np.diff(slates.indptr))
        number = np.argsort(world.bundle.vocabulary.rows(self._key))
        items[of, np.arange(len(of)) - slates.indptr[of]] = number[slates.item]
        return items

    def _expected(self, user: np.ndarray, at_s: np.ndarray, items: np.ndarray) -> np.ndarray:
        attraction = self.world.attraction(user, at_s, met=self._met[user])
        shown = np.where(items >= 0, np.take_along_axis(attraction, np.maximum(items, 0), axis=1), 0.0)
        return self.world.behaviour.expected_clicks(shown)

    def _keep(self, user: np.ndarray, item: np.ndarray, at_s: np.ndarray, verb: np.ndarray, *, organic: bool) -> None:
        if not len(user):
            return
        order = np.argsort(at_s, kind="stable")
        user, item, at_s, verb = user[order], item[order], at_s[order], verb[order]
        ts_s = at_s.astype(np.uint32)
        self._counts.apply(item_key=self._key[item], verb=verb, ts_s=ts_s)
        own = user < len(self._met)
        self._met[user[own], item[own]] = True
        number = self._event + 1 + np.arange(len(user))
        self._event += len(user)
        apply(
            self._states,
            user[own],
            item_key=self._key[item[own]],
            verb=verb[own],
            ts_s=ts_s[own],
            event_id=np.stack([number, np.zeros(len(user), np.int64)], axis=1).astype(np.uint64)[own],
        )
        self._log.append((user, item, at_s.astype(np.int64), verb, np.full(len(user), organic)))
