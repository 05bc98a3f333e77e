"""A user who was forgotten is nowhere any more, whoever dies meanwhile; everybody else is as before, to the byte."""

import asyncio
import fcntl
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyarrow.parquet as pq
import pytest
import redis

from recsys.archive import Archive
from recsys.datasets.dataset import Dataset, load, save
from recsys.datasets.junk import Junk
from recsys.erased_users import user_digest
from recsys.types import World
from service.archived_streams import DecisionStreams, EventStreams
from service.archiver import Archiver
from service.archives import decision_archive, erased_users, event_archive
from service.cli.data import import_dataset
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import STREAM, DecisionLog
from service.eraser import Eraser
from service.event_log import Event, EventLog, stream_key
from service.events import EventIntake
from service.forgetting import ORDERS, Forgetting
from service.gateway import Gateway
from service.http import HttpEdge
from service.imports import current_dataset
from service.junk import forget_in_junk, junk_of, keep_junk
from service.lookup import StateLookup
from service.merging import Merging
from service.rebuild import count_items_anew, rebuild
from service.recorded_answers import RecordedAnswers
from service.round_trips import RoundTrips
from service.schemas import Erasure
from service.settings import Settings
from service.stages import ColocatedStages
from service.state_keys import live_key, live_name, shard, state_key
from service.updater import Updater
from service.withdrawal import let_go, withdraw
from tests.service.conftest import BreakableStore
from tests.service.test_updater import catch_up
from tests.workers import end, start

pytestmark = pytest.mark.valkey
USER = "user-0003"
OTHERS = ["user-0004", "user-0005", "user-0006", "a visitor"]


def archivers_in(store: RoundTrips, settings: Settings) -> tuple[Archiver, Archiver]:
    events = Archiver(store, event_archive(settings), EventStreams(store, kept=1_000_000))
    return events, Archiver(
        store, decision_archive(settings), DecisionStreams(store, erased_users(settings), kept=1_000_000)
    )


def eraser_in(store: RoundTrips, settings: Settings, url: str) -> Eraser:
    return Eraser(
        store,
        Forgetting(store, refuse_s=settings.forget_refuse_s),
        *archivers_in(store, settings),
        erased_users(settings),
        data=settings.home_path / "data",
        withdraw=partial(withdraw, settings),
        let_go=partial(let_go, settings),
        forget_junk=partial(forget_in_junk, settings),
        recount=partial(count_items_anew, settings, url),
    )


def work(url: str, home: str) -> None:
    """One step of an eraser."""
    asyncio.run(eraser_in(RoundTrips(url, timeout_ms=5000, connections=1), Settings(home=home), url).step())


@dataclass
class Service:
    """All of a service in this process but Ray: a client of its edge, and what works in the background."""

    client: httpx.AsyncClient
    log: DecisionLog
    updater: Updater
    store: RoundTrips
    settings: Settings
    url: str
    sent: int = 0

    async def act(self, user: str, items: list[str]) -> list[dict[str, Any]]:
        rows = []
        for item in items:
            self.sent += 1
            now = datetime.now(UTC).isoformat()
            rows.append({"event_id": f"e{self.sent}", "type": "click", "user_id": user, "item_id": item, "ts": now})
        response = await self.client.post("/v1/events", json={"events": rows})
        await catch_up(self.updater)
        return response.json()["results"]

    async def ask(self, user: str) -> str:
        answer = await self.client.post("/v1/recommendations", json={"user_id": user, "count": 5})
        await self.log.flush()
        return answer.json()["recommendation_id"]

    async def archive(self) -> None:
        for one in archivers_in(self.store, self.settings):
            while await one.step():
                pass

    async def forget(self, user: str) -> dict[str, Any]:
        response = await self.client.delete(f"/v1/users/{user}")
        assert response.status_code == 202, response.text
        return response.json()

    async def erase(self) -> int:
        return await eraser_in(self.store, self.settings, self.url).step()


@asynccontextmanager
async def service(world: World, url: str, home: Path) -> AsyncIterator[Service]:
    settings = Settings(home=str(home), deadline_ms=10_000, forget_refuse_s=3600)
    store = RoundTrips(url, timeout_ms=5000, connections=4)
    log = DecisionLog(store, queue=100, stream_length=10_000)
    lookup = StateLookup(store)
    await lookup.refresh()
    gateway = Gateway(world, ColocatedStages(lookup), log, settings)
    intake = EventIntake(EventLog(store, limit=10_000), world.bundle.vocabulary, settings)
    records = DecisionRecords(DecisionStream(store), decision_archive(settings))
    recorded = RecordedAnswers(world.bundle.vocabulary, records, lambda _: world)
    nobody: Any = None
    merging = Merging(store, EventLog(store, limit=10_000), world.bundle.vocabulary)
    forgetting = Forgetting(store, refuse_s=settings.forget_refuse_s)
    edge = HttpEdge(gateway, intake, recorded, nobody, merging, forgetting, nobody)
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=edge), base_url="http://riffle") as client:
            yield Service(client, log, Updater(store), store, settings, url)
    finally:
        await store.close()


def everything_in(server: redis.Redis) -> Iterator[tuple[str, bytes]]:
    """Every key of a store and all that lies there, as one run of bytes each."""
    reads: dict[bytes, Any] = {
        b"string": server.get,
        b"hash": server.hgetall,
        b"stream": server.xrange,
        b"set": server.smembers,
        b"list": lambda key: server.lrange(key, 0, -1),
        b"zset": lambda key: server.zrange(key, 0, -1, withscores=True),
    }
    for key in server.scan_iter(count=1000):
        yield f"key {key!r}", key + repr(reads[server.type(key)](key)).encode() + _raw(reads[server.type(key)](key))


def _raw(value: Any) -> bytes:
    """All bytes within a reply; `repr` would hide those that are not ASCII."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    return b"".join(map(_raw, value)) if isinstance(value, (list, tuple, set)) else b""


def everything_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a folder: its name, its bytes and, of Parquet, what they decode to."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            decoded = repr(pq.read_table(path, partitioning=None).to_pydict()) if path.suffix == ".parquet" else ""
            yield f"file {path.relative_to(folder)}", str(path).encode() + path.read_bytes() + decoded.encode()


def places_of(user: str, server: redis.Redis, *folders: Path) -> set[str]:
    """Where the bytes of an id are found."""
    found = [*everything_in(server), *(one for folder in folders for one in everything_below(folder))]
    return {place for place, content in found if user.encode() in content}


def wait_for_rewritten_log(server: redis.Redis) -> None:
    """Until the store has written its append-only file anew and removed the one before."""
    deadline = time.monotonic() + 30
    folder = Path(server.config_get("dir")["dir"]) / server.config_get("appenddirname")["appenddirname"]
    while server.info("persistence")["aof_rewrite_in_progress"] or len(list(folder.glob("*.aof"))) > 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def import_into(home: Path, dataset: Dataset) -> None:
    save(dataset, home / "data" / dataset.name)
    current = {"name": dataset.name, "source": None, "positive_rating": Settings().positive_rating}
    (home / "data" / "current.json").write_text(json.dumps(current), "utf-8")


async def lived(here: Service, world: World) -> dict[str, list[str]]:
    """Events and lists of several users: some archived, some in the streams only; the ids of their answers."""
    items = world.bundle.vocabulary.item_id.tolist()
    answers: dict[str, list[str]] = {user: [] for user in (USER, *OTHERS)}
    for turn in range(3):
        for number, user in enumerate(answers):
            await here.act(user, items[10 * turn + number : 10 * turn + number + 5])
            answers[user].append(await here.ask(user))
        if turn < 2:
            await here.archive()
    return answers


def poison(server: redis.Redis) -> None:
    """Entries that mention the user and are no events, or of another shard: in the log and set aside."""
    event = Event(event_id="p", type="click", user_id=USER, item_id="i", ts_ms=1000, received_ms=1000, verb=2)
    other = (shard(USER) + 1) % 16
    for raw in (
        msgspec.msgpack.encode(event),
        msgspec.msgpack.encode({"a": ["map", {USER: 1}]}),
        b"\xc1" + USER.encode(),
    ):
        server.xadd(stream_key(other), {"e": raw})
    server.xadd(STREAM, {"d": msgspec.msgpack.encode({"query": {"user_id": USER}})})
    server.xadd(STREAM, {"d": b"\xc1" + USER.encode()})


async def test_no_store_has_the_id_any_more_and_others_are_as_before(
    served: World, synthetic_dataset: Dataset, breakable_store: BreakableStore, tmp_path: Path
) -> None:
    url, home, files = breakable_store.url, tmp_path / "home", breakable_store.settings.home_path
    import_into(home, synthetic_dataset)
    await asyncio.to_thread(rebuild, url, synthetic_dataset, event_archive(Settings(home=str(home))))
    junk = Junk(0, 1, flooding=(user_digest(USER),), blind=(user_digest(OTHERS[0]),))
    keep_junk(Settings(home=str(home)), "20261129-0123456789ab", [junk])
    with redis.Redis.from_url(url) as server:
        poison(server)
        server.set(state_key("0123abcd.7", USER), b"a state of another version")
        async with service(served, url, home) as here:
            answers = await lived(here, served)
            name = live_name(server.get(live_key()))
            others = [user for user in (*synthetic_dataset.user_id, "a visitor") if user != USER]
            states = server.mget([state_key(name, user) for user in others])
            records = [(await here.client.get(f"/v1/recommendations/{one}")).content for one in answers["user-0004"]]
            assert {"key b'riffle:decisions'", f"key {stream_key(shard(USER)).encode()!r}"} <= places_of(USER, server)
            in_files = {place.split("/")[0] for place in places_of(USER, server, home) if place.startswith("file")}
            assert in_files == {"file archive", "file data"}

            receipt = await here.forget(USER)
            refused = await here.act(USER, [served.bundle.vocabulary.item_id[0]])
            assert [(one["status"], one["error"]["code"]) for one in refused] == [(422, "forgotten_user")]
            assert await here.erase() == 1
            assert await here.erase() == 0
            assert await here.forget(USER) == (await here.client.get(f"/v1/erasures/{receipt['receipt_id']}")).json()
            wait_for_rewritten_log(server)
            assert places_of(USER, server, home, files) == set()
            assert junk_of(here.settings, "20261129-0123456789ab") == (msgspec.structs.replace(junk, flooding=()),)

            done = msgspec.convert(await here.forget(USER), Erasure)
            assert (done.receipt_id, done.status) == (receipt["receipt_id"], "done")
            assert done.removed == {
                "archived_events": 15, "events": 15 + 3, "dead_events": 3, "archived_decisions": 3,
                "decisions": 3 + 2, "states": 1, "imported_events": imported_of(synthetic_dataset, USER),
            }  # fmt: skip
            for identity in answers[USER]:
                gone = await here.client.get(f"/v1/recommendations/{identity}")
                assert (gone.status_code, gone.json()["type"]) == (410, "urn:riffle:problem:erased")
                verdict = (await here.client.post(f"/v1/recommendations/{identity}:replay")).json()
                assert verdict["outcome"] == "erased"
            for identity in (one for user in OTHERS for one in answers[user]):
                verdict = (await here.client.post(f"/v1/recommendations/{identity}:replay")).json()
                assert verdict["outcome"] == "identical"
            assert records == [
                (await here.client.get(f"/v1/recommendations/{one}")).content for one in answers["user-0004"]
            ]
            assert server.mget([state_key(name, user) for user in others]) == states
            await asyncio.to_thread(rebuild, url, current_dataset(here.settings), event_archive(here.settings))
            name = live_name(server.get(live_key()))
            assert server.mget([state_key(name, user) for user in others]) == states
            assert places_of(USER, server, home) == set()


def imported_of(dataset: Dataset, user: str) -> int:
    return int((dataset.events.user == dataset.user_id.index(user)).sum())


async def test_lists_asked_for_afterwards_leave_only_that_there_was_one(
    served: World, breakable_store: BreakableStore, tmp_path: Path
) -> None:
    async with service(served, breakable_store.url, tmp_path) as here:
        await here.act(USER, served.bundle.vocabulary.item_id.tolist()[:3])
        await here.forget(USER)
        await here.erase()
        identity, other = await here.ask(USER), await here.ask(OTHERS[0])
        with redis.Redis.from_url(breakable_store.url) as server:
            assert places_of(USER, server, tmp_path / "archive") == {"key b'riffle:decisions'"}
            await here.archive()
            assert places_of(USER, server, tmp_path / "archive") == set()
        assert (await here.client.get(f"/v1/recommendations/{identity}")).status_code == 410
        assert (await here.client.get(f"/v1/recommendations/{other}")).status_code == 200


async def test_what_was_trimmed_leaves_no_bytes_either(
    served: World, breakable_store: BreakableStore, tmp_path: Path
) -> None:
    stream = stream_key(shard(USER))
    async with service(served, breakable_store.url, tmp_path) as here:
        await here.act(USER, served.bundle.vocabulary.item_id.tolist()[:20])
        other = next(f"u{n}" for n in range(100) if shard(f"u{n}") == shard(USER))
        await here.act(other, served.bundle.vocabulary.item_id.tolist()[:3])
        archiver = Archiver(here.store, event_archive(here.settings), EventStreams(here.store, kept=1))
        while await archiver.step():
            pass
        with redis.Redis.from_url(breakable_store.url) as server:
            assert USER.encode() not in _raw(server.xrange(stream))
            assert USER.encode() in server.dump(stream)
            await here.forget(USER)
            await here.erase()
            assert USER.encode() not in server.dump(stream)
            assert other.encode() in server.dump(stream)


async def test_who_was_never_seen_is_forgotten_all_the_same_and_several_at_once(
    served: World, breakable_store: BreakableStore, tmp_path: Path
) -> None:
    async with service(served, breakable_store.url, tmp_path) as here:
        await here.act(USER, served.bundle.vocabulary.item_id.tolist()[:3])
        receipts = [await here.forget(user) for user in (USER, "nobody")]
        assert await here.erase() == 2
        found = [(await here.client.get(f"/v1/erasures/{one['receipt_id']}")).json() for one in receipts]
    assert [one["status"] for one in found] == ["done", "done"]
    assert [one["removed"] for one in found] == [{"archived_events": 3, "events": 3}, {}]
    assert set(erased_users(here.settings).read()) == {user_digest(USER), user_digest("nobody")}


async def test_who_was_merged_into_a_user_is_forgotten_with_them(
    served: World, breakable_store: BreakableStore, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    """Also over two steps, and who is known from the import only; who was merged into somebody else stays."""
    url, home = breakable_store.url, tmp_path / "home"
    import_into(home, synthetic_dataset)
    await asyncio.to_thread(rebuild, url, synthetic_dataset, event_archive(Settings(home=str(home))))
    items = [served.bundle.vocabulary.item_id[place] for place in range(4)]
    first, second, imported, other = "session-first", "session-second", "user-0007", "session-other"
    async with service(served, url, home) as here:
        for visitor in (first, other):
            await here.act(visitor, items[:2])
        for user, given in ((second, first), (USER, second), (USER, imported), ("user-0004", other)):
            answer = await here.client.post(f"/v1/users/{user}:merge", json={"from_user_id": given})
            assert answer.json()["merged"] > 0, answer.text
            await catch_up(here.updater)
        await here.archive()
        await here.forget(USER)
        while await here.erase():
            pass
        refused = [(await here.act(user, items[:1]))[0]["status"] for user in (USER, first, second, imported, other)]
    assert refused == [422, 422, 422, 422, 202]
    with redis.Redis.from_url(url) as server:
        wait_for_rewritten_log(server)
        for user in (USER, first, second, imported):
            assert places_of(user, server, home) == set()
        assert places_of(other, server, home)


def test_an_import_leaves_out_who_was_forgotten_before(tmp_path: Path) -> None:
    settings = Settings(home=str(tmp_path))
    before = import_dataset(settings, None, synthetic_only=True)
    gone = before.user_id[3]
    erased_users(settings).add({user_digest(gone): 1})
    read_meanwhile = current_dataset(settings)
    assert read_meanwhile is not None
    assert gone not in read_meanwhile.user_id  # also before an eraser has written it anew
    after = import_dataset(settings, None, synthetic_only=True)
    assert after.user_id == [user for user in before.user_id if user != gone]
    assert len(before.events) - len(after.events) == imported_of(before, gone)
    assert places_in_files(gone, tmp_path) == set()


def places_in_files(user: str, folder: Path) -> set[str]:
    return {place for place, content in everything_below(folder) if user.encode() in content}


@contextmanager
def held(archive: Archive) -> Iterator[None]:
    """An archive that somebody reads, so that nobody may write it."""
    with (archive.root / "archive.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@pytest.mark.parametrize("where", ["before the archive of events", "between the archives"])
async def test_an_eraser_that_is_killed_leaves_the_order_to_the_next_one(
    served: World, synthetic_dataset: Dataset, breakable_store: BreakableStore, tmp_path: Path, where: str
) -> None:
    url = breakable_store.url
    import_into(tmp_path / "home", synthetic_dataset)
    async with service(served, url, tmp_path / "home") as here:
        await lived(here, served)
        await here.archive()
        receipt = await here.forget(USER)
        archives = event_archive(here.settings), decision_archive(here.settings)
        with held(archives[0] if where.startswith("before") else archives[1]):
            worker = start(work, url, str(here.settings.home_path))
            deadline = time.monotonic() + 60
            while not erased_users(here.settings).read() or (
                where.startswith("between") and USER in archives[0].read(columns=["user_id"])["user_id"].to_pylist()
            ):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)
            assert worker.is_alive()
            end(worker)
        path = f"/v1/erasures/{receipt['receipt_id']}"
        assert (await here.client.get(path)).json() == receipt
        with redis.Redis.from_url(url) as server:
            assert server.hexists(ORDERS, receipt["receipt_id"])
            following = start(work, url, str(here.settings.home_path))
            await asyncio.to_thread(following.join)
            assert following.exitcode == 0
            following.close()
            assert (await here.client.get(path)).json()["status"] == "done"
            assert places_of(USER, server, here.settings.home_path) == set()


async def test_a_damaged_data_set_keeps_the_order_waiting(
    served: World, synthetic_dataset: Dataset, breakable_store: BreakableStore, tmp_path: Path
) -> None:
    import_into(tmp_path, synthetic_dataset)
    broken = tmp_path / "data" / synthetic_dataset.name / "users.parquet"
    whole = broken.read_bytes()
    broken.write_bytes(b"rubbish")
    async with service(served, breakable_store.url, tmp_path) as here:
        receipt = await here.forget(USER)
        with pytest.raises(Exception, match=r"users\.parquet"):
            await here.erase()
        path = f"/v1/erasures/{receipt['receipt_id']}"
        assert (await here.client.get(path)).json()["status"] == "pending"
        broken.write_bytes(whole)
        assert await here.erase() == 1
    assert USER not in load(broken.parent).user_id


async def test_a_store_that_may_not_rewrite_its_log_is_said_and_the_order_is_done(
    served: World, breakable_store: BreakableStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(breakable_store.url) as server:
        server.acl_setuser("default", enabled=True, nopass=True, commands=["-bgrewriteaof"], keys=["*"])
    async with service(served, breakable_store.url, tmp_path) as here:
        await here.forget(USER)
        assert await here.erase() == 1
    assert "append-only file" in caplog.text
