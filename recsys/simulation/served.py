"""A service in simulated time, in one process: visits, lists by `recommend`, what is done with them, states and stats.

Users come and go: each place of the population is taken by somebody new after a life of exponential length, so that a
population without drift is the same for ever. Some items are met without a list, by search or by word of mouth.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.features.item_counts import ItemCounts
from recsys.features.user import UserStates, update
from recsys.plain_batch import plain_batch
from recsys.recommend import recommend
from recsys.simulation import DAY_S
from recsys.simulation.faults import Trouble
from recsys.simulation.hours import SHOWN, Lists, ServedHour
from recsys.simulation.world import SimulatedWorld
from recsys.types import ItemStats, QueryBatch, World
from recsys.verbs import Verb
from recsys.vocabulary import item_keys

HOUR_S = 3_600
SEEN = 400  # fingerprints of a state
ROWS = 64  # lists answered together
_VERBS = (("click", Verb.CLICK), ("like", Verb.LIKE), ("purchase", Verb.PURCHASE), ("hide", Verb.HIDE))


@dataclass(eq=False)
class Served:
    """The service and its users.

    Args:
        simulated: The world; its users are places of the population.
        trouble: What goes wrong, and when.
        life_days: Mean life of a user. organic: Items that a visit meets without a list, on average.
    """

    simulated: SimulatedWorld
    seed: int
    trouble: Trouble = field(default_factory=Trouble)
    life_days: float = 12.0
    organic: float = 1.0

    def __post_init__(self) -> None:
        places, n = len(self.simulated.activity), len(self.simulated.catalogue)
        self._rng = np.random.default_rng([self.seed, 11])
        self.states = UserStates.empty(places, seen=SEEN)
        self.met = np.zeros((places, n), bool)
        self.person = np.arange(places)  # who has each place
        self.people = places
        self.counts = ItemCounts.empty()
        self.world: World | None = None
        self._challenger: World | None = None
        self._chosen: Callable[[np.ndarray], np.ndarray] = _nobody
        self._brought: list[tuple[np.ndarray, ...]] = []
        self._stats_s = 0

    def install(self, world: World) -> None:
        """From now on this answers everybody, with item stats of its own time."""
        self.world, self._challenger, self._chosen = world, None, _nobody
        self.row_of = world.bundle.vocabulary.rows(self._keys())
        self._item_of = np.argsort(self.row_of)

    def canary(self, world: World, chosen: Callable[[np.ndarray], np.ndarray]) -> None:
        """Another bundle over the same items answers some people, int64 [b] -> bool [b], until one is installed."""
        self._challenger, self._chosen = world, chosen

    def bring(self, user: np.ndarray, item: np.ndarray, ts_s: np.ndarray) -> None:
        """Clicks of somebody who is none of the users, such as a bot: int64 [e] each, `user` below 0.

        They happen when their time comes, count for items, and came of no list.
        """
        self._brought.append(
            (user, item, np.full(len(user), Verb.CLICK, np.uint8), ts_s, np.zeros(len(user), np.int64))
        )

    def expected(self, world: World, place: np.ndarray, at_s: int) -> np.ndarray:
        """Clicks to expect of the lists of a bundle for those in some places now, float64 [b]; nothing happens."""
        seed = np.arange(len(place), dtype=np.uint64)
        at = np.full(len(place), at_s)
        asked = plain_batch(self.states.take(place), now_s=at, seed=seed, count=SHOWN)
        items = self._items(World(world.bundle, self._stats_at(at_s), world.candidates), asked)
        return self.simulated.behaviour.expected_clicks(_of(self._truth(place, at), items))

    def copy(self) -> "Served":
        """The same service, which goes its own way from now on."""
        other = copy.copy(self)
        other.states = UserStates.concatenate([self.states])
        other.met, other.person = self.met.copy(), self.person.copy()
        other.counts, other._rng, other._brought = copy.deepcopy((self.counts, self._rng, self._brought))
        return other

    def reseed(self, run: int) -> None:
        """From now on another chance."""
        self._rng = np.random.default_rng([self.seed, 12, run])

    def _keys(self) -> np.ndarray:
        return item_keys(self.simulated.catalogue.item_id)

    def hours(self, start_s: int, count: int) -> Iterator[ServedHour]:
        """One after the other."""
        self._key = self._keys()
        for number in range(count):
            yield self._hour(start_s + number * HOUR_S)

    def _hour(self, start_s: int) -> ServedHour:
        self._renew()
        world, challenger = self._present(start_s)
        visits = self.simulated.visits(start_s, HOUR_S)
        place, extra = visits.user, 0
        if self.trouble.on("new-user wave", start_s):
            extra = self._rng.poisson(self.trouble.wave * len(place))
            place = np.concatenate([place, self._strangers(extra)])
        at_s = np.concatenate([visits.start_s, start_s + HOUR_S * self._rng.random(extra)])
        lists = np.concatenate([visits.lists, self._rng.geometric(1 / self.simulated.habits.mean_lists, extra)])
        events: list[tuple[np.ndarray, ...]] = []
        first, batch, clicked, shown = np.unique(place, return_index=True)[1], None, [], []
        chosen, made = self._chosen(self.person[place]), list[Lists]()
        for step in range(int(lists.max(initial=0))):
            rows = np.flatnonzero(lists > step)
            asked = self._batch(place[rows], at_s[rows] + 20 * step)
            items = self._shown(world, challenger, chosen[rows], asked, place[rows])
            attraction = _of(self._truth(place[rows], asked.now_s), items)
            reactions = self.simulated.behaviour.react(self._rng, attraction)
            if step == 0 and not chosen[first].all():
                first = first[~chosen[first]]
                batch = take(asked, first)
                clicked, shown = reactions.click[first], (items >= 0).sum(axis=1)[first]
            clicks, likes = (of.sum(axis=1) for of in (reactions.click, reactions.like))
            expected = self.simulated.behaviour.expected_clicks(attraction)
            made.append(Lists(self.person[place[rows]], chosen[rows], items, clicks, likes, expected))
            events += self._done(place[rows], items, reactions, asked.now_s)
        events += self._without_lists(place, at_s)
        events += self._come(start_s)
        requests = np.bincount(np.unique(place, return_inverse=True)[1], lists).astype(np.int64)
        if self.trouble.on("bot traffic", start_s):
            requests = np.append(requests, [self.trouble.bot_lists] * self.trouble.bots)
            events += self._robots(start_s)
        user, item, verb, ts_s, position = self._applied(events)
        return ServedHour(
            start_s, world, batch, np.array(clicked, bool).reshape(-1, SHOWN), np.array(shown, np.int64), requests,
            Lists.joined(made) if made else None, user, item, verb, ts_s, position,
            start_s - self._stats_s if world else np.nan,
        )  # fmt: skip

    def _present(self, start_s: int) -> tuple[World | None, World | None]:
        """What answers, with the item stats of this hour."""
        if self.world is None:
            return None, None
        if not self.trouble.on("frozen item stats", start_s):
            self._stats, self._stats_s = self._stats_at(start_s), start_s
        stats = self.trouble.broken(self._stats, start_s)
        both = (one and World(one.bundle, stats, one.candidates) for one in (self.world, self._challenger))
        return next(both), next(both)

    def _stats_at(self, at_s: int) -> ItemStats:
        """What is known of items by now; those are not available that the catalogue does not have."""
        assert self.world is not None
        there = self.simulated.catalogue.available(np.array([at_s]))[0]
        gone = np.sort(self._keys()[~there])
        key = self.world.bundle.vocabulary.key
        return self.counts.stats(key, now_s=at_s, version=f"sim.{at_s}000", unavailable=gone)

    def _renew(self) -> None:
        gone = np.flatnonzero(self._rng.random(len(self.person)) < HOUR_S / (self.life_days * DAY_S))
        self._empty(gone)

    def _strangers(self, count: int) -> np.ndarray:
        """Places beyond the population's, one for each of those who come this once."""
        places = len(self.simulated.activity)
        if len(self.person) < places + count:
            more = places + count - len(self.person)
            self.states = UserStates.concatenate([self.states, UserStates.empty(more, seen=SEEN)])
            self.met = np.concatenate([self.met, np.zeros((more, self.met.shape[1]), bool)])
            self.person = np.concatenate([self.person, np.zeros(more, np.int64)])
        rows = places + np.arange(count)
        self._empty(rows)
        return rows

    def _empty(self, rows: np.ndarray) -> None:
        blank = UserStates.empty(len(rows), seen=SEEN)
        for name in UserStates.__slots__:
            getattr(self.states, name)[rows] = getattr(blank, name)
        self.met[rows] = False
        self.person[rows] = self.people + np.arange(len(rows))
        self.people += len(rows)

    def _batch(self, place: np.ndarray, at_s: np.ndarray) -> QueryBatch:
        seed = self._rng.integers(2**63, size=len(place))
        return plain_batch(self.states.take(place), now_s=at_s, seed=seed, count=SHOWN)

    def _truth(self, place: np.ndarray, at_s: np.ndarray) -> np.ndarray:
        of = place % len(self.simulated.activity)  # strangers have somebody's taste
        return self.simulated.attraction(of, at_s.astype(np.float64), met=self.met[place])

    def _shown(
        self, world: World | None, challenger: World | None, chosen: np.ndarray, asked: QueryBatch, place: np.ndarray
    ) -> np.ndarray:
        if world is None:  # before there is any model: what is liked by some measure, and much chance
            truth = self._truth(place, asked.now_s)
            noise = self._rng.gumbel(size=truth.shape)
            return np.argsort(-(np.log(truth + 1e-9) * 0.7 + noise), axis=1)[:, :SHOWN]
        items = np.full((len(place), SHOWN), -1, np.int64)
        for of, rows in ((world, np.flatnonzero(~chosen)), (challenger, np.flatnonzero(chosen))):
            if of is not None and len(rows):
                items[rows] = self._items(of, take(asked, rows))
        return items

    def _items(self, world: World, asked: QueryBatch) -> np.ndarray:
        """Lists in rows of the catalogue, int64 [b, SHOWN]; -1 beyond the end."""
        b = len(asked.now_s)
        items = np.full((b, SHOWN), -1, np.int64)
        for start in range(0, b, ROWS):
            slates = recommend(world, take(asked, np.arange(start, min(start + ROWS, b))))
            for row in range(len(slates.indptr) - 1):
                own = slates.item[slates.indptr[row] : slates.indptr[row + 1]]
                items[start + row, : len(own)] = self._item_of[own]
        return items

    def _done(self, place: np.ndarray, items: np.ndarray, reactions, now_s: np.ndarray) -> list[tuple[np.ndarray, ...]]:  # type: ignore[no-untyped-def]
        found = []
        for turn, (name, verb) in enumerate(_VERBS):
            row, column = np.nonzero(getattr(reactions, name) & (items >= 0))
            item = items[row, column]
            self.met[place[row], item] = True
            found.append((place[row], item, np.full(len(row), verb, np.uint8), now_s[row] + 1 + turn, column + 1))
        return [one for one in found if len(one[0])] and self._apply(found)

    def _without_lists(self, place: np.ndarray, at_s: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        """Items that are found without the service, by the odds that they attract."""
        times = self._rng.poisson(self.organic, len(place))
        place, at_s = np.repeat(place, times), np.repeat(at_s, times)
        if not len(place):
            return []
        truth = self._truth(place, at_s)
        odds = np.log(truth + 1e-12) - np.log1p(-np.minimum(truth, 1 - 1e-12))
        item = np.argmax(odds + self._rng.gumbel(size=truth.shape), axis=1)
        self.met[place, item] = True
        verb = np.full(len(place), Verb.VIEW, np.uint8)
        return self._apply([(place, item, verb, at_s.astype(np.int64) + 5, np.zeros(len(place), np.int64))])

    def _come(self, start_s: int) -> list[tuple[np.ndarray, ...]]:
        """What was brought for this hour."""
        found = []
        for one in self._brought:
            rows = np.flatnonzero((one[3] >= start_s) & (one[3] < start_s + HOUR_S))
            if len(rows):
                found.append(tuple(column[rows] for column in one))
        return found

    def _robots(self, start_s: int) -> list[tuple[np.ndarray, ...]]:
        count = self.trouble.bots * self.trouble.bot_lists
        robot = -1 - np.repeat(np.arange(self.trouble.bots), self.trouble.bot_lists)
        item = self._rng.integers(len(self.simulated.catalogue), size=count)
        at_s = start_s + np.sort(self._rng.integers(HOUR_S, size=count))
        return [(robot, item, np.full(count, Verb.VIEW, np.uint8), at_s, np.zeros(count, np.int64))]

    def _apply(self, found: Sequence[tuple[np.ndarray, ...]]) -> list[tuple[np.ndarray, ...]]:
        place, item, verb, ts_s, position = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(ts_s, kind="stable")
        place, item, verb, ts_s = place[order], item[order], verb[order], ts_s[order]
        update(self.states, place, item_key=self._key[item], verb=verb, ts_s=ts_s.astype(np.uint32))
        return [(self.person[place], item, verb, ts_s, position[order])]

    def _applied(self, events: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        """All events of an hour in the order of time, counted for their items."""
        if not events:
            return tuple(np.zeros(0, kind) for kind in (np.int64, np.int64, np.uint8, np.int64, np.int64))
        columns = [np.concatenate(column) for column in zip(*events, strict=True)]
        order = np.argsort(columns[3], kind="stable")
        user, item, verb, ts_s, position = (column[order] for column in columns)
        self.counts.apply(item_key=self._key[item], verb=verb, ts_s=ts_s.astype(np.uint32))
        return user, item, verb, ts_s, position


def take(batch: QueryBatch, rows: np.ndarray) -> QueryBatch:
    """Some requests of a batch without session, exclusions and controls."""
    return plain_batch(batch.states.take(rows), now_s=batch.now_s[rows], seed=batch.seed[rows], count=SHOWN)


def _of(truth: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The attraction of what is shown, float64 [b, SHOWN]."""
    return np.where(items >= 0, np.take_along_axis(truth, np.maximum(items, 0), axis=1), 0)


def _nobody(user: np.ndarray) -> np.ndarray:
    return np.zeros(len(user), bool)
