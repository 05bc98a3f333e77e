"""How many users there are at each moment of a load test: as curves over the progress of the run."""

from collections.abc import Callable

from recsys.simulation import DAY_S
from recsys.simulation.visits import Habits

QUIET = 0.25  # of the peak, before and after a spike: four times the users within a second
SPIKE = (0.4, 0.6)  # of the run; as long again afterwards to see the service recover
STEPS = 5


def constant(progress: float) -> float:  # noqa: ARG001, a curve like the others
    """All users from the first moment on."""
    return 1.0


def spike(progress: float) -> float:
    """A quarter of the users; all of them for the middle fifth of the run."""
    return 1.0 if SPIKE[0] <= progress < SPIKE[1] else QUIET


def diurnal(progress: float) -> float:
    """The day of `recsys.simulation`, from midnight to midnight, compressed into the run; its peak is 1."""
    habits = Habits()
    return float(habits.pace(progress * DAY_S) / (1 + habits.rhythm))


def steps(progress: float) -> float:
    """A fifth of the users, two fifths, and so on: the step that breaches is the limit."""
    return min(int(progress * STEPS) + 1, STEPS) / STEPS


SHAPES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "spike": spike,
    "diurnal": diurnal,
    "steps": steps,
}


def users_at(shape: str, elapsed_s: float, *, run_time_s: float, peak: int) -> int | None:
    """Users at a moment, at least one of them; None when the run is over.

    Args:
        shape: Name of a curve of `SHAPES`.
        peak: Users where the curve is at 1.
    """
    if elapsed_s >= run_time_s:
        return None
    return max(1, round(peak * SHAPES[shape](elapsed_s / run_time_s)))
