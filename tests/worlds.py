"""Tiny worlds with known answers: data sets for the real training code, one bundle made by hand, and requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from recsys.bundle import Bundle, Recipe
from recsys.datasets.dataset import Dataset, Events, ImportReport
from recsys.features.user import UserStates, room, update
from recsys.retrieval.faiss_index import FaissIndex
from recsys.retrieval.neighbours import Neighbours
from recsys.retrieval.spectral import Spectral
from recsys.text_column import TextColumn
from recsys.types import Controls, ItemStats, QueryBatch, Ragged, Slates, World
from recsys.verbs import Verb
from recsys.vocabulary import Vocabulary, item_key

START_S = 1_700_000_000
DAY_S = 86_400
SMALL = Recipe(
    factors=16,
    spectral_factors=16,
    als_iterations=5,
    neighbours=20,
    trees=25,
    tree_seeds=1,
    choose_als=False,
    choose_older=False,
    choose_popularity=False,
    choose_ranker=False,
)

CHAIN_ITEMS = 40
TASTE_ITEMS = 20  # per taste
UNTOUCHED = "untouched"

Event = tuple[str, str, Verb, int]  # user, item, verb, UTC epoch seconds


def dataset_of(events: Sequence[Event], categories_of: Mapping[str, Sequence[str]]) -> Dataset:
    """A data set of these events; the catalogue is `categories_of` in its order."""
    events = sorted(events, key=lambda event: event[3])
    users = sorted({user for user, *_ in events})
    items, names = list(categories_of), sorted({name for names in categories_of.values() for name in names})
    numbers = [sorted(names.index(name) for name in categories_of[item]) for item in items]
    user_number, item_number = ({one: i for i, one in enumerate(ids)} for ids in (users, items))
    return Dataset(
        name="tiny",
        title="Tiny: a made-up world",
        synthetic=True,
        attribution="",
        fingerprint="0" * 64,
        user_id=users,
        item_id=items,
        item_title=[f"Title of {item}" for item in items],
        categories=names,
        item_category_indptr=np.array([0, *accumulate(map(len, numbers))], np.int64),
        item_category=np.array([number for one in numbers for number in one], np.int32),
        events=Events(
            user=np.array([user_number[user] for user, *_ in events], np.int32),
            item=np.array([item_number[item] for _, item, *_ in events], np.int32),
            ts_ms=np.array([ts_s * 1000 for *_, ts_s in events], np.int64),
            verb=np.array([verb for _, _, verb, _ in events], np.uint8),
            value=np.full(len(events), np.nan, np.float32),
            position=np.zeros(len(events), np.int32),
        ),
        report=ImportReport(rows_read=len(events)),
    )


def two_tastes(seed: int = 3) -> Dataset:
    """30 users like `left-..` items only and 30 like `right-..` items only; nobody has met `untouched`.

    Everybody meets 12 of their 20 items in an order of their own, a few hours apart: no item leads to another.
    """
    rng = np.random.default_rng(seed)
    events: list[Event] = []
    for user in range(60):
        taste = "left" if user < 30 else "right"
        ts_s = START_S + int(rng.integers(0, 5 * DAY_S))
        for item in rng.permutation(TASTE_ITEMS)[:12]:
            events.append((f"user-{user:02d}", f"{taste}-{item:02d}", Verb.LIKE, ts_s))
            ts_s += int(rng.integers(3_600, 30 * 3_600))
    shelves = {f"{taste}-{item:02d}": [taste] for taste in ("left", "right") for item in range(TASTE_ITEMS)}
    return dataset_of(events, {**shelves, UNTOUCHED: ["left", "right"]})


def chain(seed: int = 4) -> Dataset:
    """After `step-07` everybody takes `step-08`, and so on round the circle; all items are equally popular."""
    rng = np.random.default_rng(seed)
    events: list[Event] = []
    for user in range(120):
        first = int(rng.integers(CHAIN_ITEMS))
        start_s = START_S + user * 3_600
        for step in range(12):
            events.append((f"user-{user:03d}", chain_item(first + step), Verb.CLICK, start_s + 60 * step))
    return dataset_of(events, {chain_item(item): [] for item in range(CHAIN_ITEMS)})


def chain_item(step: int) -> str:
    """The id of a step of the chain."""
    return f"step-{step % CHAIN_ITEMS:02d}"


def tiny_world() -> World:
    """Five items by hand, d = 2, rows 0..4 = `a`..`e`; `e` has no factor, `d` is not available.

    Factors: a (1, 0), b (0, 2), c (3, 4), d (-1, 0). Categories: a comedy, b drama, c comedy and drama, d drama.
    """
    factors = np.array([[1, 0], [0, 2], [3, 4], [-1, 0], [0, 0]], np.float32)
    vocabulary, _ = Vocabulary.from_keys(list("abcde"), np.arange(1, 6, dtype=np.uint64))
    none = np.full((5, 2), -1, np.int32)
    follows, alike = none.copy(), none.copy()
    follows[0], follows[1, 0], alike[0, 0] = [1, 2], 2, 2
    stats = ItemStats(
        version="by-hand",
        available=np.array([True, True, True, False, True]),
        popularity=np.array([5, 3, 2, 1, 0], np.float32),
        trend=np.array([1, 3, 2, 1, 0], np.float32),
        trend_day=np.array([0, 1, 1, 0, 0], np.float32),
        trend_year=np.array([4, 3, 2, 1, 0], np.float32),
        positive_rate=np.array([0.5, 0.6, 0.7, 0.8, 0.9], np.float32),
        order=np.array([1, 2, 0, 4], np.int32),
    )
    bundle = Bundle(
        id="",
        recipe=Recipe(factors=2, spectral_factors=2, als_alpha=1.0),
        vocabulary=vocabulary,
        title=TextColumn.of(["A", "B", "C", "D", "E"]),
        category_name=("comedy", "drama"),
        item_category=Ragged.of([np.array(one) for one in ([0], [1], [0, 1], [1], [])], np.int32),
        category_item=Ragged.of([np.array(one) for one in ([0, 2], [1, 2, 3])], np.int32),
        factors=factors,
        gram=factors.T @ factors + np.eye(2, dtype=np.float32),
        index=FaissIndex.build(factors),
        transitions=Neighbours(follows, np.where(follows >= 0, [[0.5, 0.25]], 0).astype(np.float32)),
        nearby=Neighbours(follows[:, :1].copy(), np.where(follows[:, :1] >= 0, 0.125, 0).astype(np.float32)),
        spectral=Spectral(factors, np.array([1, 2, 4, 1, 1], np.float32)),
        spectral_index=FaissIndex.build(factors),
        similar=Neighbours(alike, np.where(alike >= 0, [[0.75, 0]], 0).astype(np.float32)),
        content=Neighbours(alike, np.where(alike >= 0, [[0.375, 0]], 0).astype(np.float32)),
        item_stats=stats,
    )
    return World(bundle, stats)


@dataclass(frozen=True)
class Ask:
    """One request. `history` is oldest first; of ids the bundle may know nothing."""

    history: Sequence[tuple[str, Verb, int]] = ()
    session: Sequence[str] = ()
    excluded: Sequence[str] = ()
    categories: Sequence[str] = ()
    count: int = 10
    explore: float = 0.0
    now_s: int = START_S + 400 * DAY_S
    diversity: float = 0.0
    popularity_damping: float = 0.0
    quotas: Sequence[tuple[str, int]] = ()  # category, most


def likes(*items: str, end_s: int = START_S + 300 * DAY_S) -> list[tuple[str, Verb, int]]:
    """A history of likes, one minute apart, oldest first."""
    return [(item, Verb.LIKE, end_s - 60 * (len(items) - i)) for i, item in enumerate(items)]


def keys_of(world: World, ids: Sequence[str]) -> np.ndarray:
    """Keys of item ids; an id that the bundle does not know has its usual key."""
    vocabulary = world.bundle.vocabulary
    known = dict(zip(vocabulary.item_id.tolist(), vocabulary.key.tolist(), strict=True))
    return np.array([known.get(one) or item_key(one) for one in ids], np.uint64)


def states_after(world: World, histories: Sequence[Sequence[tuple[str, Verb, int]]]) -> UserStates:
    """The states that these histories leave, each event through the online `update`."""
    longest = max((len(one) for one in histories), default=0)
    states = UserStates.empty(len(histories), seen=room(longest))
    keys = [keys_of(world, [item for item, *_ in one]) for one in histories]
    for step in range(longest):
        rows = np.array([i for i, one in enumerate(histories) if len(one) > step])
        update(
            states,
            rows,
            item_key=np.array([keys[row][step] for row in rows], np.uint64),
            verb=np.array([histories[row][step][1] for row in rows], np.uint8),
            ts_s=np.array([histories[row][step][2] for row in rows], np.uint32),
        )
    return states


def batch_of(world: World, asks: Sequence[Ask]) -> QueryBatch:
    """These requests as one micro-batch."""
    number = world.bundle.category_number
    return QueryBatch(
        states=states_after(world, [ask.history for ask in asks]),
        now_s=np.array([ask.now_s for ask in asks], np.int64),
        seed=np.arange(len(asks), dtype=np.uint64),
        count=np.array([ask.count for ask in asks], np.int32),
        session=Ragged.of([keys_of(world, ask.session) for ask in asks], np.uint64),
        excluded=Ragged.of([keys_of(world, ask.excluded) for ask in asks], np.uint64),
        categories=Ragged.of([np.array([number[n] for n in ask.categories]) for ask in asks], np.int32),
        explore=np.array([ask.explore for ask in asks], np.float32),
        controls=controls_of(world, asks),
    )


def controls_of(world: World, asks: Sequence[Ask]) -> Controls | None:
    """None where no request has any, as the service does."""
    if not any(ask.diversity or ask.popularity_damping or ask.quotas for ask in asks):
        return None
    number = world.bundle.category_number
    return Controls(
        diversity=np.array([ask.diversity for ask in asks], np.float32),
        popularity_damping=np.array([ask.popularity_damping for ask in asks], np.float32),
        quota_category=Ragged.of([np.array([number[name] for name, _ in ask.quotas]) for ask in asks], np.int32),
        quota_most=Ragged.of([np.array([most for _, most in ask.quotas]) for ask in asks], np.int32),
    )


def random_asks(world: World, rng: np.random.Generator, n: int) -> list[Ask]:
    """Requests of every kind: cold, light and heavy users, sessions, filters, exclusions, count 1 to 500."""
    ids, verbs = world.bundle.vocabulary.item_id.tolist(), list(Verb)

    def some(most: int) -> list[str]:
        return [ids[i] for i in rng.integers(0, len(ids), size=rng.integers(0, most + 1))]

    asks = []
    for _ in range(n):
        events = some(int(rng.choice([0, 1, 5, 63, 150])))
        ts_s = np.sort(rng.integers(START_S, START_S + 300 * DAY_S, size=len(events))).tolist()
        verb = [verbs[i] for i in rng.integers(0, len(verbs), size=len(events))]
        asks.append(
            Ask(
                history=list(zip(events, verb, ts_s, strict=True)),
                session=some(int(rng.choice([0, 0, 3, 70]))),
                excluded=some(int(rng.choice([0, 0, 5, 100]))),
                categories=[
                    world.bundle.category_name[i]
                    for i in np.flatnonzero(rng.random(len(world.bundle.category_name)) < rng.choice([0, 0, 0.1]))
                ],
                count=int(rng.choice([1, 2, 10, 20, 100, 500])),
                now_s=START_S + 300 * DAY_S + int(rng.integers(0, 100 * DAY_S)),
            )
        )
    return asks


def controlled_asks(world: World, rng: np.random.Generator, n: int) -> list[Ask]:
    """Requests of every kind, most of them with diversity, damping or quotas; new items may end their lists."""
    names, strengths = world.bundle.category_name, [0.0, 0.0, 0.1, 0.5, 1.0]
    return [
        replace(
            ask,
            explore=float(rng.choice([0, 1])),
            diversity=float(rng.choice(strengths)),
            popularity_damping=float(rng.choice(strengths)),
            quotas=[
                (names[c], int(rng.integers(1, 30)))
                for c in np.flatnonzero(rng.random(len(names)) < rng.choice([0, 0.2, 1]))
            ],
        )
        for ask in random_asks(world, rng, n)
    ]


def names(world: World, slates: Slates, row: int) -> list[str]:
    """The item ids of one list, best first."""
    shown = slates.item[slates.indptr[row] : slates.indptr[row + 1]]
    return [world.bundle.vocabulary.item_id[item] for item in shown]


def with_unavailable(world: World, item: np.ndarray) -> World:
    """The same world after some items (rows) went out of stock."""
    stats = world.item_stats
    available = stats.available.copy()
    available[item] = False
    order = stats.order[available[stats.order]]
    return replace(world, item_stats=replace(stats, version="later", available=available, order=order))
