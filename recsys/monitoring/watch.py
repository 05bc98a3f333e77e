"""All that is watched of one bundle, from look to look: evidence, alarms, and nothing counted twice.

ALPHA is the probability that any alarm is ever false, over all series and all looks, while a bundle serves what its
reference says it should and its lists are clicked no less than those of the bundle before: half of it for what is
compared with being a sample, half for the bets. Series share it by fixed weights (Bonferroni), which holds however they
depend on each other.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import numpy as np

from recsys.monitoring.evidence import Evidence, Tolerance
from recsys.monitoring.reference import DAY_S, HOUR_S, Reference, Shape
from recsys.monitoring.segments import ALL, SEGMENTS
from recsys.monitoring.series import Key, Series
from recsys.monitoring.tolerances import LEAST_USERS, tolerance_of

ALPHA = 0.05
PLACEMENTS, OUTCOMES = 0.2, 0.4  # of ALPHA, for series of placements and of outcomes; all others share the rest
BASELINE = 2_000  # rows; where no reference is possible before a bundle serves, its first ones are the reference
FRESH = "freshness"
PLACED = "placement "
MOST_PLACEMENTS = 16
OWN = {("traffic", "lists"): 1, (FRESH, "item_stats"): 1, (FRESH, "user_states"): 1}  # should be 0, and their sizes
TIMELINE = {
    ("quality", "clicks"): "lists clicked",
    ("quality", "ndcg"): "NDCG on clicks",
    ("users", "segments"): "new users",
    ("list", "popularity"): "places with head items",
    ("list", "diversity"): "unlikeness within lists",
    ("traffic", "lists"): "lists beyond a person's",
}
KEPT_DAYS = 90
CLICKS, BEFORE = ("quality", "clicks"), ("quality", "clicks_before")
BEGINNING = {CLICKS, BEFORE, ("quality", "ndcg"), ("quality", "calibration")}


class Watched(msgspec.Struct):
    """One series: where its components begin, and where it has no reference, the sums of its first rows.

    Attributes:
        baseline: Count, sum and sum of squares, [3][K].
        since_s: Of the alarm that is on, the hour at whose end it came on; 0: none is.
        moved, up: Then, the component that is farthest outside, and whether it is above.
    """

    components: list[str]
    start: int
    baseline: list[list[float]] = []
    since_s: int = 0
    moved: str = ""
    up: bool = True

    @property
    def of(self) -> slice:
        """Its components."""
        return slice(self.start, self.start + len(self.components))


class Watch(msgspec.Struct):
    """The state between looks; a small document.

    Attributes:
        until_s: Hours before this one have been looked at, UTC epoch seconds. began_s: The first of them.
        placements: In the order in which they were met.
        series: By "kind|subject|segment", in the order of their components. evidence: Of all of them, packed.
        data: By subject, when data were last found broken: what needs no evidence, and is told for a day.
        before: By segment, what was clicked when the bundle before this one began, as `Watched.baseline`.
        aged: Whether the bundle's data were why idle times are long, by the last look that met any.
        days: Of each day (YYYY-MM-DD) and each of TIMELINE, sum and number of its first component; KEPT_DAYS of them.
    """

    layout: int
    bundle: str
    until_s: int = 0
    began_s: int = 0
    placements: list[str] = []
    series: dict[str, Watched] = {}
    evidence: dict[str, bytes] = {}
    data: dict[str, int] = {}
    before: dict[str, list[list[float]]] = {}
    aged: bool = False
    days: dict[str, dict[str, list[float]]] = {}


LAYOUT_OF_WATCH = 1


def new_watch(bundle: str, before: Watch | None = None) -> Watch:
    """Nothing seen yet. before: Of the bundle that served until this one did; what it took over counts where its own
    beginning was too short.
    """
    if before is None:
        return Watch(LAYOUT_OF_WATCH, bundle)
    known = {_key(name): one.baseline for name, one in before.series.items()}
    began = {key.segment: rows for key, rows in known.items() if key[:2] == CLICKS and _is_beginning(rows)}
    return Watch(LAYOUT_OF_WATCH, bundle, before=before.before | began)


class Watcher:
    """Brings a watch forward, hour by hour, beside one reference.

    Raises:
        ValueError: the watch is damaged.
    """

    def __init__(self, watch: Watch, reference: Reference) -> None:
        self._watch = watch
        self.shapes: dict[Key, Shape] = {shape.key: shape for shape in reference.shapes}
        self._sizes = len(self.shapes) + len(OWN), len(BEGINNING) * (1 + len(SEGMENTS))
        self.series: dict[Key, Watched] = {_key(name): one for name, one in watch.series.items()}
        self.evidence = Evidence.unpacked(watch.evidence) if watch.evidence else Evidence.none(0)
        if sum(len(one.components) for one in self.series.values()) != len(self.evidence.total):
            raise ValueError("evidence of other series")
        self._tolerances: dict[Key, Tolerance | None] = {}

    def copy(self, reference: Reference) -> "Watcher":
        """Another that has seen the same."""
        return Watcher(msgspec.json.decode(msgspec.json.encode(self.watch()), type=Watch), reference)

    def watch(self) -> Watch:
        """The state to go on from."""
        self._watch.series = {"|".join(key): one for key, one in self.series.items()}
        self._watch.evidence = self.evidence.packed()
        return self._watch

    def see(self, hour_s: int, all_of: Iterable[Series]) -> None:
        """Take in what one hour says; an hour that was looked at already says nothing new.

        Args:
            hour_s: Its start, UTC epoch seconds.
        """
        watch = self._watch
        if hour_s < watch.until_s:
            return
        watch.until_s, watch.began_s = hour_s + HOUR_S, watch.began_s or hour_s
        said = [one for one in all_of if len(one.values) and self._is_watched(one.key)]
        clicks = [one for one in said if one.key[:2] == CLICKS and one.key.segment in watch.before]
        said += [one._replace(key=Key(*BEFORE, one.key.segment)) for one in clicks]
        for one in said:
            self._meet(one)
            self._note(one, hour_s)
        values = np.full((max((len(one.values) for one in said), default=0), len(self.evidence.total)), np.nan)
        for one in said:
            values[: len(one.values), self.series[one.key].of] = one.values
        if len(values):
            tolerances = [self.tolerance(key) or _none(len(one.components)) for key, one in self.series.items()]
            whole = Tolerance(
                *(np.concatenate([getattr(t, of) for t in tolerances]) for of in ("low", "high", "usual"))
            )
            self.evidence.see(values, whole, day=hour_s // DAY_S)
            self._judge(hour_s)
        for one in said:  # after the judgement: what is to be compared with is never what is compared
            if one.key[:2] in BEGINNING and self.tolerance(one.key) is None:
                _add(self.series[one.key], one.values)

    def _is_watched(self, key: Key) -> bool:
        """Clients name placements, and each is some series: the first of them are watched by themselves, not all."""
        known = self._watch.placements
        return not key.segment.startswith(PLACED) or key.segment in known or len(known) < MOST_PLACEMENTS

    def _meet(self, series: Series) -> None:
        key = series.key
        if key in self.series:
            return
        if key.segment.startswith(PLACED) and key.segment not in self._watch.placements:
            self._watch.placements.append(key.segment)
        self.series[key] = Watched(list(series.components), len(self.evidence.total))
        if key[:2] == BEFORE:
            self.series[key].baseline = self._watch.before[key.segment]
        self.evidence = self.evidence.widened(len(series.components))

    def _note(self, series: Series, hour_s: int) -> None:
        if series.key.segment != ALL or (name := TIMELINE.get(series.key[:2])) is None:
            return
        day = datetime.fromtimestamp(hour_s, UTC).date().isoformat()
        of_day = self._watch.days.setdefault(day, {}).setdefault(name, [0.0, 0.0])
        first = series.values[:, 0]
        of_day[0] += float(np.nansum(first))
        of_day[1] += float((~np.isnan(first)).sum())
        while len(self._watch.days) > KEPT_DAYS:
            del self._watch.days[min(self._watch.days)]

    def tolerance(self, key: Key) -> Tolerance | None:
        """The means of a series that are no drift; None while there is nothing to compare with."""
        if self._tolerances.get(key) is None and (key not in self._tolerances or key[:2] in BEGINNING):
            alpha = ALPHA / 2 * self.weight(key)
            by = self._beside_its_beginning if key[:2] in BEGINNING else self._beside_the_reference
            self._tolerances[key] = by(key, alpha)
        return self._tolerances[key]

    def _beside_its_beginning(self, key: Key, alpha: float) -> Tolerance | None:
        one = self.series.get(key)
        if one is None or not _is_beginning(one.baseline):
            return None
        count, total, squares = (np.array(row) for row in one.baseline)
        mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count >= LEAST_USERS)
        spread = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean * mean, 0) / np.maximum(count, 1))
        found = tolerance_of(key.kind, mean, spread, count, alpha=alpha)
        # A bundle that is liked better than the one before is no drift.
        return replace(found, high=np.ones(len(mean))) if key[:2] == BEFORE else found

    def _beside_the_reference(self, key: Key, alpha: float) -> Tolerance | None:
        if k := OWN.get(key[:2]):
            return tolerance_of(key.kind, np.zeros(k), np.zeros(k), 10**9, alpha=alpha)
        shape = self.shapes.get(key._replace(segment=ALL) if key.segment.startswith(PLACED) else key)
        if shape is None or shape.users < LEAST_USERS:
            return None
        kind = "item" if key.subject.startswith("item_") else key.kind
        return tolerance_of(kind, np.array(shape.mean), np.array(shape.error), shape.users, alpha=alpha)

    def weight(self, key: Key) -> float:
        """The share of ALPHA that a series has; all of them add up to 1 at most."""
        others, outcomes = self._sizes
        if key[:2] in BEGINNING:
            return OUTCOMES / outcomes
        if not key.segment.startswith(PLACED):
            return (1 - PLACEMENTS - OUTCOMES) / others
        known = self._watch.placements
        place = known.index(key.segment) + 1 if key.segment in known else len(known) + 1
        return PLACEMENTS / (place * (place + 1)) / others

    def threshold(self, key: Key) -> float:
        """The e-value from which on a series has an alarm."""
        return 1 / (ALPHA / 2 * self.weight(key))

    def _judge(self, hour_s: int) -> None:
        values = self.evidence.values(np.array([one.start for one in self.series.values()]))
        for (key, one), value in zip(self.series.items(), values, strict=True):
            if not one.since_s and value < self.threshold(key):
                continue
            if (tolerance := self.tolerance(key)) is None:
                continue
            means = self.evidence.means(one.of)
            outside = np.fmax(means - tolerance.high, tolerance.low - means)
            inside = not (outside > 0).any()
            if one.since_s and inside:
                one.since_s = 0
                self.evidence.forget(one.of)
            elif not inside:
                one.since_s = one.since_s or hour_s + HOUR_S
                top = int(np.nanargmax(outside))
                one.moved, one.up = one.components[top], bool(means[top] > tolerance.high[top])


def _key(name: str) -> Key:
    kind, subject, segment = name.split("|", 2)
    return Key(kind, subject, segment)


def _is_beginning(rows: list[list[float]]) -> bool:
    """Whether these are enough to be compared with."""
    return bool(rows) and sum(rows[0]) >= BASELINE


def _none(components: int) -> Tolerance:
    return Tolerance(*(np.full(components, np.nan) for _ in range(3)))


def _add(one: Watched, values: np.ndarray) -> None:
    """Rows that become part of what later ones are compared with."""
    said = ~np.isnan(values)
    values = np.where(said, values, 0)
    rows = (said.sum(axis=0), values.sum(axis=0), (values * values).sum(axis=0))
    before = one.baseline or [[0.0] * values.shape[1]] * 3
    one.baseline = [(np.array(old) + new).tolist() for old, new in zip(before, rows, strict=True)]
