"""A rollout goes on while guards hold, goes back where one does not, and survives whoever drives it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from redis.exceptions import RedisError

from recsys.errors import RegistryError
from recsys.experiments.buckets import BUCKETS
from recsys.experiments.outcomes import Outcomes
from service import rollouts
from service.errors import RecordsUnavailable, TrafficError
from service.rollouts import RolloutController
from service.round_trips import RoundTrips
from service.traffic import changes
from service.traffic.document import Rollout, Traffic
from service.traffic.lease import Lease
from service.traffic.table import LEASE_KEY, REPORTS, Report, TrafficTable
from tests.recsys.experiments.test_guards import outcomes
from tests.service.conftest import BreakableStore
from tests.service.traffic.tables import A, B, C

pytestmark = pytest.mark.valkey


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step counts from its first moment on."""
    monkeypatch.setattr(rollouts, "SETTLE_MS", 0)


@dataclass
class Seen:
    """What came of a rollout, as a test wants it."""

    fields: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def read(self, name: str, variants: Sequence[str], *, since_ms: int, began_ms: int) -> Outcomes:
        assert began_ms == 0
        assert variants == ("control", "canary")
        self.asked.append((name, since_ms))
        if self.error:
            raise self.error
        return outcomes(np.random.default_rng(7), **{"users": 2000, **self.fields})


@dataclass
class Registered:
    told: list[tuple[str, str]] = field(default_factory=list)
    error: Exception | None = None

    async def __call__(self, traffic: Traffic) -> str:
        if self.error:
            raise self.error
        self.told.append((traffic.champion, traffic.reason))
        return "the registry follows"


@asynccontextmanager
async def controller_at(
    url: str, seen: Seen, registered: Registered | None = None, *, lease_s: float = 10.0
) -> AsyncIterator[tuple[RolloutController, TrafficTable]]:
    store = RoundTrips(url, timeout_ms=3000, connections=2)
    try:
        lease = Lease(store, LEASE_KEY, lease_s=lease_s)
        yield RolloutController(store, seen, lease, registered or Registered()), TrafficTable(store)  # type: ignore[arg-type]
    finally:
        await store.close()


async def begun(table: TrafficTable, **fields: Any) -> Rollout:
    usual = {"share": 500, "steps": (500, 5000, BUCKETS), "hold_s": 0.0, "hold_users": 1}
    one = Rollout("r1", B, **{**usual, **fields})
    await table.begin(A, who="ann", reason="first")
    await table.change(lambda now: changes.with_rollout(now, one), who="ann", reason="try")
    await obeyed(table)
    return one


async def obeyed(table: TrafficTable, *, replicas: Sequence[str] = ("one", "two"), behind: int = 0) -> None:
    """Let replicas say that they obey the table as it is."""
    now = await table.demand()
    for name in replicas:
        await table.report(Report(name, "Gateway", "n", now.version - behind, now.champion, sorted(now.bundles()), {}))


async def test_a_good_bundle_goes_step_by_step_and_is_champion_at_the_end(breakable_store: BreakableStore) -> None:
    seen, registered = Seen({"clicks": 0.31}), Registered()
    async with controller_at(breakable_store.url, seen, registered) as (controller, table):
        await begun(table)
        for share in (500, 5000):
            seen.fields["share"] = share / BUCKETS
            rollout = (await table.demand()).rollout
            assert rollout is not None
            assert rollout.share == share
            await obeyed(table)
            assert await controller.step()
        now = await table.demand()
        assert (now.champion, now.previous, now.rollout, now.unregistered) == (B, A, None, False)
        assert [bundle for bundle, _ in registered.told] == [B]
        assert "no guard broken" in registered.told[0][1]
        assert [at for _, at in seen.asked] == sorted(at for _, at in seen.asked)
        assert seen.asked[0] == ("r1", 0)
        assert seen.asked[1][1] > 0
        assert await controller.step() is None
        reasons = [one.reason for one in await table.history(10)]
        assert any("goes to 50 %" in one for one in reasons)


async def test_the_last_step_holds_until_it_is_settled_that_the_bundle_is_fit(breakable_store: BreakableStore) -> None:
    seen = Seen({"share": 0.5, "users": 600})
    async with controller_at(breakable_store.url, seen) as (controller, table):
        await begun(table, margin=0.05)
        seen.fields["share"] = 0.05
        assert "goes to 50 %" in (await controller.step() or "")
        seen.fields["share"] = 0.5
        await obeyed(table)
        assert await controller.step() is None
        assert (await table.demand()).champion == A
        seen.fields["users"] = 12_000
        assert "is complete" in (await controller.step() or "")
        assert (await table.demand()).champion == B


async def test_everybody_at_once_is_no_rollout_unless_anything_is_tolerated(breakable_store: BreakableStore) -> None:
    async with controller_at(breakable_store.url, Seen()) as (_, table):
        await table.begin(A, who="ann", reason="first")
        about = {"name": "r1", "steps": (BUCKETS,), "hold_s": 0.0, "hold_users": 1, "who": "ann", "reason": "try"}
        with pytest.raises(TrafficError, match="nobody to compare them with"):
            await rollouts.begin(table, B, margin=0.05, **about)  # type: ignore[arg-type]


async def test_whoever_tolerates_anything_is_promoted_by_whatever_came(breakable_store: BreakableStore) -> None:
    seen = Seen({"share": 0.5, "users": 600})
    async with controller_at(breakable_store.url, seen) as (controller, table):
        await begun(table, margin=1.0, share=5000)
        assert "is complete" in (await controller.step() or "")


@pytest.mark.parametrize("fault", [{"slower_ms": 20.0}, {"degraded": 0.02}, {"clicks": 0.1}, {"lost_items": 0.4}])
async def test_a_bad_one_goes_back_by_itself_and_the_reason_has_the_figures(
    breakable_store: BreakableStore, fault: dict[str, float]
) -> None:
    async with controller_at(breakable_store.url, Seen({**fault, "share": 0.5})) as (controller, table):
        await begun(table)
        await table.change(
            lambda now: changes.with_rollout(now, msgspec.structs.replace(now.rollout, share=5000)),  # type: ignore[type-var]
            who="ann",
            reason="further",
        )
        assert "is rolled back after" in (await controller.step() or "")
        now = await table.demand()
        assert (now.champion, now.rollout) == (A, None)
        assert "is rolled back after" in now.reason
        assert "difference" in now.reason or "different items" in now.reason


async def test_a_step_lasts_as_long_and_is_seen_by_as_many_as_it_has_to(breakable_store: BreakableStore) -> None:
    seen = Seen({"share": 0.05})
    async with controller_at(breakable_store.url, seen) as (controller, table):
        await begun(table, hold_users=500)
        assert await controller.step() is None
        seen.fields["users"] = 12_000
        await obeyed(table)
        assert "goes to 50 %" in (await controller.step() or "")
    async with controller_at(breakable_store.url, seen) as (controller, table):
        one = (await table.demand()).rollout
        assert one is not None
        later = msgspec.structs.replace(one, hold_s=3600.0)
        await table.change(lambda now: changes.with_rollout(now, later), who="ann", reason="slower")
        seen.fields["share"] = 0.5
        assert await controller.step() is None


async def test_while_a_replica_does_not_obey_or_none_reports_it_goes_no_further(
    breakable_store: BreakableStore,
) -> None:
    async with controller_at(breakable_store.url, Seen({"share": 0.05})) as (controller, table):
        await begun(table)
        await obeyed(table, replicas=["two"], behind=1)
        assert await controller.step() is None
        await controller._store.demand([("DEL", REPORTS)])
        assert await controller.step() is None
        await obeyed(table)
        assert "goes to 50 %" in (await controller.step() or "")


async def test_without_anybody_who_was_seen_it_goes_no_further(breakable_store: BreakableStore) -> None:
    for fields in ({"users": 0}, {"users": 50, "share": 0.0}, {"users": 50, "share": 1.0}):
        async with controller_at(breakable_store.url, Seen(fields)) as (controller, table):
            if not fields["users"]:
                await begun(table)
            await obeyed(table)
            assert await controller.step() is None


async def test_a_last_step_that_is_not_everybody_is_where_it_stays(breakable_store: BreakableStore) -> None:
    async with controller_at(breakable_store.url, Seen({"share": 0.05})) as (controller, table):
        one = Rollout("r1", B, 500, (500,), hold_s=0.0, hold_users=1)
        await table.begin(A, who="ann", reason="first")
        await table.change(lambda now: changes.with_rollout(now, one), who="ann", reason="try")
        await obeyed(table)
        assert await controller.step() is None
        assert (await table.demand()).rollout == one


async def test_what_is_paused_stays_and_is_still_guarded(breakable_store: BreakableStore) -> None:
    seen = Seen({"share": 0.05})
    async with controller_at(breakable_store.url, seen) as (controller, table):
        await begun(table, paused=True)
        assert await controller.step() is None
        seen.fields |= {"degraded": 0.05, "users": 8000}
        assert "is rolled back" in (await controller.step() or "")


async def test_where_not_all_can_be_seen_nothing_is_changed(breakable_store: BreakableStore) -> None:
    seen = Seen(error=RecordsUnavailable("a file is damaged"))
    async with controller_at(breakable_store.url, seen) as (controller, table):
        await begun(table)
        before = await table.demand()
        with pytest.raises(RecordsUnavailable):
            await controller.step()
        assert await table.demand() == before
        breakable_store.end()
        with pytest.raises((RedisError, OSError, TimeoutError)):
            await controller.step()


async def test_of_two_controllers_one_leads_and_the_other_takes_over_when_it_is_gone(
    breakable_store: BreakableStore,
) -> None:
    url, first_saw, second_saw = breakable_store.url, Seen({"share": 0.05}), Seen({"share": 0.5})
    async with (
        controller_at(url, first_saw, lease_s=0.5) as (first, table),
        controller_at(url, second_saw, lease_s=0.5) as (second, _),
    ):
        await begun(table)
        assert "goes to 50 %" in (await first.step() or "")
        assert await second.step() is None
        assert second_saw.asked == []
        await asyncio.sleep(0.7)  # the first has died
        await obeyed(table)
        assert "is complete" in (await second.step() or "")
        assert (await table.demand()).champion == B


async def test_a_change_that_came_meanwhile_is_not_undone(breakable_store: BreakableStore) -> None:
    async with controller_at(breakable_store.url, Seen({"share": 0.05})) as (controller, table):
        one = await begun(table)
        paused = msgspec.structs.replace(one, paused=True)
        await table.change(lambda now: changes.with_rollout(now, paused), who="ann", reason="wait")
        assert await controller._advance(one, await controller.verdict(one))
        assert (await table.demand()).rollout == paused


async def test_a_registry_that_is_away_is_told_later(breakable_store: BreakableStore) -> None:
    registered = Registered(error=RegistryError("the disk is away"))
    async with controller_at(breakable_store.url, Seen({"share": 0.5}), registered) as (controller, table):
        await begun(table)
        await table.change(
            lambda now: changes.with_rollout(now, msgspec.structs.replace(now.rollout, share=5000)),  # type: ignore[type-var]
            who="ann",
            reason="further",
        )
        await obeyed(table)
        assert "is complete" in (await controller.step() or "")
        assert (await table.demand()).unregistered
        assert await controller.step() is None
        registered.error = None
        assert "the registry follows" in (await controller.step() or "")
        assert not (await table.demand()).unregistered
        assert [bundle for bundle, _ in registered.told] == [B]


def test_rollouts_that_cannot_be_are_refused() -> None:
    from tests.service.traffic.tables import table

    rising = Rollout("r1", B, 100, (100, 5000))
    with pytest.raises(TrafficError, match="the champion already"):
        changes.with_rollout(table(B), rising)
    with pytest.raises(TrafficError, match=r"'r1' of .* is under way"):
        changes.with_rollout(table(rollout=rising), Rollout("r2", C, 100, (100,)))
    with pytest.raises(TrafficError, match=r"'r1' of .* is under way"):
        changes.with_rollout(table(rollout=rising), Rollout("r1", C, 100, (100,)))
    for steps in ((), (0, 100), (500, 100), (100, 100)):
        with pytest.raises(TrafficError, match="have to rise"):
            changes.with_rollout(table(), Rollout("r1", B, 100, steps))
