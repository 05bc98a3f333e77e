"""People asking for lists, and for items similar to one of their list; every answer is checked.

    locust -f loadtest/locustfile.py --headless -u 16 -r 16 -t 30s --host http://127.0.0.1:8000

The users come from the imported data set, or from a file; see the options in `locust --help`.
"""

import json
import random
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, constant, events, task
from locust.env import Environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # locust runs this file from anywhere

from loadtest.crowd import UNKNOWN_SHARE, Crowd, known_users
from recsys.errors import RecsysError
from service.errors import ServiceError

COUNT = 20
DRAWN = 256  # ids at a time; one at a time would cost more than the request


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Options of this load, beside Locust's."""
    parser.add_argument("--user-ids", type=Path, help="file of user ids, one a line; default: the imported data set")
    parser.add_argument("--unknown-share", type=float, default=UNKNOWN_SHARE, help="share of users nobody has met")
    parser.add_argument("--load-seed", type=int, default=7, help="seed of who asks what")
    parser.add_argument("--allow-degraded", action="store_true", help="a degraded answer is no failure")


@events.init.add_listener
def read_users(environment: Environment, **_: Any) -> None:
    """Read the user ids once; a run without any ends with one sentence."""
    options = environment.parsed_options
    try:
        Visitor.crowd = Crowd(
            known_users(options.user_ids), seed=options.load_seed, unknown_share=options.unknown_share
        )
    except (RecsysError, ServiceError) as error:
        sys.exit(f"locust: {error}")
    gevent.sleep(0)  # let the loop read the clock: by the time of before the reading, a run of `-t 3s` is over already


def fault(status: int, body: bytes, *, allow_degraded: bool) -> str | None:
    """What is wrong with an answer, None where nothing is."""
    if status == 0:
        return "no answer"
    if status != 200:
        return f"status {status}"
    try:
        answer = json.loads(body)
        items, degraded = answer["items"], answer["degraded"]
    except (ValueError, KeyError, TypeError):
        return "not the JSON of a list"
    if not items:
        return "no items"
    if degraded and not allow_degraded:
        return "degraded: " + ", ".join(sorted(f"{one['stage']} {one['cause']}" for one in degraded))
    return None


class Visitor(FastHttpUser):
    """One connection: asks, reads, asks again at once."""

    wait_time = constant(0)
    network_timeout = 5.0
    connection_timeout = 5.0
    crowd: Crowd  # one for all visitors: they agree on who is popular

    def on_start(self) -> None:
        """Take what the options say."""
        options = self.environment.parsed_options
        self._random = random.Random(options.load_seed)
        self._allow_degraded = options.allow_degraded
        self._drawn: list[str] = []
        self._seen: list[str] = []

    @task(9)
    def recommendations(self) -> None:
        """A list for somebody of the crowd."""
        self._drawn = self._drawn or self.crowd.draw(DRAWN)
        answer = self._ask("/v1/recommendations", {"user_id": self._drawn.pop(), "count": COUNT})
        self._seen = answer or self._seen

    @task(1)
    def similar(self) -> None:
        """What is like an item of the last list."""
        if self._seen:
            self._ask("/v1/similar", {"item_ids": [self._random.choice(self._seen)], "count": COUNT})

    def _ask(self, path: str, body: dict[str, Any]) -> list[str]:
        """The item ids of a good answer; a bad one is marked as a failure, with its reason."""
        with self.client.post(path, json=body, catch_response=True) as response:
            content = response.content or b""
            if wrong := fault(response.status_code, content, allow_degraded=self._allow_degraded):
                response.failure(wrong)
                return []
            response.success()
            return [item["item_id"] for item in json.loads(content)["items"]]
