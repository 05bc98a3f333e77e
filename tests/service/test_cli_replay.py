"""`riffle replay`: which records it takes, what it prints, and what its exit code says."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import redis
import typer
from hypothesis import given
from hypothesis import strategies as st

from recsys.types import World
from service.cli.moments import moment_ms
from service.decisions import STREAM, Decision, DecisionLog
from service.gateway import Gateway
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest, SimilarRequest
from service.settings import Settings
from service.stack import application
from tests.service.conftest import BreakableStore
from tests.service.gateways import colocated
from tests.service.test_cli import Home, refused

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("30s", NOW_MS - 30_000),
        ("15m", NOW_MS - 900_000),
        ("2h", NOW_MS - 7_200_000),
        ("7d", NOW_MS - 604_800_000),
        ("999999999999d", 0),
        ("2023-11-14T22:13:20Z", NOW_MS),
        ("2023-11-14T23:13:19.250+01:00", NOW_MS - 750),
        ("1969-12-31T00:00:00Z", 0),
    ],
)
def test_moments_and_durations_are_understood(text: str, ms: int) -> None:
    assert moment_ms(text, NOW_MS) == ms


@given(moment=st.datetimes(min_value=datetime(1971, 1, 1), timezones=st.just(UTC)))
def test_every_moment_of_utc_is_read_back_to_the_millisecond(moment: datetime) -> None:
    ms = moment_ms(moment.isoformat(), 2**60)
    assert abs(ms - moment.timestamp() * 1000) < 1


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2 h", "2w", "yesterday", "2023-11-14T22:13:20", "2023-11-14"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is neither"):
        moment_ms(text, NOW_MS)


@pytest.mark.parametrize(("text", "why"), [("0h", "is no time at all"), ("2023-11-14T22:13:21Z", "is in the future")])
def test_time_in_which_nothing_can_have_been_recorded_is_refused(text: str, why: str) -> None:
    with pytest.raises(typer.BadParameter, match=why):
        moment_ms(text, NOW_MS)


async def _serve(world: World, states_url: str, url: str) -> list[str]:
    store = RoundTrips(url, timeout_ms=2000, connections=1)
    log = DecisionLog(store, queue=100, stream_length=1000)
    async with colocated(states_url) as stages:
        gateway = Gateway(world, stages, log, Settings(deadline_ms=10_000))
        answers = [await gateway.recommend(RecommendationRequest(user_id=f"user-{n:04d}")) for n in range(5)]
        await gateway.similar(SimilarRequest(item_ids=[world.bundle.vocabulary.item_id[0]]))
        await log.flush()
    await store.close()
    return [answer["recommendation_id"] for answer in answers]


@pytest.fixture
def deployed(tmp_path: Path, published_home: Settings, breakable_store: BreakableStore) -> Home:
    """A home with a published bundle whose service was deployed on a store of its own."""
    home = Home(tmp_path)
    state = tmp_path / "state"
    record = application._record(Settings(home=str(state)))
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"redis_url": breakable_store.url}), "utf-8")
    (state / "registry").symlink_to(Path(published_home.home) / "registry")
    return home


@pytest.mark.valkey
def test_replay_takes_one_answer_a_sample_or_all_since_a_moment(
    deployed: Home, served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    first, *_ = asyncio.run(_serve(served, store_url, breakable_store.url))
    one = deployed.riffle("replay", first)
    assert (one.code, one.out.splitlines()[-1]) == (0, "1 identical, 0 different, 0 not replayable, 0 erased")
    sample = deployed.riffle("replay", "--sample", "3")
    assert "2 identical, 0 different, 1 not replayable" in sample.out
    assert "not replayable 1: answers of kind 'similar'" in sample.out
    for since in ("1h", "2020-01-01T00:00:00Z"):
        assert "5 identical, 0 different, 1 not replayable" in deployed.riffle("replay", "--since", since).out
    assert (
        "1 identical, 0 different, 1 not replayable" in deployed.riffle("replay", "--since", "1h", "--sample", "2").out
    )


@pytest.mark.valkey
@pytest.mark.parametrize("command", [("replay",), ("features", "verify", "--user", "nobody")])
def test_check_that_compared_nothing_is_no_pass(deployed: Home, command: tuple[str, ...]) -> None:
    assert "nothing was compared" in refused(deployed.riffle(*command))


@pytest.mark.valkey
def test_answer_that_does_not_come_out_the_same_is_named_and_fails_the_command(
    deployed: Home, served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    asyncio.run(_serve(served, store_url, breakable_store.url))
    with redis.Redis.from_url(breakable_store.url) as server:
        for position, fields in server.xrange(STREAM):
            server.xdel(STREAM, position)
            record = msgspec.msgpack.decode(fields[b"d"], type=Decision)
            other = msgspec.structs.replace(record, items=["another", *record.items[1:]])
            server.xadd(STREAM, {"d": msgspec.msgpack.encode(other)})
    run = deployed.riffle("replay")
    assert run.code == 1
    assert "selection: the scores are the same, the list is not; rank 1: 'another'" in run.out
    assert "5 first different at selection" in run.out
    assert "0 identical, 5 different, 1 not replayable" in run.out


@pytest.mark.valkey
def test_what_cannot_be_replayed_is_one_sentence(deployed: Home, breakable_store: BreakableStore) -> None:
    assert "is no recommendation id" in refused(deployed.riffle("replay", "seven"))
    assert "no record of" in refused(deployed.riffle("replay", "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11"))
    wrong = deployed.riffle("replay", "--since", "yesterday")
    assert wrong.code == 2
    assert "yesterday" in wrong.err
    breakable_store.end()
    assert "cannot be read" in refused(deployed.riffle("replay"))
