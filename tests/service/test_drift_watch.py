"""What drifts is told as a metric while it does, and a look that fails makes the last one older, nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from recsys.errors import RegistryError
from recsys.monitoring.alarms import Alarm
from service import drift, metrics
from service.drift import Look
from service.drift_watch import DriftWatch
from service.errors import StackError
from service.settings import Settings
from service.telemetry.readings import Readings


def alarm(kind: str, subject: str) -> Alarm:
    return Alarm(
        kind=kind, subject=subject, segment="all", since_s=1, evidence=30.0, component="c", usual=0.1, now=0.2,
        harmful=False,
    )  # fmt: skip


class Computer:
    """Gives looks, or fails, in turn; records what it was asked to run."""

    def __init__(self, *answers: Look | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def __call__(self, work: Callable[..., Any], *args: Any) -> Look:
        self.asked.append((work, args))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def found(*alarms: Alarm) -> Look:
    return Look(bundle="b", at_s=1, alarms=list(alarms))


async def told(watch: DriftWatch) -> dict[str, dict[tuple[str, ...], float]]:
    readings = Readings()
    watch.tell(readings)
    return {metric.name: dict(sums) for metric, sums in readings.take().items()}


async def test_an_alarm_is_told_while_it_is_on_and_as_nothing_when_it_is_over() -> None:
    computer = Computer(found(alarm("feature", "age")), found(alarm("quality", "clicks")), found())
    watch = DriftWatch(Settings(), "redis://nowhere", computer)
    before = await told(watch)
    assert before[metrics.DRIFT.name] == {}
    assert before[metrics.DRIFT_LOOKED.name][()] >= 0  # since it began: an alarm can be told from what never looked
    await watch.step()
    assert (await told(watch))[metrics.DRIFT.name] == {("feature", "age"): 1.0}
    await watch.step()
    assert (await told(watch))[metrics.DRIFT.name] == {("feature", "age"): 0.0, ("quality", "clicks"): 1.0}
    await watch.step()
    assert set((await told(watch))[metrics.DRIFT.name].values()) == {0.0}
    assert computer.asked == [(drift.look, (Settings(), "redis://nowhere"))] * 3


@pytest.mark.parametrize(
    "error", [StackError("no store"), RegistryError("no bundle"), OSError("disk"), KeyError("bug")]
)
async def test_a_look_that_fails_leaves_what_is_known_and_makes_it_older(error: Exception) -> None:
    watch = DriftWatch(Settings(), "redis://nowhere", Computer(found(alarm("feature", "age")), error))
    await watch.step()
    before = (await told(watch))[metrics.DRIFT_LOOKED.name][()]
    await watch.step()
    after = await told(watch)
    assert after[metrics.DRIFT.name] == {("feature", "age"): 1.0}
    assert after[metrics.DRIFT_LOOKED.name][()] > before >= 0
