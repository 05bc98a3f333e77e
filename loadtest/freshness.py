"""From an event to the next list: how long a click takes to be seen, and how many events the log takes.

    python -m loadtest.freshness

While events and requests for lists arrive in open loops, probes send the first click of a new user and ask for the
user's list until it knows the click. Then the log alone: as many events as it acknowledges, in batches, and how far
behind the states are when it ends. One JSON file in results/.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from loadtest import machine
from loadtest.crowd import Crowd, known_users
from loadtest.deployed import COUNT, RESULTS, deployed
from recsys.errors import RecsysError
from service.errors import ServiceError, StackError
from service.settings import load
from service.stack import application

EVENTS_PER_CALL = 10
BATCH = 100  # events per call when the log is measured alone
CLIENTS = 4
PROBE_EVERY_S = 0.1
PROBE_TIMEOUT_S = 5.0
REFUSED_S = 0.1


class Refused(StackError):
    """A 429: to be sent again."""


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=10)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer's body. Raises Refused, or StackError, if it is not a 200."""
        self._connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            kind = Refused if response.status == 429 else StackError
            raise kind(f"{path} answered {response.status}: {answer.get('detail')}")
        return answer


def clicks(users: list[str], item_id: str) -> dict[str, Any]:
    """The body of a call with one click of each user, now, with ids of their own."""
    ts = datetime.now(UTC).isoformat()
    rows = [{"event_id": uuid.uuid4().hex, "type": "click", "user_id": u, "item_id": item_id, "ts": ts} for u in users]
    return {"events": rows}


def effect_ms(client: Client, item_id: str) -> float:
    """Milliseconds from the acknowledgement of a new user's click to a list that knows it; nan if never."""
    user = f"probe-{uuid.uuid4().hex}"
    client.post("/v1/events", clicks([user], item_id))
    began = time.monotonic()
    while time.monotonic() - began < PROBE_TIMEOUT_S:
        with suppress(Refused):  # a list that was shed is not one that knows the click
            if client.post("/v1/recommendations", {"user_id": user, "count": 5})["strategy"] == "personalized":
                return (time.monotonic() - began) * 1e3
    return float("nan")


def under_load(port: int, item_id: str, crowd: Crowd, *, events_s: float, lists_s: float, duration_s: int) -> Any:
    """Effects while both loops run, and what came of the loops."""
    calls = int(events_s / EVENTS_PER_CALL * duration_s * 1.3) + 100  # more than are due, so that none is sent twice
    bodies = {
        "/v1/events": [clicks(crowd.draw(EVENTS_PER_CALL), item_id) for _ in range(calls)],
        "/v1/recommendations": [{"user_id": user, "count": COUNT} for user in crowd.draw(20_000)],
    }
    rates = {"/v1/events": events_s / EVENTS_PER_CALL, "/v1/recommendations": lists_s}
    with tempfile.TemporaryDirectory() as folder:
        loops = {}
        for path, sent in bodies.items():
            file = Path(folder) / path.rpartition("/")[2]
            file.write_text("".join(json.dumps(one) + "\n" for one in sent), "utf-8")
            command = [sys.executable, "-m", "loadtest.open_loop", f"http://127.0.0.1:{port}{path}"]
            command += ["--bodies", str(file), "--rate", str(rates[path]), "--duration", str(duration_s)]
            loops[path] = subprocess.Popen(command, stdout=subprocess.PIPE)
        client, effects = Client(port), []
        time.sleep(2)
        until = time.monotonic() + duration_s - 3
        while time.monotonic() < until:
            effects.append(effect_ms(client, item_id))
            time.sleep(PROBE_EVERY_S)
        outcomes = {path: json.loads(loop.communicate(timeout=60)[0]) for path, loop in loops.items()}
    seen = [one for one in effects if one == one]
    return {
        "probes": len(effects),
        "never_seen": len(effects) - len(seen),
        "effect_ms": {f"p{q}": round(float(np.percentile(seen, q)), 1) for q in (50, 90, 99, 100)} if seen else {},
        "loops": outcomes,
    }


def alone(port: int, item_id: str, crowd: Crowd, *, duration_s: int) -> dict[str, Any]:
    """Events per second that the log acknowledges, and how long the states need to catch up."""
    accepted, refused = [0] * CLIENTS, [0] * CLIENTS
    users = [crowd.draw(BATCH) for _ in range(50)]

    def send(number: int) -> None:
        client, until = Client(port), time.monotonic() + duration_s
        while time.monotonic() < until:
            body = clicks(users[accepted[number] // BATCH % 50], item_id)
            try:
                accepted[number] += client.post("/v1/events", body)["accepted"]
            except Refused:
                refused[number] += 1
                time.sleep(REFUSED_S)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(CLIENTS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed_s = time.monotonic() - began
    catch_up_ms = effect_ms(Client(port), item_id)
    return {
        "batch": BATCH,
        "events": sum(accepted),
        "refused": sum(refused),
        "events_per_s": round(sum(accepted) / elapsed_s, 1),
        "catch_up_ms": round(catch_up_ms, 1) if catch_up_ms == catch_up_ms else None,  # None: not in time
    }


def main() -> int:
    """Measure what is up."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--duration", type=int, default=30, help="seconds of each part")
    parser.add_argument("--events", type=float, default=1000.0, help="events per second under load")
    parser.add_argument("--lists", type=float, default=500.0, help="requests for lists per second under load")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    settings = load()
    try:
        stack = deployed(settings)
        crowd = Crowd(known_users(None), seed=options.seed)
        answer = application.ask(settings, "/v1/recommendations", {"user_id": "riffle:freshness", "count": 1})
        item_id = answer["items"][0]["item_id"]
        stolen_s = machine.stolen_s()
        result = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": machine.commit(),
            "machine": machine.describe(),
            "versions": machine.versions(),
            "topology": stack.settings.topology,
            "under_load": under_load(
                settings.http_port,
                item_id,
                crowd,
                events_s=options.events,
                lists_s=options.lists,
                duration_s=options.duration,
            ),
            "alone": alone(settings.http_port, item_id, crowd, duration_s=options.duration),
            "stolen_s": round(machine.stolen_s() - stolen_s, 2),
        }
    except (RecsysError, ServiceError) as error:
        print(f"freshness: {error}", file=sys.stderr)
        return 1
    path = RESULTS / f"{result['time'][:10]}-freshness.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    loops = result["under_load"]["loops"]
    print(f"event to effect, ms    {result['under_load']['effect_ms']}, never {result['under_load']['never_seen']}")
    for name, loop in loops.items():
        print(f"{name:22} {loop['achieved_rps']}/s, {loop['latency_ms']}, failed {loop['errors']}")
    print(f"the log alone          {result['alone']}\n\nWritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
