"""How many events one core takes, and what an event costs: the whole service on one core, the load on another.

    python -m loadtest.one_core

The log alone, in batches of 100, as in loadtest.freshness. Every thread of every process of the stack is kept on one
core meanwhile. One JSON file in results/, one line printed.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

import psutil

from loadtest import affinity, machine
from loadtest.crowd import Crowd, known_users
from loadtest.deployed import RESULTS, deployed
from loadtest.freshness import PROBE_TIMEOUT_S, alone
from recsys.errors import RecsysError
from service.errors import ServiceError, StackError
from service.event_backlog import backlog
from service.settings import Settings, load
from service.stack import application

UPDATER = "FeatureUpdater"


def measure(settings: Settings, *, duration_s: int, seed: int) -> dict[str, Any]:
    """Events acknowledged by the stack that is up.

    Raises:
        ServiceError, RecsysError: nothing is up, nothing is imported, fewer than two cores, or no way to pin.
    """
    stack = deployed(settings)
    usable = affinity.cores()
    if len(usable) < 2:
        raise StackError("one core is for the service and one for the load; this machine offers only one")
    crowd = Crowd(known_users(None), seed=seed)
    answer = application.ask(settings, "/v1/recommendations", {"user_id": "riffle:one-core", "count": 1})
    item_id = answer["items"][0]["item_id"]
    service_core, load_core = usable[:2]
    with (
        affinity.pinned(lambda: machine.stack_processes(settings), service_core),
        affinity.pinned(lambda: [psutil.Process()], load_core),
    ):
        stolen_s, used_s = machine.stolen_s(), machine.cpu_s(machine.stack_processes(settings))
        log = alone(settings.http_port, item_id, crowd, duration_s=duration_s)
        now_s = machine.cpu_s(machine.stack_processes(settings))
        cpu_s = {kind: used - used_s.get(kind, 0.0) for kind, used in now_s.items()}
        stolen_s = machine.stolen_s() - stolen_s
        behind = backlog(stack.redis_url)
    return {
        **machine.facts(),
        "topology": stack.settings.topology,
        "cores": {"service": service_core, "load": load_core},
        "log": log,
        "behind": behind._asdict(),
        **costs(cpu_s, log["events"]),
        "stolen_s": round(stolen_s, 2),
    }


def costs(cpu_s: Mapping[str, float], events: int) -> dict[str, Any]:
    """What the processor time of each kind of process makes for 1,000 events, and that of the updater for one.

    Raises:
        StackError: no event was acknowledged.
    """
    if not events:
        raise StackError("not one event was acknowledged; `riffle doctor` looks for causes")
    per_1000 = {kind: round(1e3 * used / events, 4) for kind, used in sorted(cpu_s.items())}
    updater_s = sum(used for kind, used in cpu_s.items() if UPDATER in kind)
    return {"cpu_s_per_1000_events": per_1000, "updater_us_per_event": round(1e6 * updater_s / events, 1)}


def line(result: Mapping[str, Any]) -> str:
    """The result as one sentence."""
    log, late_ms = result["log"], result["log"]["catch_up_ms"]
    caught_up = (
        f"did not know the last one within {PROBE_TIMEOUT_S:.0f} s"
        if late_ms is None
        else f"knew the last one {late_ms / 1e3:.1f} s later"
    )
    return (
        f"{log['events_per_s']:,.0f} events/s acknowledged in batches of {log['batch']} by the whole service on one "
        f"core; the states {caught_up}, and {result['behind']['waiting']:,} waited then; updater"
        f" {result['updater_us_per_event']:.0f} us an event, all processes "
        f"{sum(result['cpu_s_per_1000_events'].values()):.2f} s per 1,000 events; {result['stolen_s']} s stolen"
    )


def main() -> int:
    """Measure what is up."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--duration", type=int, default=30, help="seconds")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    try:
        result = measure(load(), duration_s=options.duration, seed=options.seed)
    except (RecsysError, ServiceError) as error:
        print(f"one_core: {error}", file=sys.stderr)
        return 1
    path = RESULTS / f"{result['time'][:10]}-one-core.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(f"{line(result)}\n\nWritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
