"""What a gateway can answer from: a lane for each bundle, and number of candidates, that somebody may get.

A request is given its lane when it comes and stays in it to the end, whatever the traffic table says meanwhile. A
micro-batch runs lane by lane, so that no list is made of two bundles; a lane that fails fails its own requests alone.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from recsys.types import World
from service.errors import BatchFailed, HttpError
from service.serving import Serving
from service.traffic.assignment import Assigned, Assignment, Side
from service.traffic.document import Traffic


class _InLane(Protocol):
    @property
    def asked(self) -> Any: ...


Waiting = TypeVar("Waiting", bound=_InLane)
Prepared = TypeVar("Prepared")
Answered = TypeVar("Answered")
_log = logging.getLogger(__name__)


class Lane:
    """One of several worlds that answer at the same time. serving: With the newest item stats."""

    __slots__ = ("serving",)

    def __init__(self, serving: Serving) -> None:
        self.serving = serving


class Lanes:
    """The lanes of one version of the traffic table.

    Args:
        world: Of the champion, which everybody gets until `serve` says otherwise.
    """

    def __init__(self, world: World) -> None:
        self.champion = Lane(Serving.of(world))
        self._lanes: dict[tuple[str, int | None], Lane] = {(world.bundle.id, None): self.champion}
        self._assignment = Assignment(Traffic(1, "", "riffle", "as deployed", world.bundle.id))

    @property
    def traffic(self) -> Traffic:
        """The table that is obeyed."""
        return self._assignment.traffic

    def serve(self, traffic: Traffic, worlds: Mapping[str, World]) -> None:
        """Obey another version of the table. Requests that have a lane keep it; so do bundles that are held for later.

        Args:
            worlds: By bundle; all that the table names.
        """
        assignment, before = Assignment(traffic), self._lanes
        arms = assignment.arms()
        kept = arms | {(bundle_id, None) for bundle_id in traffic.bundles()}
        lanes = {name: lane for name, lane in before.items() if name in kept}
        for name in sorted(arms - lanes.keys(), key=str):
            bundle_id, candidates = name
            lanes[name] = Lane(_serving(worlds[bundle_id], candidates, None))
        self.champion = lanes[traffic.champion, None]
        self._lanes, self._assignment = lanes, assignment

    @property
    def shadow(self) -> Lane | None:
        """What answers once more for comparison, where anything does."""
        of = self.traffic.shadow
        return self._lanes.get((of.bundle, None)) if of else None

    def use(self, world: World) -> None:
        """Answer from a newer world of a bundle that is served; batches under way end in the one they began in."""
        for (bundle_id, candidates), lane in self._lanes.items():
            if bundle_id == world.bundle.id:
                lane.serving = _serving(world, candidates, lane.serving)

    def of(self, user_id: str, placement: str) -> tuple[Lane, Assigned]:
        """What answers a user, and why; of an interleaved list the lane of the control."""
        assigned = self._assignment.of(user_id, placement)
        return self.lane(assigned), assigned

    def lane(self, of: Assigned | Side) -> Lane:
        """Of what answers, by this version of the table."""
        return self._lanes[of.bundle, of.arm.candidates]


async def by_lane(
    run: Callable[[Serving, Sequence[Waiting], Sequence[Prepared]], Awaitable[Sequence[Answered]]],
    waiters: Sequence[Waiting],
    prepared: Sequence[Prepared],
) -> Sequence[Answered | Exception]:
    """One batch in as many parts as it has lanes, one after the other; the answers in the order of the waiters."""
    lanes = list(dict.fromkeys(one.asked.lane for one in waiters))
    if len(lanes) == 1:
        return await run(lanes[0].serving, waiters, prepared)
    answers: dict[int, Answered | Exception] = {}
    for lane in lanes:
        rows = [row for row, one in enumerate(waiters) if one.asked.lane is lane]
        try:
            own = await run(lane.serving, [waiters[row] for row in rows], [prepared[row] for row in rows])
        except Exception as error:
            if not isinstance(error, HttpError):
                _log.exception("%s failed for %d of a micro-batch", lane.serving.world.bundle.id, len(rows))
                error = BatchFailed("the batch of this request failed; try again")
            own = [error] * len(rows)  # type: ignore[list-item]
        answers.update(zip(rows, own, strict=True))
    return [answers[row] for row in range(len(waiters))]


def _serving(world: World, candidates: int | None, before: Serving | None) -> Serving:
    return Serving.of(world if candidates is None else world.with_candidates(candidates), before)
