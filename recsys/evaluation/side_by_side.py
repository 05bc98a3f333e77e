"""Two measurements as one table: quality with intervals and a paired test, and what each costs."""

import json
from dataclasses import asdict, dataclass

import numpy as np

from recsys.errors import DatasetError
from recsys.evaluation.bootstrap import Interval, few_users_hint, mean_interval, paired_difference
from recsys.evaluation.compare import HEADLINE
from recsys.evaluation.gate import LARGER, MARGIN, SLOWER, Line
from recsys.evaluation.measurement import Measurement
from recsys.evaluation.report import shown

MB = 2**20
_COSTS = {
    "cpu_ms": ("CPU of a request, ms", 3),
    "size_mb": ("bundle, MB", 2),
    "wall_s": ("training, s", 1),
    "cpu_s": ("training, CPU s", 1),
    "peak_mb": ("training, MB at most", 0),
}


@dataclass(frozen=True)
class SideBySide:
    """A comparison.

    Attributes:
        asked: Questions that both were asked, and how many only one was. users: Of those of both.
        quality: Metric -> base, head and the paired difference head - base, each with its interval.
        beyond, costs: Name -> base and head; only what both have.
        lines: What the head has to show, as at the gate.
    """

    base: str
    head: str
    protocol: str
    asked: tuple[int, int]
    users: int
    quality: dict[str, tuple[Interval, Interval, Interval]]
    beyond: dict[str, tuple[float, float]]
    costs: dict[str, tuple[float, float]]
    lines: list[Line]

    @property
    def passed(self) -> bool:
        """Whether every line is met."""
        return all(one.passed for one in self.lines)

    def to_json(self) -> str:
        """All of it, as JSON."""
        return json.dumps(asdict(self) | {"passed": self.passed}, indent=1)

    def markdown(self) -> str:
        """All of it, as a section of a page."""
        both, one = self.asked
        only = f" ({one:,} that only one of them was asked are left out)" if one else ""
        lines = [f"## Quality and cost: {self.base} and {self.head}", ""]
        lines += [
            f"{self.protocol} {both:,} questions of {self.users:,} users{only}. {few_users_hint(self.users)}".strip()
        ]
        lines += ["", "| | base | head | head - base | |", "|---|---|---|---|---|"]
        for name, (base, head, difference) in self.quality.items():
            cells = shown(base), shown(head), shown(difference, sign=True), _verdict(difference)
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += [
            f"| {name} | {was:.3f} | {now:.3f} | {now - was:+.3f} | |" for name, (was, now) in self.beyond.items()
        ]
        for name, (before, now) in self.costs.items():
            said, digits = _COSTS[name]
            times = f"{now / before:.2f} times" if before else ""
            lines.append(f"| {said} | {before:,.{digits}f} | {now:,.{digits}f} | {times} | |")
        lines += [
            "",
            "Intervals: 95 %, bootstrap over users; differences are paired by question. CPU and training were taken in",
        ]
        lines += ["processes of their own, one after the other: on a busy machine the same code differs by half.", ""]
        lines += [f"- {'✓' if one.passed else '✗'} {one.name}: {one.found}; wanted: {one.wanted}" for one in self.lines]
        return "\n".join([*lines, ""])


def side_by_side(base: Measurement, head: Measurement, *, seed: int) -> SideBySide:
    """Compare what both were asked.

    Raises:
        DatasetError: that is nothing, or of one user only: they were trained on other data or asked in other ways.
    """
    place = {name: at for at, name in enumerate(base.question)}
    rows = np.array([at for at, name in enumerate(head.question) if name in place], np.int64)
    others = np.array([place[head.question[at]] for at in rows.tolist()], np.int64)
    user = np.array(head.user, np.uint64)[rows]
    users = len(np.unique(user))
    if users < 2:
        raise DatasetError(
            f"{base.bundle} and {head.bundle} have {len(rows)} questions of {users} users in common; measure both on "
            "the same data, by the same protocol"
        )
    quality = {}
    for name in head.values:
        if name in base.values:
            before, now = np.array(base.values[name])[others], np.array(head.values[name])[rows]
            of_base, of_head = (mean_interval(one, user, seed=seed) for one in (before, now))
            quality[name] = of_base, of_head, paired_difference(now, before, user, seed=seed)
    costs = _costs(base, head)
    return SideBySide(
        base=f"{base.bundle} ({base.commit})",
        head=f"{head.bundle} ({head.commit})",
        protocol=head.protocol,
        asked=(len(rows), len(base.question) + len(head.question) - 2 * len(rows)),
        users=users,
        quality=quality,
        beyond={name: (base.beyond[name], one) for name, one in head.beyond.items() if name in base.beyond},
        costs=costs,
        lines=_lines(quality, costs),
    )


def _costs(base: Measurement, head: Measurement) -> dict[str, tuple[float, float]]:
    own = [{"cpu_ms": one.cpu_ms, "size_mb": one.size_bytes / MB} | one.training for one in (base, head)]
    return {name: (own[0][name], own[1][name]) for name in _COSTS if name in own[0] and name in own[1]}


def _lines(
    quality: dict[str, tuple[Interval, Interval, Interval]], costs: dict[str, tuple[float, float]]
) -> list[Line]:
    """Non-inferiority of the headline by the margin of the gate, and its limits of cost."""
    if HEADLINE not in quality:
        raise DatasetError(f"one of the measurements has no {HEADLINE}; measure both with this version or a later one")
    base, _, difference = quality[HEADLINE]
    (cpu, own_cpu), (size, own_size) = costs["cpu_ms"], costs["size_mb"]
    return [
        Line(
            HEADLINE,
            difference.low >= -MARGIN * base.mean,
            shown(difference, sign=True),
            f"surely not below {-MARGIN * base.mean:+.4f}",
        ),
        Line(
            "CPU of a request", own_cpu <= SLOWER * cpu, f"{own_cpu / max(cpu, 1e-9):.2f} times", f"at most {SLOWER:g}"
        ),
        Line("bundle", own_size <= LARGER * size, f"{own_size / max(size, 1e-9):.2f} times", f"at most {LARGER:g}"),
    ]


def _verdict(difference: Interval) -> str:
    if difference.low > 0:
        return "surely better"
    return "surely worse" if difference.high < 0 else "within chance"
