"""Traffic tables for tests."""

from typing import Any

from service.traffic.document import Arm, Experiment, Traffic, Variant, placed

A, B, C = (f"2026060{day}-{day:012x}" for day in (1, 2, 3))


def table(champion: str = A, **fields: Any) -> Traffic:
    """A version of the table."""
    fields["experiments"] = placed(fields.get("experiments", ()))
    return Traffic(fields.pop("version", 1), "2026-06-01T00:00:00+00:00", "test", "test", champion, **fields)


def experiment(name: str = "closer", *, shares: tuple[int, ...] = (5000, 5000), **fields: Any) -> Experiment:
    """A running one, of which each variant but the first has another diversity."""
    names = ("control", "b", "c", "d")
    arms = fields.pop("arms", [Arm(), *(Arm(diversity=0.1 * place) for place in range(1, len(shares)))])
    variants = tuple(Variant(*one) for one in zip(names, shares, arms, strict=False))
    return Experiment(name, variants, **{"state": "running", **fields})
