"""The model changes under load, through the real stack: no request fails, no list is of two bundles, memory stays."""

import itertools
import re
import shutil
import threading
from collections import Counter
from dataclasses import dataclass, field

import httpx
import psutil
import pytest

from service.imports import imported
from service.stack import valkey
from service.traffic import changes, switching
from service.traffic.document import Traffic
from service.traffic.table import TrafficTable, on_table
from service.world import registry
from tests.e2e.conftest import Riffle

pytestmark = pytest.mark.e2e

SWAPS = 100


@dataclass
class Load:
    """Clients that ask without a pause until they are told to stop."""

    riffle: Riffle
    clients: int = 4
    statuses: Counter[int] = field(default_factory=Counter)
    bundles: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)  # lists by stage
    took_ms: list[float] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self._done = threading.Event()
        users = itertools.cycle(imported(self.riffle.settings).user_id[:40])
        self._threads = [threading.Thread(target=self._ask, args=(users,)) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, users: "itertools.cycle[str]") -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.riffle.settings.http_port}", timeout=10) as client:
            while not self._done.is_set():
                answer = client.post("/v1/recommendations", json={"user_id": next(users), "deadline_ms": 5000})
                self.statuses[answer.status_code] += 1
                self.took_ms.append(answer.elapsed.total_seconds() * 1000)
                body = answer.json()
                self.bundles[body["bundle"]] += 1
                self.degraded.update({one["stage"] for one in body["degraded"]})


@pytest.fixture(scope="module")
def pair(colocated: httpx.Client, riffle: Riffle) -> tuple[str, str]:
    """The champion, and another that has learnt with another seed."""
    champion = str(registry(riffle.settings).champion())
    said = riffle.must("train", "--no-promote", RIFFLE_SEED="8")
    (other,) = re.findall(r"published (\S+)", said)
    assert other != champion == colocated.get("/readyz").json()["bundle"]
    return champion, other


def gateways_mb(riffle: Riffle) -> float:
    """Private memory of the gateways of this stack: what they share is not theirs alone."""
    mine = {str(riffle.settings.home_path)}
    total = 0
    for process in psutil.process_iter(["cmdline", "environ"]):
        line, environ = process.info["cmdline"] or [], process.info["environ"] or {}
        if "Gateway" in " ".join(line) and environ.get("RIFFLE_HOME") in mine:
            total += process.memory_full_info().uss
    return total / 2**20


def on_the_table(riffle: Riffle, work: object) -> object:
    url = valkey.address(riffle.settings)
    assert url is not None
    return on_table(url, work)  # type: ignore[arg-type]


def test_a_promotion_reaches_what_runs_and_a_rollback_takes_two_seconds_at_most(
    pair: tuple[str, str], riffle: Riffle, colocated: httpx.Client
) -> None:
    champion, other = pair
    with Load(riffle) as load:
        said = riffle.must("bundles", "promote", other, "--reason", "to see it")
        assert re.search(r"everywhere after [01]\.\d s", said)
        ready = colocated.get("/readyz").json()
        assert (ready["ready"], ready["reasons"], ready["bundle"]) == (True, [], other)
        back = riffle.must("rollback", "--reason", "seen")
        assert re.search(rf"everybody gets {champion} again, everywhere after [01]\.\d s", back)
    assert set(load.statuses) == {200}
    assert set(load.bundles) == {champion, other}
    assert registry(riffle.settings).champion() == champion
    audit = [(one.to_id, one.reason) for one in registry(riffle.settings).audit()]
    assert audit[-2:] == [(other, "to see it"), (champion, "seen")]
    assert other in riffle.must("traffic")
    assert "to see it" in riffle.must("traffic", "history")


def test_a_rollback_needs_no_registry_and_the_registry_learns_of_it_later(
    pair: tuple[str, str], riffle: Riffle, colocated: httpx.Client
) -> None:
    champion, other = pair
    riffle.must("bundles", "promote", other, "--reason", "once more")
    root = registry(riffle.settings).root
    shutil.move(root, root.with_name("away"))
    try:
        said = riffle.must("rollback", "--reason", "without a registry")
        assert "The registry could not be told" in said
        assert colocated.get("/readyz").json()["bundle"] == champion
    finally:
        shutil.rmtree(root, ignore_errors=True)
        shutil.move(root.with_name("away"), root)
    assert registry(riffle.settings).champion() in (champion, other)  # the rollout controller may have told it already
    assert f"serving {champion}" in riffle.must("serve")
    assert registry(riffle.settings).champion() == champion


def test_a_bundle_that_is_damaged_for_the_replicas_halts_the_promotion(
    pair: tuple[str, str], riffle: Riffle, colocated: httpx.Client
) -> None:
    champion, _ = pair

    async def promote(table: TrafficTable) -> None:
        await switching.promote(table, "20200101-0123456789ab", who="test", reason="nobody has it")

    with pytest.raises(Exception, match=r"could not be loaded by Gateway .*nothing was switched"):
        on_the_table(riffle, promote)
    assert colocated.get("/readyz").json()["bundle"] == champion


def test_a_hundred_swaps_under_load_fail_no_request_mix_no_list_and_leave_memory_as_it_was(
    pair: tuple[str, str], riffle: Riffle
) -> None:
    async def swap(table: TrafficTable) -> list[float]:
        took = []
        for number in range(SWAPS):
            to = pair[(number + 1) % 2]

            def promoted(traffic: Traffic, to: str = to) -> Traffic:
                return changes.promoted(traffic, to)

            took.append((await switching.switch(table, promoted, who="test", reason=f"swap {number}"))[1])
        return took

    with Load(riffle) as load:
        began = gateways_mb(riffle)
        took = on_the_table(riffle, swap)
        ended = gateways_mb(riffle)
    assert set(load.statuses) == {200}
    assert set(load.degraded) <= {"features"}  # a busy machine; a bundle that is taken away degrades other stages
    assert load.degraded["features"] <= len(load.took_ms) // 100
    assert min(load.bundles[one] for one in pair) > 200
    assert max(took) < 2  # type: ignore[call-overload]
    assert ended < 1.1 * began
    assert sorted(load.took_ms)[int(0.99 * len(load.took_ms))] < 250
    said = riffle.must("replay", "--sample", "1000")
    assert re.search(r"[1-9][\d,]* identical, 0 different", said), said
