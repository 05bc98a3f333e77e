"""The Serve application on the running Ray head: deployed, found, asked whether it is ready."""

import hashlib
import json
import logging
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

import recsys
import service
from service.errors import StackError
from service.settings import Settings
from service.stack import processes, ray_head
from service.stack.log_key import log_key
from service.stack.ray_environment import environment

NAME = "riffle"
UPDATER = "riffle-features"
ITEM_UPDATER = "riffle-items"
ARCHIVER = "riffle-archive"
ROLLOUTS = "riffle-rollouts"
AUTOPILOT = "riffle-autopilot"
_READY_S = 120.0
_WARM_REQUESTS = 50


def url(settings: Settings) -> str:
    """Where the service answers on this machine."""
    return f"http://127.0.0.1:{settings.http_port}"


def dashboard_url(settings: Settings) -> str:
    """The Ray dashboard."""
    return f"http://127.0.0.1:{settings.dashboard_port}"


def deploy(settings: Settings, *, redis_url: str, bundle_id: str) -> None:
    """Bring the application up, or leave it as it is where it runs just so already.

    Args:
        bundle_id: What the traffic table has for champion; replicas that find no table begin with it.
    Raises:
        StackError: it did not become ready; the message has Serve's reason.
    """
    settings = msgspec.structs.replace(settings, log_key=log_key(settings))
    wanted = {"settings": msgspec.to_builtins(settings), "redis_url": redis_url}
    wanted |= {"ray": _head_identity(settings), "code": _code_digest()}
    record = _record(settings)
    if record.exists() and json.loads(record.read_text("utf-8")) == wanted and readiness(settings).get("ready"):
        return
    record.unlink(missing_ok=True)
    os.environ.update(environment(settings))  # before the first import of ray
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # what it has to say is said in our words
    ray.init(address=ray_head.address(settings), namespace="serve", log_to_driver=False, logging_level=logging.ERROR)
    try:
        options = HTTPOptions(host=settings.http_host, port=settings.http_port, keep_alive_timeout_s=30)
        serve.start(http_options=options, logging_config={"enable_access_log": False})
        applications = _applications(settings, redis_url=redis_url, bundle_id=bundle_id)
        try:
            # All at once: each waits for the start of its processes, and one after the other took 23 s instead of 13.
            serve.run_many([serve.RunTarget(target, name, route) for name, (target, route) in applications.items()])
            for name in serve.status().applications:  # of other shards or settings; until then it does no harm
                if name.startswith((UPDATER, AUTOPILOT)) and name not in applications:
                    serve.delete(name)
        except Exception as error:
            reasons = [one.message for one in serve.status().applications.values() if one.message]
            raise StackError(
                f"the service did not start: {'; '.join(reasons) or error}; logs are in "
                f"{settings.home_path / 'run' / 'ray' / 'ray' / 'session_latest' / 'logs' / 'serve'}"
            ) from error
    finally:
        ray.shutdown()
    _wait_until_ready(settings, bundle_id)
    for _ in range(_WARM_REQUESTS):  # through HAProxy to every gateway; leaves no decision record
        ask(settings, "/v1/recommendations", {"user_id": "riffle:warm-up", "validate_only": True})
    record.touch(mode=0o600)  # the address of the store may have a password
    record.write_text(json.dumps(wanted), "utf-8")


def _applications(settings: Settings, *, redis_url: str, bundle_id: str) -> dict[str, tuple[Any, str | None]]:
    """By its name, each application with its HTTP prefix; beside one another, so that none restarts another."""
    from service.app import (  # imports ray
        build,
        build_archiver,
        build_autopilot,
        build_item_updater,
        build_rollouts,
        build_updaters,
    )

    updaters = build_updaters(settings, redis_url=redis_url)
    return {
        NAME: (build(settings, redis_url=redis_url, bundle_id=bundle_id), "/"),
        **{f"{UPDATER}-{number}": (updater, None) for number, updater in enumerate(updaters)},
        ITEM_UPDATER: (build_item_updater(redis_url=redis_url), None),
        ARCHIVER: (build_archiver(settings, redis_url=redis_url), None),
        ROLLOUTS: (build_rollouts(settings, redis_url=redis_url), None),
        **({AUTOPILOT: (build_autopilot(settings), None)} if settings.autopilot else {}),
    }


def ask(settings: Settings, path: str, body: dict[str, Any], *, timeout_s: float = 10.0) -> dict[str, Any]:
    """POST to the running service.

    Raises:
        StackError: no answer, or not a 200.
    """
    return ask_at(url(settings) + path, body, timeout_s=timeout_s)


def ask_at(address: str, body: dict[str, Any], *, timeout_s: float = 10.0) -> dict[str, Any]:
    """POST to any URL; as `ask`."""
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"content-type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return json.load(response)
    except (OSError, ValueError) as error:
        raise StackError(f"{address} did not answer as expected: {error}; see `riffle doctor`") from error


def _wait_until_ready(settings: Settings, bundle_id: str) -> None:
    began = time.monotonic()
    while (last := readiness(settings)).get("bundle") != bundle_id or not last.get("ready"):
        if time.monotonic() - began > _READY_S:
            raise StackError(f"{url(settings)}/readyz did not become ready in {_READY_S:.0f} s: {last}")
        time.sleep(0.1)


def readiness(settings: Settings) -> dict[str, Any]:
    """The body of /readyz, empty where there is none."""
    try:
        with urllib.request.urlopen(f"{url(settings)}/readyz", timeout=2) as response:
            return json.load(response)
    except (OSError, ValueError):
        return {}


def store_url(settings: Settings) -> str:
    """The store of what was deployed last.

    Raises:
        StackError: nothing was.
    """
    try:
        return str(json.loads(_record(settings).read_text("utf-8"))["redis_url"])
    except (OSError, ValueError, KeyError) as error:
        raise StackError("nothing is deployed; `riffle serve` or `riffle up` does it") from error


def serves_autopilot(settings: Settings) -> bool | None:
    """Whether what answers was deployed with an autopilot beside it; None where nothing answers."""
    if not readiness(settings):
        return None
    try:
        return bool(json.loads(_record(settings).read_text("utf-8"))["settings"]["autopilot"])
    except (OSError, ValueError, KeyError):
        return None


def _head_identity(settings: Settings) -> list[Any]:
    recorded = processes.load(settings.home_path / "run" / "ray.json")
    return [recorded.pid, recorded.birth] if recorded else []


def _code_digest() -> str:
    """SHA-256 of the code that replicas run: other code is another deployment."""
    digest = hashlib.sha256()
    for package in (service, recsys):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _record(settings: Settings) -> Path:
    return settings.home_path / "run" / "application.json"
