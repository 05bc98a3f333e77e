"""Ids of events leave the store when their day and the next are over, and not before."""

import pytest
import redis

from service.event_ids import BUCKETS, IdCleaner, day_of, ids_of
from service.event_log import Outcome
from service.round_trips import RoundTrips
from tests.service.conftest import BreakableStore
from tests.service.test_event_log import DAY_S, event, log_at

pytestmark = pytest.mark.valkey
DAY = 20_000


async def test_ids_of_today_and_yesterday_stay_and_older_ones_go(breakable_store: BreakableStore) -> None:
    url = breakable_store.url
    async with log_at(url) as log:
        for day in (DAY - 2, DAY - 1, DAY):
            events = [event(f"{day} {number}") for number in range(50)]
            assert set(await log.append(events, now_s=day * DAY_S)) == {Outcome.ACCEPTED}
    store = RoundTrips(url, timeout_ms=5000, connections=1)
    with redis.Redis.from_url(url) as server:
        server.hset(f"{ids_of(DAY - 9)}{BUCKETS - 1:04x}", "id", "body")  # of a time when no cleaner ran
        cleaner = IdCleaner(store)
        assert await cleaner.step(now_s=DAY * DAY_S) > 40
        days = {int(key.split(b":")[2]) for key in server.scan_iter("riffle:event-ids:*")}
        assert days == {DAY - 1, DAY}
        assert await cleaner.step(now_s=DAY * DAY_S + 1) == 0
        assert await cleaner.step(now_s=(DAY + 1) * DAY_S) > 40
        assert {int(key.split(b":")[2]) for key in server.scan_iter("riffle:event-ids:*")} == {DAY}
    await store.close()


def test_a_day_is_that_of_utc() -> None:
    assert [day_of(at) for at in (0, DAY_S - 0.001, DAY_S)] == [0, 0, 1]
