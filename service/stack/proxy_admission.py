"""HAProxy with two more rules: lists that no gateway can make in time are refused before they reach one, and a trace
is begun by whom we trust alone.

Those that reach one tell it since when they wait, so that the wait in between counts as well.

A refusal by a gateway costs its core many times what one by HAProxy costs: in a flood of ten times the capacity the
refusals of gateways would leave no time for answers (decision 0024). Ray Serve writes HAProxy's configuration and has
no room for such rules, but it lets an operator name the binary: this script stands there, adds them to the file and
becomes the real HAProxy. It runs at each reload, so it imports nothing but the standard library.

    proxy_admission.py BINARY PER_GATEWAY TRUSTED -f haproxy.cfg ...
"""

import json
import os
import re
import sys
from pathlib import Path

_ROUTE = re.compile(r"^    use_backend (\S+) if is_(\S+)$", re.MULTILINE)
_LISTS = "/v1/recommendations /v1/similar"
# Of the requests that may be under way, the share from which on these are refused, as an ACL.
_LIMITS = (("low", 0.5, "riffle_low"), ("normal", 1.0, "!riffle_high"), ("high", 1.5, ""))
_ARRIVED = "x-riffle-arrived"  # service.arrival.HEADER
_ROOM = "x-riffle-room"  # service.arrival.ROOM_HEADER
_TRACE = ("traceparent", "tracestate")  # service.telemetry.traceparent
_PROBLEM = {
    "type": "urn:riffle:problem:overloaded",
    "title": "Overloaded",
    "status": 429,
    "detail": "as many requests as the gateways can take are under way; try again later",
}


def with_shedding(config: str, per_gateway: int) -> str:
    """The configuration with the rule in front of its first route; as it is where it has none.

    Which priority a request has is read from its body: a field of that name in a string or a nested object counts too.

    Args:
        per_gateway: Requests of normal priority under way per gateway that is up; beyond them they are refused. It
            holds until the first answer says how many its gateway has room for.
    """
    first = _ROUTE.search(config)
    if first is None or first[1] != first[2]:
        return config
    backend = first[1]
    body = json.dumps(_PROBLEM).replace("\\", "\\\\").replace('"', '\\"').replace(" ", "\\ ")
    refuse = (
        "http-request return status 429 content-type application/problem+json hdr retry-after 1 "
        f"hdr cache-control no-store string {body} if riffle_lists"
    )
    lines = [
        f"acl riffle_lists path {_LISTS}",
        "http-request wait-for-body time 1s if riffle_lists METH_POST",
        f"http-request set-header {_ARRIVED} %[date(0,us)] if riffle_lists",
        *(f"acl riffle_{name} req.body -m reg {_of_priority(name)}" for name in ("low", "high")),
    ]
    lines.append(f"http-request set-var(txn.riffle_room) var(proc.riffle_room,{per_gateway})")
    for name, share, whose in _LIMITS:
        limit = f"nbsrv({backend}),mul(txn.riffle_room),mul({round(100 * share)}),div(100)"
        lines.append(f"http-request set-var(txn.riffle_{name}) {limit}")
        lines.append(f"{refuse} {whose} {{ be_conn({backend}),sub(txn.riffle_{name}) -m int ge 0 }}")
    lines.append(f"http-response set-var(proc.riffle_room) res.hdr({_ROOM}),add(0) if {{ res.hdr({_ROOM}) -m found }}")
    lines.append(f"http-response del-header {_ROOM}")
    rule = "".join(f"    {line}\n" for line in lines)
    return config[: first.start()] + rule + config[first.start() :]


def with_trust(config: str, trusted: str) -> str:
    """The configuration with the headers of a trace taken away from everybody else; as it is where it has no route.

    Whoever decides that a request is traced decides what it costs, and in whose trace it is seen.

    Args:
        trusted: Addresses and networks with commas between them; "": nobody.
    """
    first = _ROUTE.search(config)
    if first is None:
        return config
    lines = [f"acl riffle_trusted src {trusted.replace(',', ' ')}"] if trusted else []
    lines += [f"http-request del-header {name}{' unless riffle_trusted' if trusted else ''}" for name in _TRACE]
    return config[: first.start()] + "".join(f"    {line}\n" for line in lines) + config[first.start() :]


def _of_priority(name: str) -> str:
    """A regular expression for a JSON body with this priority, as HAProxy reads it."""
    return f'\\"priority\\"[[:space:]]*:[[:space:]]*\\"{name}\\"'


def main(arguments: list[str]) -> None:
    """Add the rules to the file after `-f`, and go on as HAProxy."""
    binary, per_gateway, trusted, *rest = arguments
    path = Path(rest[rest.index("-f") + 1])
    written = path.with_suffix(".riffle")
    config = with_trust(with_shedding(path.read_text("utf-8"), int(per_gateway)), trusted)
    written.write_text(config, "utf-8")
    written.replace(path)
    os.execv(binary, [binary, *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
