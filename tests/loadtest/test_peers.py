"""The services that Riffle is compared with: that they give its answers, refuse bad input, and leave nothing behind."""

import http.client
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
import redis

from loadtest.peers import job
from loadtest.peers.job import PEERS, Job, Peer
from loadtest.peers.launch import ENVIRONMENT, PATH, Running, ask, started
from loadtest.peers.pipeline import Ask, Pipeline
from recsys.errors import RegistryError
from recsys.features.codec import pack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import recommend
from recsys.types import World
from service.errors import StackError
from service.item_snapshot import decode, snapshot_key
from service.overlaid_world import OverlaidWorlds
from service.settings import Settings
from service.state_keys import FIRST, live_key, live_name, state_key
from service.world import load_world
from tests import worlds
from tests.free_ports import free_port, ports_in_a_row

NOW_S = worlds.START_S + 400 * worlds.DAY_S
SETTINGS = Settings(explore=1.0, diversity=0.3)
STRANGER = "nobody knows me"
BAD_BODIES = [
    b"",
    b"[]",
    b"{}",
    b'{"user_id":1}',
    b'{"user_id":""}',
    b'{"user_id":"a","count":0}',
    b'{"user_id":"a","count":501}',
    b'{"user_id":"a","count":"20"}',
    b'{"user_id":"a","count":2.5}',
]


def asks_of(world: World, n: int) -> list[worlds.Ask]:
    """Requests as a peer takes them: a user and a count, with the settings of the service."""
    asks = worlds.random_asks(world, np.random.default_rng(5), n)
    return [worlds.Ask(history=one.history, count=one.count, now_s=NOW_S, explore=1.0, diversity=0.3) for one in asks]


def packed_states(world: World, asks: list[worlds.Ask]) -> list[bytes]:
    return pack(worlds.states_after(world, [one.history for one in asks]), SCHEMA_HASH)


# --- the pipeline ---


def test_lists_have_the_items_and_scores_of_recommend(world: World) -> None:
    asks = asks_of(world, 40)
    slates = recommend(world, worlds.batch_of(world, asks))
    asked = [Ask(one.count, seed, NOW_S) for seed, one in enumerate(asks)]
    found = Pipeline(world, SETTINGS, FIRST).recommend(asked, packed_states(world, asks))
    assert [[item["item_id"] for item in items] for items in found] == [
        worlds.names(world, slates, row) for row in range(len(asks))
    ]
    assert [item["score"] for items in found for item in items] == slates.score.tolist()
    assert any(items for items in found)


def test_list_is_the_same_alone_and_in_a_batch(world: World) -> None:
    asks = asks_of(world, 12)
    asked = [Ask(one.count, seed, NOW_S) for seed, one in enumerate(asks)]
    packed = packed_states(world, asks)
    pipeline = Pipeline(world, SETTINGS, FIRST)
    alone = [pipeline.recommend([one], [state])[0] for one, state in zip(asked, packed, strict=True)]
    assert pipeline.recommend(asked, packed) == alone


def test_state_that_does_not_decode_is_a_missing_one(world: World) -> None:
    pipeline, one = Pipeline(world, SETTINGS, FIRST), Ask(20, 1, NOW_S)
    damaged, missing = pipeline.recommend([one, one], [b"no state", None])
    assert damaged == missing
    assert len(missing) == 20


def test_state_is_read_where_the_service_keeps_it(world: World) -> None:
    assert Pipeline(world, SETTINGS, "abc.3").key("somebody") == state_key("abc.3", "somebody")


def test_no_two_requests_draw_with_the_same_seed() -> None:
    before_s = int(time.time())
    drawn = [Ask.now(20) for _ in range(100)]
    assert len({one.seed for one in drawn}) == 100
    assert all(before_s <= one.now_s <= time.time() and one.count == 20 for one in drawn)


# --- the job ---


def test_job_goes_through_the_environment_unchanged() -> None:
    told = Job(
        settings=Settings(candidates=50),
        bundle="b",
        redis_url="redis://h",
        namespace="n",
        snapshot="",
        folder="/f",
        port=1,
    )
    assert job.of_environment(told.environment()) == told


@pytest.mark.parametrize("environ", [{}, {"PEER_JOB": "{"}, {"PEER_JOB": '{"port": 1}'}])
def test_process_without_a_job_is_told_where_peers_are_started(environ: dict[str, str]) -> None:
    with pytest.raises(RuntimeError, match=r"PEER_JOB.*loadtest\.peers\.launch"):
        job.of_environment(environ)


# --- starting and ending ---


@pytest.fixture
def runaway(monkeypatch: pytest.MonkeyPatch) -> str:
    """A peer whose child leaves its session and ignores SIGTERM."""
    monkeypatch.setitem(PEERS, "runaway", Peer("tests.loadtest.runaway_peer"))
    monkeypatch.setattr("loadtest.peers.launch._GRACE_S", 0.5)
    return "runaway"


@pytest.mark.valkey
def test_what_a_peer_started_ends_with_it(runaway: str, published_home: Settings, store_url: str) -> None:
    port = free_port()
    with started(runaway, published_home, "champion", store_url, port, python=Path(sys.executable)) as peer:
        child = json.loads(ask(peer.url, "a", 1)[1])["child"]
        running = {process.pid for process in peer.processes()}
        assert {child, peer.leader.pid} <= running
    assert not any(psutil.pid_exists(pid) for pid in running)
    assert not peer.folder.exists()
    with pytest.raises(ConnectionRefusedError):
        ask(peer.url, "a", 1)


@pytest.mark.valkey
def test_peer_ends_when_the_comparison_fails(runaway: str, published_home: Settings, store_url: str) -> None:
    running: list[psutil.Process] = []

    def compare() -> None:
        with started(runaway, published_home, "champion", store_url, free_port(), python=Path(sys.executable)) as peer:
            running.extend(peer.processes())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compare()
    assert len(running) == 2
    assert not any(process.is_running() for process in running)


@pytest.mark.valkey
def test_peer_that_dies_at_its_start_is_quoted(
    monkeypatch: pytest.MonkeyPatch,
    published_home: Settings,
    store_url: str,
) -> None:
    monkeypatch.setitem(PEERS, "absent", Peer("loadtest.peers.absent"))
    with (
        pytest.raises(StackError, match=r"absent did not start(.|\n)*No module named"),
        started("absent", published_home, "champion", store_url, free_port(), python=Path(sys.executable)),
    ):
        pass


def begin(**changed: object) -> None:
    """Start a peer with one argument changed."""
    arguments = {"name": "fastapi_uvicorn", "bundle_id": "champion", "redis_url": "redis://127.0.0.1:1", **changed}
    arguments = {"port": free_port(), "python": Path(sys.executable), **arguments}
    with started(**arguments):  # type: ignore[arg-type]
        pass


def test_what_cannot_be_started_is_refused_with_a_reason(published_home: Settings, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"no peer 'flask'.*fastapi_uvicorn"):
        begin(settings=published_home, name="flask")
    with pytest.raises(StackError, match=r"none.*make \.venv-peers/\.done"):
        begin(settings=published_home, python=tmp_path / "none")
    with pytest.raises(StackError, match="at least one worker; 0"):
        begin(settings=published_home, workers=0)
    with pytest.raises(StackError, match=r"store does not answer.*riffle doctor"):
        begin(settings=published_home)
    with pytest.raises(RegistryError):
        begin(settings=published_home, bundle_id="000000000000")


@pytest.mark.valkey
def test_port_of_somebody_else_is_refused(published_home: Settings, store_url: str) -> None:
    taken = redis.connection.parse_url(store_url)["port"]
    with pytest.raises(StackError, match=f"port {taken} is taken"):
        begin(settings=published_home, redis_url=store_url, port=taken)


# --- real peers ---


@pytest.fixture(scope="module")
def plain(published_home: Settings) -> Settings:
    """No chance in the lists."""
    return msgspec.structs.replace(published_home, explore=0.0)


@pytest.fixture(scope="module")
def fastapi(plain: Settings, store_url: str) -> Iterator[Running]:
    """FastAPI on uvicorn, from the packages of this environment."""
    for package in ("fastapi", "uvicorn", "uvloop", "httptools"):
        pytest.importorskip(package)
    with started(
        "fastapi_uvicorn", plain, "champion", store_url, free_port(), workers=1, python=Path(sys.executable)
    ) as peer:
        yield peer


def assert_answers_as_riffle(url: str, settings: Settings, store: str) -> None:
    """Known users and a stranger get what `recommend` gives with the store's states and item stats of now."""
    with redis.Redis.from_url(store) as client:
        namespace = live_name(client.get(live_key()))
        snapshot = client.get(snapshot_key(namespace))
        built = load_world(settings)
        world = OverlaidWorlds(built).of(decode(snapshot))
        assert world.item_stats.version != built.item_stats.version
        users = ["user-0000", "user-0007", "user-0119", STRANGER]
        states = client.mget([state_key(namespace, user) for user in users])
    assert [state is None for state in states] == [False, False, False, True]
    pipeline = Pipeline(world, settings, namespace)
    for user, state in zip(users, states, strict=True):
        before_s = int(time.time())
        status, body = ask(url, user, 20)
        asked = [Ask(20, 0, now_s) for now_s in range(before_s, int(time.time()) + 1)]
        assert status == 200, body
        assert json.loads(body)["items"] in pipeline.recommend(asked, [state] * len(asked))


@pytest.mark.valkey
def test_uvicorn_answers_over_http_as_riffle_does(fastapi: Running, plain: Settings, store_url: str) -> None:
    assert_answers_as_riffle(fastapi.url, plain, store_url)


@pytest.mark.valkey
@pytest.mark.parametrize("body", BAD_BODIES)
def test_bad_body_is_refused(fastapi: Running, body: bytes) -> None:
    assert status_of(fastapi.url, body) == 422


def status_of(url: str, body: bytes) -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request("POST", PATH, body, {"content-type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.valkey
@pytest.mark.e2e
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_answers_as_riffle_does_and_refuses_a_bad_count(
    name: str,
    plain: Settings,
    store_url: str,
) -> None:
    if not (ENVIRONMENT / ".done").exists():
        pytest.skip("`make .venv-peers/.done` makes the environment of the peers")
    with started(name, plain, "champion", store_url, ports_in_a_row()) as peer:
        assert_answers_as_riffle(peer.url, plain, store_url)
        assert status_of(peer.url, b'{"user_id":"a","count":501}') in (400, 422)
        running = peer.processes()
    assert not any(process.is_running() for process in running)
