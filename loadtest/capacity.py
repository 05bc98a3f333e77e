"""Capacity and tail latency of the running stack, and the floors beneath it, all in one run.

    python -m loadtest.capacity            (make bench)

Warm-up, then wrk in a closed loop for the capacity, then an open loop at a share of that rate for the tail, GET /livez
for what a request costs without us, and the compute in process. One JSON file in results/, one Markdown row printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import redis

from loadtest import compute, machine, wrk
from loadtest.crowd import Crowd, known_users
from recsys.errors import RecsysError
from service.decisions import STREAM
from service.errors import ServiceError, StackError
from service.settings import Settings, load
from service.stack import application

RESULTS = Path(__file__).with_name("results")
PATH = "/v1/recommendations"
COUNT = 20
BODIES = 20_000
OPEN_LOOP_SHARE = 0.6  # of the measured capacity
SAMPLE_EVERY_S = 0.25  # answers looked into while wrk runs, which itself does not read them
COMPUTE_USERS = 512
COMPUTE_S = 2.0
FLUSH_S = 0.5  # decision records follow their answers within this
_GRACE_S = 60.0


class Deployed(msgspec.Struct, frozen=True):
    """What `riffle up` wrote down when it deployed: settings and bundle as they serve now."""

    settings: Settings
    redis_url: str
    bundle: str


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Of one run; durations in seconds."""

    duration: int
    warm_up: int
    connections: int
    seed: int
    user_ids: Path | None
    results: Path
    rate: float | None = None  # of the open loop; none for OPEN_LOOP_SHARE of the capacity


def deployed(settings: Settings) -> Deployed:
    """What serves now.

    Raises:
        StackError: nothing of this home is up and ready.
    """
    record = settings.home_path / "run" / "application.json"
    serving = application.readiness(settings).get("bundle")
    try:
        found = msgspec.json.decode(record.read_bytes(), type=Deployed)
    except (OSError, msgspec.DecodeError):
        found = None
    if found is None or serving != found.bundle:
        raise StackError(f"no stack of {settings.home}/ answers at {application.url(settings)}; run `riffle up` first")
    return found


def measure(options: Options) -> dict[str, Any]:
    """The whole run; minutes.

    Raises:
        ServiceError, RecsysError: no wrk, no stack, no users.
    """
    wrk.find()
    settings = load()
    stack = deployed(settings)
    crowd = Crowd(known_users(options.user_ids), seed=options.seed)
    base = application.url(settings)
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        users = crowd.draw(BODIES)
        file.writelines(json.dumps({"user_id": user, "count": COUNT}) + "\n" for user in users)
        file.flush()
        bodies = Path(file.name)
        _say(f"warming up, {options.warm_up} s")
        wrk.measure(base + PATH, connections=options.connections, duration_s=options.warm_up, bodies=bodies)
        stolen_s = [machine.stolen_s()]
        _say(f"closed loop, {options.connections} connections, {options.duration} s")
        closed, degraded, decisions = _closed_loop(settings, stack, options, bodies, users)
        stolen_s.append(machine.stolen_s())
        rate = options.rate or round(OPEN_LOOP_SHARE * closed.rps, 1)
        _say(f"open loop at {rate:,} requests/s, {options.duration} s")
        tail = _open_loop(base + PATH, bodies, rate, options)
        stolen_s.append(machine.stolen_s())
    memory = machine.stack_memory(settings)
    floor_s = max(1, options.duration // 4)
    _say(f"GET /livez, {floor_s} s")
    floor = wrk.measure(f"{base}/livez", connections=options.connections, duration_s=floor_s)
    _say("compute in process")
    alone = _compute(stack, users[:COMPUTE_USERS])
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "topology": stack.settings.topology,
        "bundle": stack.bundle,
        "settings": _public(stack.settings),
        "load": {
            "seed": options.seed,
            "count": COUNT,
            "connections": options.connections,
            "warm_up_s": options.warm_up,
        },
        # A pause of the whole machine is in every latency; p99 at one load was 30 ms with .1 s stolen, 92 ms with 2 s.
        "stolen_s": dict(zip(("closed_loop", "open_loop"), np.round(np.diff(stolen_s), 2).tolist(), strict=True)),
        "closed_loop": {**_of(closed), "degraded_sampled": degraded, "decisions": decisions},
        "open_loop": tail,
        "livez": _of(floor),
        "compute": alone,
        "limit_rps": _limit(floor.rps, alone, machine.describe()["cores"], options.connections, stack.settings),
        "memory": memory,
    }


def row(result: dict[str, Any]) -> str:
    """The result as two lines of header and one of a Markdown table."""
    closed, tail = result["closed_loop"], result["open_loop"]
    failed = closed["non_2xx"] + closed["socket_errors"] + sum(tail["errors"].values())
    latency = tail["latency_ms"]
    memory = result["memory"]["total_mb"]
    cells = {
        "topology": result["topology"],
        "commit": result["commit"],
        "requests/s": f"{closed['rps']:,.0f}",
        "p50 / p99 ms": f"{closed['p50_ms']:.1f} / {closed['p99_ms']:.1f}",
        "open loop, requests/s": f"{tail['achieved_rps']:,.0f} of {tail['intended_rps']:,.0f}",
        "p50 / p99 / p99.9 ms": f"{latency['p50']:.1f} / {latency['p99']:.1f} / {latency['p99.9']:.1f}",
        "failed": f"{failed:,}",
        "/livez requests/s": f"{result['livez']['rps']:,.0f}",
        "of the limit": f"{closed['rps'] / result['limit_rps']:.0%}",
        "stolen s": f"{result['stolen_s']['closed_loop']:.1f} / {result['stolen_s']['open_loop']:.1f}",
        "memory MB": f"{memory['pss'] or memory['rss']:,.0f}",
    }
    return "\n".join(
        f"| {' | '.join(line)} |"
        for line in (list(cells), ["---"] * len(cells), [str(cell) for cell in cells.values()])
    )


def _closed_loop(
    settings: Settings, stack: Deployed, options: Options, bodies: Path, users: list[str]
) -> tuple[wrk.Measured, dict[str, int], dict[str, int] | None]:
    """wrk's counts; how many of the answers looked into meanwhile were degraded; how many were put on record."""
    time.sleep(FLUSH_S)
    before = _decisions(stack)
    process = wrk.start(
        application.url(settings) + PATH,
        connections=options.connections,
        duration_s=options.duration,
        bodies=bodies,
    )
    sampled = {"answers": 0, "degraded": 0, "failed": 0}
    for user in users:
        if process.poll() is not None:
            break
        try:
            answer = application.ask(settings, PATH, {"user_id": user, "count": COUNT}, timeout_s=2)
            sampled["answers"] += 1
            sampled["degraded"] += bool(answer["degraded"])
        except StackError:
            sampled["failed"] += 1
        time.sleep(SAMPLE_EVERY_S)
    measured = wrk.finish(process, duration_s=options.duration)
    time.sleep(FLUSH_S)
    after = _decisions(stack)
    if before is None or after is None:
        return measured, sampled, None
    answered = measured.requests - measured.non_2xx + sampled["answers"]
    return measured, sampled, {"answered": answered, "written": after - before}


def _decisions(stack: Deployed) -> int | None:
    """Decision records ever written; None where the store's user may not ask."""
    try:
        with redis.Redis.from_url(stack.redis_url, socket_timeout=5) as client:
            return int(client.xinfo_stream(STREAM)["entries-added"])
    except redis.RedisError:
        return None


def _open_loop(url: str, bodies: Path, rate: float, options: Options) -> dict[str, Any]:
    command = ["loadtest.open_loop", url, "--bodies", str(bodies), "--rate", str(rate)]
    return _child([*command, "--duration", str(options.duration), "--seed", str(options.seed)], b"", options.duration)


def _compute(stack: Deployed, user_ids: list[str]) -> dict[str, Any]:
    job = compute.Job(stack.bundle, stack.redis_url, user_ids, COMPUTE_S)
    return _child(["loadtest.compute"], msgspec.json.encode(job), COMPUTE_S * len(compute.BATCHES))


def _child(module: list[str], given: bytes, lasts_s: float) -> dict[str, Any]:
    """The JSON that a module of ours prints, run in a process of its own."""
    command = [sys.executable, "-m", *module]
    try:
        environ = {**os.environ, **compute.ONE_THREAD}
        done = subprocess.run(command, input=given, env=environ, capture_output=True, timeout=lasts_s + _GRACE_S)
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"{module[0]} did not end in {lasts_s + _GRACE_S:.0f} s; is the machine overloaded?"
        ) from error
    if done.returncode:
        raise StackError(f"{module[0]} failed: {done.stderr.decode('utf-8', 'replace').strip()[-600:]}")
    return json.loads(done.stdout)


def _limit(floor_rps: float, alone: dict[str, Any], cores: int, connections: int, settings: Settings) -> float:
    """1 / (1 / floor + 1 / compute): what is left of the machine when a request costs its floor and its compute.

    The compute is that of the largest measured batch that the connections can fill in every gateway.
    """
    batch = max(b for b in compute.BATCHES if b <= max(1, connections // settings.gateways))
    compute_rps = cores * 1e3 / alone["batch"][str(batch)]["cpu_ms_per_request"]
    return round(1 / (1 / floor_rps + 1 / compute_rps), 1)


def _of(measured: wrk.Measured) -> dict[str, Any]:
    return {"rps": round(measured.rps, 1), **msgspec.to_builtins(measured)}


def _public(settings: Settings) -> dict[str, Any]:
    """The settings that bear on speed: no address, no path."""
    private = ("home", "redis_url")
    return {name: value for name, value in msgspec.to_builtins(settings).items() if name not in private}


def _say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure what is up; the exit code is 1, with one sentence, where that cannot be done."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--duration", type=int, default=60, help="seconds of each of the two loops")
    parser.add_argument("--warm-up", type=int, default=10, help="seconds before them")
    parser.add_argument("--connections", type=int, default=16, help="of the closed loop")
    parser.add_argument("--rate", type=float, help="requests/s of the open loop; default: 60 %% of the capacity")
    parser.add_argument("--seed", type=int, default=7, help="who asks, and when")
    parser.add_argument("--user-ids", type=Path, help="file of user ids, one a line; default: the imported data set")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    options = Options(**vars(parser.parse_args()))
    if options.rate is not None and options.rate <= 0:
        parser.error("--rate must be above 0")
    try:
        result = measure(options)
    except (RecsysError, ServiceError) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 1
    options.results.mkdir(parents=True, exist_ok=True)
    at = f"-{options.rate:g}" if options.rate else ""
    path = options.results / f"{result['time'][:10]}-{result['topology']}{at}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(f"{row(result)}\n\nWritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
