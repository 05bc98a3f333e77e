"""Quality by how much is known of a user, as a table and as a picture."""

from dataclasses import dataclass, field
from typing import Any

from recsys.evaluation.bootstrap import Interval, few_users_hint
from recsys.evaluation.report import Report, conditions_lines, shown

METRIC = "NDCG@10"
_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 150, 24, 48
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
# Okabe & Ito, "Color Universal Design", 2008: also told apart by the colour-blind.
_COLOURS = ("#0072B2", "#E69F00", "#000000", "#009E73")


@dataclass(frozen=True)
class Curve:
    """Reports of the same pipelines by the number of events known.

    Attributes:
        protocol: What was asked.
        newcomers: Users who are new; those of a point are the ones who can be asked there.
        points: Number of events known and the report, by rising number; not empty.
        conditions: As of `Report`.
    """

    protocol: str
    newcomers: int
    points: tuple[tuple[int, Report], ...]
    conditions: dict[str, Any] = field(default_factory=dict)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and cells, a row for each point and pipeline."""
        metrics = list(self.points[0][1].rows[0].metrics)
        cells = []
        for known, report in self.points:
            for place, row in enumerate(report.rows):
                of = [str(known), f"{report.users:,}"] if place == 0 else ["", ""]
                cells.append([*of, row.name, *(shown(row.metrics[metric]) for metric in metrics)])
        return ["known", "users", "", *metrics], cells

    def few_users_hint(self) -> str:
        """As `bootstrap.few_users_hint`, of the point with the fewest users."""
        known, users = min(((known, report.users) for known, report in self.points), key=lambda point: point[1])
        hint = few_users_hint(users)
        return hint and f"{known} known: {hint}"

    def differences(self, metric: str = METRIC) -> list[tuple[int, str, Interval]]:
        """What the evaluated bundle is ahead of each other pipeline by: events known, pipeline, paired difference."""
        return [
            (known, name.removeprefix(f"{metric} over "), interval)
            for known, report in self.points
            for name, interval in report.differences.items()
            if name.startswith(f"{metric} over ")
        ]

    def markdown(self) -> str:
        """Protocol and one table, with the differences to popularity and to knowing nothing."""
        ahead = {(known, name): shown(interval, sign=True) for known, name, interval in self.differences()}
        header, cells = self.table()
        lines = [f"{self.protocol} {self.newcomers:,} new users. {self.few_users_hint()}".rstrip(), ""]
        lines += ["| " + " | ".join([*header, f"two-stage ahead, {METRIC}"]) + " |", "|" + "---|" * (len(header) + 1)]
        known = 0
        for row in cells:
            known = int(row[0] or known)
            lines.append("| " + " | ".join([*row, ahead.get((known, row[2]), "")]) + " |")
        return "\n".join([*lines, "", *conditions_lines(self.conditions)])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; each point is a report of its own."""
        return {
            "protocol": self.protocol,
            "newcomers": self.newcomers,
            "conditions": self.conditions,
            "points": [{"known": known} | report.to_json() for known, report in self.points],
        }

    def svg(self, title: str) -> str:
        """A line for each pipeline with its 95 % intervals. The numbers of events stand at equal distances."""
        names = [row.name for row in self.points[0][1].rows]
        lines = {name: [row.metrics[METRIC] for _, report in self.points for row in report.rows if row.name == name]
                 for name in names}  # fmt: skip
        top = max(interval.high for line in lines.values() for interval in line)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
            f'font-size="12"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
            _text(_LEFT, 16, _escaped(title)),
            *self._axes(top),
        ]
        for place, (name, line) in enumerate(lines.items()):
            parts += self._line(name, line, top, place)
        return "\n".join([*parts, "</svg>", ""])

    def _x(self, place: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place + 0.5) / len(self.points)

    def _axes(self, top: float) -> list[str]:
        step = next((one for one in _STEPS if top / one <= 8), _STEPS[-1])
        parts = []
        for number in range(int(top / step) + 1):
            y = _y(number * step, top)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#dddddd"/>')
            parts.append(_text(_LEFT - 6, y + 4, f"{number * step:.2f}", "end"))
        for place, (known, _) in enumerate(self.points):
            parts.append(_text(self._x(place), _HEIGHT - _BOTTOM + 18, str(known), "middle"))
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        return [*parts, _text(middle, _HEIGHT - 10, f"events known; {METRIC}, 95 % intervals over users", "middle")]

    def _line(self, name: str, line: list[Interval], top: float, place: int) -> list[str]:
        colour, shift = _COLOURS[place % len(_COLOURS)], 3 * (place - 1.5)  # whiskers side by side
        at = [self._x(number) + shift for number in range(len(line))]
        path = "L".join(f"{x:.1f} {_y(one.mean, top):.1f}" for x, one in zip(at, line, strict=True))
        whiskers = "".join(
            f"M{x:.1f} {_y(one.low, top):.1f}V{_y(one.high, top):.1f}" for x, one in zip(at, line, strict=True)
        )
        x, y = _WIDTH - _RIGHT + 14, _TOP + 20 + 18 * place
        return [
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<path d="{whiskers}" stroke="{colour}"/>',
            f'<path d="M{x} {y - 4}h18" stroke="{colour}" stroke-width="2"/>',
            _text(x + 24, y, _escaped(name)),
        ]


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / (top or 1)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
