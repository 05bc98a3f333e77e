"""What visitors of a product do: a home list, a look, a click, similar items, the home list again that knows the click.

Each Locust user is one visitor after another. Between a list and what follows it a visitor thinks, as long as people do
(the Weibull distribution of `recsys.simulation.visits`); who sees nothing to click asks for another list or leaves.
"""

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from math import gamma
from typing import Any, TypeVar

import msgspec
from locust import FastHttpUser, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS

from loadtest.answers import AnswerError, answer_of, degradations
from loadtest.locust_nodes import Node
from recsys.simulation.behaviour import Behaviour
from recsys.simulation.visits import Habits
from service.schemas import EventsResponse, RecommendationResponse, SimilarResponse, Slate

HOME, COLD, RELOAD = (f"/v1/recommendations ({what})" for what in ("home", "cold", "reload"))
SIMILAR, EVENTS = "/v1/similar", "/v1/events"
LISTS = (HOME, COLD, RELOAD, SIMILAR)  # names in Locust's statistics
TIMEOUT_S = 5.0

_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_THINK_SHAPE = Habits().think_shape
_MEAN_OF_SCALE_1 = gamma(1 + 1 / _THINK_SHAPE)
_attention = Behaviour().examination
T = TypeVar("T", bound=msgspec.Struct)


class Visitor(FastHttpUser):
    """One connection, used by one visitor after another."""

    abstract = True
    network_timeout = TIMEOUT_S
    connection_timeout = TIMEOUT_S
    first_list = HOME
    user_ids: Iterator[str]  # shared: all visitors of a kind agree on who is popular
    node: Node  # counts what Locust does not
    numbers = itertools.count()
    process = 0  # number of this process of the generator

    def on_start(self) -> None:
        """Take what the options say, and come when it suits: users who begin together do not ask together."""
        self._options = self.environment.parsed_options
        self._random = random.Random(f"{self._options.load_seed} {self.process} {next(self.numbers)}")
        self.wait()

    def wait_time(self) -> float:
        """Seconds of thought."""
        mean_s = self._options.think_s
        return self._random.weibullvariate(mean_s / _MEAN_OF_SCALE_1, _THINK_SHAPE) if mean_s else 0.0

    @task
    def visit(self) -> None:
        """From the first list until the visitor leaves."""
        user_id = next(self.user_ids)
        slate = self._home(user_id, self.first_list)
        while slate:
            self.wait()
            clicked = self._look(user_id, slate)
            if self._random.random() < 1 / self._options.lists:
                return
            if clicked and self._random.random() < self._options.read_on:
                body = {"item_ids": [clicked], "count": self._options.count}
                slate = self._list(SIMILAR, SIMILAR, body, SimilarResponse)
            else:
                slate = self._home(user_id, RELOAD)

    def _home(self, user_id: str, name: str) -> Slate | None:
        body = {"user_id": user_id, "count": self._options.count, "placement": "home"}
        return self._list("/v1/recommendations", name, body, RecommendationResponse)

    def _list(self, path: str, name: str, body: dict[str, Any], kind: type[Slate]) -> Slate | None:
        slate = self._ask(path, name, body, kind)
        if slate:
            self.node.list_came(degradations(slate))
        return slate

    def _look(self, user_id: str, slate: Slate) -> str | None:
        """Tell what was shown, and what was clicked, if anything; gives the item."""
        items = [item.item_id for item in slate.items]
        rows = [event(user_id, slate, place, "impression") for place in range(len(items))]
        place = None
        if self._random.random() < self._options.click_share:
            (place,) = self._random.choices(range(len(items)), _attention(len(items)))
            rows.append(event(user_id, slate, place, "click"))
        self._ask(EVENTS, EVENTS, {"events": rows}, EventsResponse)
        return None if place is None else items[place]

    def _ask(self, path: str, name: str, body: dict[str, Any], kind: type[T]) -> T | None:
        """The answer; a bad one is marked as a failure, with its reason."""
        sent = msgspec.json.encode(body)
        with self.client.post(path, data=sent, headers=_JSON, name=name, catch_response=True) as response:
            try:
                answer = answer_of(response.status_code, response.content or b"", kind)
            except FAILURE_EXCEPTIONS:
                response.failure("answer broken off")
            except AnswerError as error:
                response.failure(str(error))
            else:
                response.success()
                return answer
        return None


class ReturningVisitor(Visitor):
    """A user of the imported data or the given file; few come often, by Zipf's law."""

    weight = 9


class NewVisitor(Visitor):
    """Somebody whom nobody has met: the first list is a cold start, the next ones know the clicks."""

    weight = 1
    first_list = COLD


def event(user_id: str, slate: Slate, place: int, kind: str) -> dict[str, Any]:
    """What happened now to the item at a place of a list, counted from 0."""
    return {
        "event_id": f"{slate.recommendation_id}-{place}-{kind}",
        "type": kind,
        "user_id": user_id,
        "item_id": slate.items[place].item_id,
        "ts": datetime.now(UTC).isoformat(),
        "recommendation_id": slate.recommendation_id,
        "position": place + 1,
    }
