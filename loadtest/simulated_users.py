"""Simulated users on the real API: they ask for lists, look, click, come back after a while or not.

Visits arrive in an open loop, whether or not the service keeps up; within a visit the next list is asked for after the
answer and some thought, as people do: a partly open system (Schroeder, Wierman and Harchol-Balter, Open Versus Closed:
A Cautionary Tale, NSDI 2006). Each latency counts from the moment the request was due.
"""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import numpy as np

from loadtest.connection import Answer, Connections
from loadtest.tally import Tally
from recsys.simulation.behaviour import Reactions
from recsys.simulation.visits import Visits
from recsys.simulation.world import SimulatedWorld
from service.schemas import EventsResponse, RecommendationResponse

TIMEOUT_S = 2.0
T = TypeVar("T")
UNKNOWN = "item that is not in the imported data"
_FOLLOWING = ("click", "like", "purchase", "hide")  # after the impression, in this order


class SimulatedUsers:
    """The users of a world, each with what he or she has done so far.

    The catalogue must stand still: there is no call that would tell the service of launches and retirements.

    Args:
        prefix: Of user ids; one that is new makes users whom the service does not know.
        speed: Simulated seconds per second.
        count: Items of a list.
    """

    def __init__(
        self, world: SimulatedWorld, connections: Connections, tally: Tally, *, prefix: str, speed: float, count: int
    ) -> None:
        self._world, self._connections, self._tally = world, connections, tally
        self._prefix, self._speed, self._count = prefix, speed, count
        self._row = {item_id: row for row, item_id in enumerate(world.catalogue.item_id)}
        self._met = np.zeros((len(world.activity), len(self._row)), bool)
        self._events = np.zeros(len(world.activity), int)

    async def come(self, visits: Visits, *, start_s: float, duration_s: float) -> None:
        """Make the visits; those under way at the end are broken off.

        Args:
            start_s: When the run begins, of simulated time. duration_s: How long it lasts, of real time.
        """
        self._start_s, self._began = start_s, asyncio.get_running_loop().time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s), asyncio.TaskGroup() as under_way:
                for number, at_s in enumerate(visits.start_s):
                    due = self._began + (at_s - start_s) / self._speed
                    await self._until(due)
                    under_way.create_task(self._visit(visits, number, due))
                await self._until(self._began + duration_s)

    async def _until(self, due: float) -> None:
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))

    async def _visit(self, visits: Visits, number: int, due: float) -> None:
        user, seed = int(visits.user[number]), int(visits.seed[number])
        for step, pause_s in enumerate([0.0, *visits.think_s[number]]):
            if step:
                due = asyncio.get_running_loop().time() + pause_s / self._speed
                await self._until(due)
            if slate := await self._ask(user, due):
                await self._react(user, slate, np.random.default_rng([seed, step]))

    async def _ask(self, user: int, due: float) -> RecommendationResponse | None:
        """The list of a user, counted; None where none came."""
        body = {"user_id": f"{self._prefix}{user}", "count": self._count, "return": {"metadata": False}}
        slate = await self._post("/v1/recommendations", body, RecommendationResponse)
        now = asyncio.get_running_loop().time()
        self._tally.ended(now - self._began, now - due if slate else TIMEOUT_S)
        if slate and not all(item.item_id in self._row for item in slate.items):
            self._tally.errors[UNKNOWN] += 1
            return None
        return slate

    async def _react(self, user: int, slate: RecommendationResponse, rng: np.random.Generator) -> None:
        """Look at a list, send what is done with it, remember it."""
        behaviour, now = self._world.behaviour, asyncio.get_running_loop().time()
        at_s = np.array([self._start_s + (now - self._began) * self._speed])
        truth = self._world.attraction(np.array([user]), at_s, met=self._met[[user]])
        k = len(slate.items)
        served = np.array([[self._row[item.item_id] for item in slate.items]], np.int64)
        lists = {"served": served, "popular": self._world.popular(truth, k), "best": self._world.best(truth, k)}
        attraction = {name: np.take_along_axis(truth, rows, axis=1)[0] for name, rows in lists.items()}
        expected = {name: float(behaviour.expected_clicks(one)) for name, one in attraction.items()}
        self._tally.list_came(degraded=bool(slate.degraded), personalized=slate.strategy == "personalized")
        self._tally.compared(int(self._events[user]), **expected)
        reactions = behaviour.react(rng, attraction["served"])
        self._tally.looked_at(reactions.click, attraction["served"] * behaviour.examination(k))
        self._met[user, served[0, reactions.click | reactions.hide]] = True
        await self._tell(user, event_rows(f"{self._prefix}{user}", slate, reactions))

    async def _tell(self, user: int, rows: list[dict[str, Any]]) -> None:
        if not rows:  # an empty list: the user has met everything
            return
        taken = await self._post("/v1/events", {"events": rows}, EventsResponse)
        if taken:
            self._tally.recorded(accepted=taken.accepted, refused=taken.refused)
            told = zip(rows, taken.results, strict=True)
            self._events[user] += sum(one.status == 202 and row["type"] != "impression" for row, one in told)

    async def _post(self, path: str, body: dict[str, Any], expected: type[T]) -> T | None:
        """The answer; None where it is none, which is counted by its kind."""
        answer = await self._connections.post(path, msgspec.json.encode(body), timeout_s=TIMEOUT_S)
        if wrong := _fault(answer):
            self._tally.errors[f"{path} {wrong}"] += 1
            return None
        try:
            return msgspec.json.decode(answer.body, type=expected)
        except msgspec.DecodeError:
            self._tally.errors[f"{path} answers something else"] += 1
            return None


def event_rows(user_id: str, slate: RecommendationResponse, reactions: Reactions) -> list[dict[str, Any]]:
    """What was done with a list as events, now: each place was shown, then what followed. Their ids are the list's."""
    ts = datetime.now(UTC).isoformat()
    done = {name: getattr(reactions, name) for name in _FOLLOWING}
    return [
        {
            "event_id": f"{slate.recommendation_id}-{place}-{kind}",
            "type": kind,
            "user_id": user_id,
            "item_id": item.item_id,
            "ts": ts,
            "recommendation_id": slate.recommendation_id,
            "position": place + 1,
        }
        for place, item in enumerate(slate.items)
        for kind in ("impression", *(name for name in _FOLLOWING if done[name][place]))
    ]


def _fault(answer: Answer) -> str:
    return answer.failure or (f"status {answer.status}" if answer.status != 200 else "")
