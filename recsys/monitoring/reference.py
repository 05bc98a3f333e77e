"""The reference distributions of a bundle: what each thing that is watched was on validation questions.

A file of the bundle. What it was measured with, `measured` and `series`, measures live lists as well.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from recsys.errors import BundleError
from recsys.features.item_counts import ItemCounts
from recsys.features.matrix import NAMES
from recsys.monitoring.bins import Bins
from recsys.monitoring.measured import BATCH, COUNT, Measured, measure
from recsys.monitoring.segments import ALL
from recsys.monitoring.series import SCORE, Key, Series, bins_of, of_events, of_lists, rising_of, shelf_of
from recsys.training.log import Log
from recsys.training.questions import Questions
from recsys.training.splits import HELD_OUT
from recsys.types import World

FILE = "reference.json"
LAYOUT = 1
HOUR_S, DAY_S = 3_600, 86_400
QUESTIONS = 3_000  # measured at most, one a user and hour; they cost half a millisecond each
LEAST = 200  # of them that open an hour
SPANS = (10, 30, 100, 300, 1_000)  # lists whose distinct items are counted


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing's distribution.

    Attributes:
        mean: Of each component. error: Standard error of each, users being clusters: Liang & Zeger, "Longitudinal data
            analysis using generalized linear models", Biometrika 73(1), 1986.
        rows, users: How many there were.
    """

    kind: str
    subject: str
    segment: str
    components: tuple[str, ...]
    mean: tuple[float, ...]
    error: tuple[float, ...]
    rows: int
    users: int

    @property
    def key(self) -> Key:
        """Its name."""
        return Key(self.kind, self.subject, self.segment)


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them.

    Attributes:
        bins: Of each feature and of the score. diversity: The one term of the lists that is a setting.
        distinct: Different items in the first ten places of so many lists, on average.
        examination: Of each position, the first is 1; empty where no impression of the log's time was followed.
    """

    layout: int
    questions: int
    diversity: float
    bins: dict[str, Bins]
    shapes: tuple[Shape, ...]
    distinct: dict[int, float]
    examination: tuple[float, ...] = ()

    def save(self, directory: Path) -> None:
        """Write it as a file of a bundle."""
        (directory / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=0) + b"\n")

    @classmethod
    def load(cls, directory: Path) -> "Reference":
        """That of a bundle, whose files have been verified.

        Raises:
            BundleError: it has none, or one of another version.
        """
        path = directory / FILE
        again = "what is served under this bundle cannot be compared with its training; `riffle train` makes one"
        try:
            raw = path.read_bytes()
        except FileNotFoundError as error:
            raise BundleError(f"{directory.name} has no reference distributions (an older bundle): {again}") from error
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error}") from error
        try:
            layout = msgspec.json.decode(raw, type=_Layout).layout
            if layout != LAYOUT:
                raise BundleError(f"{path} has layout {layout}, this version reads {LAYOUT}: {again}")
            found = msgspec.json.decode(raw, type=cls)
        except msgspec.DecodeError as error:
            raise BundleError(f"{path} holds no reference distributions: {error}; {again}") from error
        known = {one.subject for one in found.shapes if one.kind == "feature" and one.segment == ALL}
        if missing := {*NAMES, SCORE} - {*found.bins} | {*NAMES} - known:
            raise BundleError(f"{path} knows nothing of {', '.join(sorted(missing))}: {again}")
        for one in found.shapes:
            if not _is_sound(one):
                raise BundleError(
                    f"{path} says of {one.kind} {one.subject} ({one.segment}) what no shares are: {again}"
                )
        return found


def _is_sound(shape: Shape) -> bool:
    """Whether its means are shares, and its errors errors."""
    mean, error = np.array(shape.mean), np.array(shape.error)
    fits = len(mean) == len(error) == len(shape.components) and min(shape.rows, shape.users) >= 0
    return fits and bool(np.all((mean >= 0) & (mean <= 1)) and np.all(error >= 0))


class _Layout(msgspec.Struct, frozen=True):
    layout: int


def reference_of(
    world: World,
    questions: Questions,
    history: Log,
    *,
    diversity: float,
    seed: int,
    examination: Iterable[float] = (),
    held_out: float = HELD_OUT,
) -> Reference:
    """Measure a bundle on questions of the part of the log that evaluates it; the same for the same seed.

    Of each user only the first question of an hour counts, and where there are LEAST of them, only those that open it:
    within a visit the newest interaction is seconds old, and people ask for the first list of a visit before.

    Args:
        history: The log in which the questions' places are; live events are compared with its newest ones.
        held_out: Share of the events that the bundle has not learnt from.
    """
    asked = openings(history, int(questions.now_s.min()))
    if len(asked) < LEAST:
        asked = questions.take(first_of_hour(questions.user, questions.now_s))
    asked = asked.limited(QUESTIONS, seed=seed)
    known = asked.known(history)
    parts = [
        measure(world, asked.batch(known, np.arange(start, min(start + BATCH, len(asked))), count=COUNT, seed=seed),
                diversity=diversity)
        for start in range(0, len(asked), BATCH)
    ]  # fmt: skip
    measured = Measured.concatenate(parts)
    bins = bins_of(measured)
    shapes = [shape_of(one, asked.user) for one in of_lists(world.bundle, bins, measured)]
    shapes += _shapes_of_events(world, history, min(int(asked.now_s.min()), history.moment(1 - held_out)))
    return Reference(
        LAYOUT, len(asked), diversity, bins, tuple(shapes), _distinct(measured.lists), tuple(map(float, examination))
    )


def openings(log: Log, since_s: int) -> Questions:
    """First-time positives from a moment on, whose user did nothing else in their hour before them."""
    hour = log.ts_s.astype(np.int64) // HOUR_S
    order = np.argsort(log.user, kind="stable")
    before = np.full(len(log), -1, np.int64)
    same = log.user[order[1:]] == log.user[order[:-1]]
    before[order[1:][same]] = hour[order[:-1][same]]
    return Questions.next_positives(
        log, np.flatnonzero(log.positive & log.first_time() & (log.ts_s >= since_s) & (before < hour))
    )


def first_of_hour(user: np.ndarray, now_s: np.ndarray) -> np.ndarray:
    """The rows that are the first of their user and hour, ascending; rows are in the order of time."""
    return np.sort(
        np.unique(np.stack([user.astype(np.int64), now_s.astype(np.int64) // HOUR_S]), axis=1, return_index=True)[1]
    )


def shape_of(series: Series, user: np.ndarray) -> Shape:
    """The mean of a series and its error; user: int [b], whose each row is. Rows that say nothing are left out."""
    said = ~np.isnan(series.values).any(axis=1)
    values, of = series.values[said], user[series.row[said]]
    rows, k = values.shape
    if not rows:
        return Shape(*series.key, series.components, (0.0,) * k, (1.0,) * k, 0, 0)
    mean = values.mean(axis=0)
    _, number = np.unique(of, return_inverse=True)
    users = int(number.max()) + 1
    residual = np.zeros((users, k))
    np.add.at(residual, number, values - mean)
    error = np.sqrt((residual * residual).sum(axis=0)) / rows * np.sqrt(users / max(users - 1, 1))
    means, errors = (tuple(round(float(one), 9) for one in column) for column in (mean, error))
    return Shape(*series.key, series.components, means, errors, rows, users)


def _shapes_of_events(world: World, history: Log, since_s: int) -> Iterator[Shape]:
    late = history.take(np.flatnonzero(history.ts_s >= since_s))
    row, shelf = world.bundle.vocabulary.rows(late.key), shelf_of(world.bundle)
    hour = late.ts_s.astype(np.int64) // HOUR_S
    bounds = np.flatnonzero(np.diff(hour, prepend=-1))
    hours: dict[Key, list[Series]] = defaultdict(list)
    past, day, rising = _Past(world, history), -1, np.zeros(0, bool)
    for start, end in zip(bounds, [*bounds[1:], len(late)], strict=True):
        own = slice(start, end)
        if (now := int(late.ts_s[start]) // DAY_S) != day:
            day, rising = now, past.rising(now * DAY_S)
        for one in of_events(late.user[own], row[own], late.verb[own], shelf, rising):
            hours[one.key].append(one)
    for key, all_of in hours.items():
        values, users = (np.concatenate([getattr(one, name) for one in all_of]) for name in ("values", "row"))
        yield shape_of(Series(key, all_of[0].components, values, np.arange(len(users))), users)


class _Past:
    """Item counters of a log, brought forward."""

    def __init__(self, world: World, log: Log) -> None:
        self._world, self._log, self._counts, self._done = world, log, ItemCounts.empty(), 0

    def rising(self, until_s: int) -> np.ndarray:
        """What rises by the events before a moment, which is later than that of the last call."""
        until = int(np.searchsorted(self._log.ts_s, until_s))
        some = self._log.take(slice(self._done, until))
        self._counts.apply(item_key=some.key, verb=some.verb, ts_s=some.ts_s)
        self._done = until
        key, nothing = self._world.bundle.vocabulary.key, np.zeros(0, np.uint64)
        stats = self._counts.stats(key, now_s=until_s, version="", unavailable=nothing)
        return rising_of(self._world.bundle, stats)


def _distinct(lists: np.ndarray) -> dict[int, float]:
    """Expected different items in n lists drawn from these (rarefaction: Hurlbert, Ecology 52(4), 1971)."""
    _, times = np.unique(lists[lists >= 0], return_counts=True)
    share = times / max(len(lists), 1)
    return {n: round(float((1 - (1 - np.minimum(share, 1)) ** n).sum()), 3) for n in SPANS}
