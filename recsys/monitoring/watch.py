"""All that is watched of one bundle, from look to look: evidence, alarms, and nothing counted twice.

ALPHA is the probability that any alarm is ever false while a bundle serves what its reference says it should, over all
series and all looks: half of it for the reference being a sample, half for the bets. Series share it by fixed weights
(Bonferroni), which holds however they depend on each other.
"""

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from recsys.monitoring.evidence import Evidence, Tolerance
from recsys.monitoring.reference import HOUR_S, Reference, Shape
from recsys.monitoring.segments import ALL, SEGMENTS
from recsys.monitoring.series import Key, Series
from recsys.monitoring.tolerances import LEAST_USERS, tolerance_of

ALPHA = 0.05
PLACEMENTS = 0.2  # of ALPHA; the rest is shared evenly by all other series
DAY_S = 86_400
BASELINE = 800  # rows; where no reference is possible before a bundle serves, its first ones are the reference
FRESH = "freshness"
OWN: dict[tuple[str, str], int] = {  # series that no reference holds, and their components
    ("traffic", "lists"): 1,
    (FRESH, "item_stats"): 1,
    (FRESH, "user_states"): 1,
    **{("quality", subject): k for subject, k in (("clicks", 1), ("ndcg", 1), ("calibration", 5))},
}


class Watched(msgspec.Struct):
    """One series: its evidence, and where it has its own, the sums over the first rows (count, x, x squared, [K])."""

    components: list[str]
    evidence: Evidence
    baseline: list[list[float]] = []
    since_s: int = 0  # of the alarm that is on, the hour at whose end it came on; 0: none is
    moved: str = ""  # then: the component that says most
    up: bool = True


class Watch(msgspec.Struct):
    """The state between looks; a small document.

    Attributes:
        until_s: Hours before this one have been looked at, UTC epoch seconds. began_s: The first of them.
        hours: Looked at in which there was anything. lists, events: In them.
        placements: In the order in which they were met.
        series: By "kind|subject|segment".
        items: Events of the items most met lately, which fade.
    """

    layout: int
    bundle: str
    until_s: int = 0
    began_s: int = 0
    hours: int = 0
    lists: int = 0
    events: int = 0
    placements: list[str] = []
    series: dict[str, Watched] = {}
    items: dict[str, float] = {}


LAYOUT_OF_WATCH = 1


def new_watch(bundle: str) -> Watch:
    """Nothing seen yet."""
    return Watch(LAYOUT_OF_WATCH, bundle)


class Watcher:
    """Brings a watch forward, hour by hour, beside one reference."""

    def __init__(self, watch: Watch, reference: Reference) -> None:
        self.watch = watch
        self.shapes: dict[Key, Shape] = {shape.key: shape for shape in reference.shapes}
        self._others = len(self.shapes) + len(OWN) * (1 + len(SEGMENTS))
        self._known: dict[Key, Tolerance | None] = {}

    def see(self, hour_s: int, all_of: Iterable[Series]) -> None:
        """Take in what one hour says; an hour that was looked at already says nothing new.

        Args:
            hour_s: Its start, UTC epoch seconds.
        """
        watch = self.watch
        if hour_s < watch.until_s:
            return
        watch.until_s, watch.began_s = hour_s + HOUR_S, watch.began_s or hour_s
        for one in all_of:
            if len(one.values):
                self._see(one, hour_s)

    def _see(self, series: Series, hour_s: int) -> None:
        name = _text(series.key)
        if series.key.segment.startswith("placement ") and series.key.segment not in self.watch.placements:
            self.watch.placements.append(series.key.segment)
        one = self.watch.series.get(name)
        if one is None:
            one = Watched(list(series.components), Evidence.none(len(series.components)))
            self.watch.series[name] = one
        tolerance = self.tolerance(series.key)
        if tolerance is None and series.key[:2] in OWN:
            _add(one, series.values)
        one.evidence.see(series.values, tolerance, day=hour_s // DAY_S)
        if tolerance is not None:
            self._judge(one, series.key, tolerance, hour_s)

    def tolerance(self, key: Key) -> Tolerance | None:
        """The means of a series that are no drift; None while there is nothing to compare with."""
        alpha = ALPHA / 2 * self.weight(key)
        if key.kind == "quality":
            return self._beside_its_beginning(key, alpha)
        if key not in self._known:
            self._known[key] = self._beside_the_reference(key, alpha)
        return self._known[key]

    def _beside_its_beginning(self, key: Key, alpha: float) -> Tolerance | None:
        one = self.watch.series.get(_text(key))
        if one is None or not one.baseline or sum(one.baseline[0]) < BASELINE:
            return None
        count, total, squares = (np.array(row) for row in one.baseline)
        mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
        spread = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean * mean, 0) / np.maximum(count, 1))
        return tolerance_of(key.kind, np.where(count >= LEAST_USERS, mean, np.nan), spread, count, alpha=alpha)

    def _beside_the_reference(self, key: Key, alpha: float) -> Tolerance | None:
        if k := OWN.get(key[:2]):
            return tolerance_of(key.kind, np.zeros(k), np.zeros(k), 10**9, alpha=alpha)
        shape = self.shapes.get(key if not key.segment.startswith("placement ") else key._replace(segment=ALL))
        if shape is None or shape.users < LEAST_USERS:
            return None
        kind = "item" if key.subject.startswith("item_") else key.kind
        return tolerance_of(kind, np.array(shape.mean), np.array(shape.error), shape.users, alpha=alpha)

    def weight(self, key: Key) -> float:
        """The share of ALPHA that a series has; all of them add up to 1 at most."""
        if not key.segment.startswith("placement "):
            return (1 - PLACEMENTS) / self._others
        known = self.watch.placements
        place = known.index(key.segment) + 1 if key.segment in known else len(known) + 1
        return PLACEMENTS / (place * (place + 1)) / self._others

    def threshold(self, key: Key) -> float:
        """The e-value from which on a series has an alarm."""
        return 1 / (ALPHA / 2 * self.weight(key))

    def _judge(self, one: Watched, key: Key, tolerance: Tolerance, hour_s: int) -> None:
        means, low, high = one.evidence.means(), np.array(tolerance.low), np.array(tolerance.high)
        outside = np.fmax(means - high, low - means)
        if one.since_s and not (outside > 0).any():
            one.since_s = 0
            one.evidence.forget()
        elif not one.since_s and one.evidence.value() >= self.threshold(key):
            one.since_s = hour_s + HOUR_S
        if one.since_s and (outside > 0).any():
            top = int(np.nanargmax(outside))
            one.moved, one.up = one.components[top], bool(means[top] > high[top])


def keyed(watch: Watch) -> Iterator[tuple[Key, Watched]]:
    """Every series of a watch with its name."""
    for name, one in watch.series.items():
        kind, subject, segment = name.split("|", 2)
        yield Key(kind, subject, segment), one


def _text(key: Key) -> str:
    return "|".join(key)


def _add(one: Watched, values: np.ndarray) -> None:
    """Rows that become part of what later ones are compared with."""
    said = ~np.isnan(values)
    values = np.where(said, values, 0)
    rows = (said.sum(axis=0), values.sum(axis=0), (values * values).sum(axis=0))
    before = one.baseline or [[0.0] * values.shape[1]] * 3
    one.baseline = [(np.array(old) + new).tolist() for old, new in zip(before, rows, strict=True)]
