"""Takes a bundle from few users to all, as long as guards hold; sends it back by itself where one does not.

All that is known of a rollout is in the traffic table, so whoever takes over goes on where the last one stopped. Each
change is a swap of the table as it was looked at: of two controllers the second changes nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
from redis.exceptions import RedisError

from recsys.errors import ArchiveError, BundleError, RegistryError
from recsys.experiments.buckets import BUCKETS
from recsys.experiments.guards import ALPHA, Verdict, judge
from recsys.experiments.outcomes import Outcomes
from service.errors import RecordsUnavailable, TrafficError
from service.outcomes import OutcomeReader
from service.round_trips import RoundTrips
from service.traffic import changes, switching
from service.traffic.document import CANARY, CONTROL, Rollout, Traffic
from service.traffic.lease import Lease
from service.traffic.table import TrafficTable

LOOK_S = 2.0
SETTLE_MS = 2_000  # after a change, in which all replicas take it: lists of that time are of neither step
WHO = "rollout controller"
_log = logging.getLogger("ray.serve")


class Watched(Protocol):
    """What is looked at again and again."""

    async def step(self) -> str | None:
        """Do what is to be done; what was, None where nothing was."""
        ...


class RolloutController:
    """One step at a time.

    Args:
        register: Tells the registry of the champion of a table; what became of it.
    """

    def __init__(
        self, store: RoundTrips, outcomes: OutcomeReader, lease: Lease, register: Callable[[Traffic], Awaitable[str]]
    ) -> None:
        self._store, self._outcomes, self._lease, self._register = store, outcomes, lease, register
        self._table = TrafficTable(store)

    async def step(self) -> str | None:
        """Look at the rollout under way, and do what is to be done; what was done, None where nothing was.

        Raises:
            RedisError, OSError, TimeoutError, RecordsUnavailable, ArchiveError, TrafficError: not all is known, so
                nothing is changed.
        """
        if not await self._lease.held():
            return None
        traffic = await self._table.read()
        if traffic is None:
            return None
        if traffic.rollout is None:
            return await self._tell_registry(traffic)
        rollout = traffic.rollout
        verdict = await self.verdict(rollout)
        if verdict.broken:
            return await self._send_back(rollout, verdict)
        if rollout.paused or not await self._is_held(rollout, verdict) or not await self._is_obeyed(traffic):
            return None
        return await self._advance(rollout, verdict)

    async def verdict(self, rollout: Rollout) -> Verdict:
        """What guards say of the step under way; errors as of `step`."""
        return verdict_on(rollout, await step_outcomes(self._outcomes, rollout))

    async def _is_held(self, rollout: Rollout, verdict: Verdict) -> bool:
        """Whether the step has lasted as long, and been seen by as many users, as it has to; by some in any case.

        The last one before all users also has to have settled that the bundle is fit for them.
        """
        if rollout.is_last() and verdict.unsettled:
            return False
        waited_s = (await self._store.now_ms() - rollout.since_ms) / 1000
        seen = min(verdict.users) > 0 or (verdict.users[1] > 0 and rollout.share == BUCKETS)
        return seen and waited_s >= rollout.hold_s and verdict.users[1] >= rollout.hold_users

    async def _is_obeyed(self, traffic: Traffic) -> bool:
        """Whether replicas report, and all of them obey this very table: one that cannot load the bundle does not."""
        reports = await self._table.reports()
        return bool(reports) and all(one.version == traffic.version for one in reports)

    async def _advance(self, rollout: Rollout, verdict: Verdict) -> str | None:
        share = rollout.next_share()
        if share is None and rollout.share < BUCKETS:
            return None  # its last step is not everybody: there it stays
        seen = (
            f"{verdict.users[1]:,} users and {verdict.lists[1]:,} lists at {rollout.share / 100:g} %, no guard broken"
        )
        if share is None or share >= BUCKETS:
            reason = f"rollout {rollout.name} is complete: {seen}"

            def done(now: Traffic) -> Traffic:
                after = changes.promoted(now, rollout.bundle) if now.rollout == rollout else now
                return msgspec.structs.replace(after, unregistered=True) if after is not now else now

            await self._tell_registry(await self._table.change(done, who=WHO, reason=reason))
            return reason
        reason = f"rollout {rollout.name} goes to {share / 100:g} %: {seen}"
        further = msgspec.structs.replace(rollout, share=share, since_ms=await self._store.now_ms() + SETTLE_MS)
        await self._swap(rollout, lambda now: changes.with_rollout(now, further), reason)
        return reason

    async def _send_back(self, rollout: Rollout, verdict: Verdict) -> str:
        of = f"{verdict.users[1]:,} users and {verdict.lists[1]:,} lists at {rollout.share / 100:g} %"
        reason = f"rollout {rollout.name} is rolled back after {of}: {'; '.join(verdict.broken)}"
        await self._swap(rollout, changes.rolled_back, reason)
        return reason

    async def _swap(self, rollout: Rollout, by: Callable[[Traffic], Traffic], reason: str) -> None:
        """Change the table, if the rollout is still as it was looked at."""
        await self._table.change(lambda now: by(now) if now.rollout == rollout else now, who=WHO, reason=reason)

    async def _tell_registry(self, traffic: Traffic) -> str | None:
        """After a champion that the registry has not heard of."""
        if not traffic.unregistered:
            return None
        try:
            reason = await self._register(await self._table.champion_since(traffic))
        except (RegistryError, BundleError, OSError) as error:
            _log.warning("the registry cannot be told of %s: %s", traffic.champion, error)
            return None

        def told(now: Traffic) -> Traffic:
            return msgspec.structs.replace(now, unregistered=False) if now.champion == traffic.champion else now

        await self._table.change(told, who=WHO, reason=reason)
        return f"{traffic.champion} is champion; {reason}"


async def begin(
    table: TrafficTable,
    bundle: str,
    *,
    name: str,
    steps: tuple[int, ...],
    hold_s: float,
    hold_users: int,
    margin: float,
    who: str,
    reason: str,
) -> Traffic:
    """Start a rollout: every replica loads the bundle, then the first users get it.

    Raises:
        TrafficError: another is under way, or a replica cannot load it; nothing was switched then.
    """
    now = await table.demand()
    refuse_at_once(steps, margin)
    first = Rollout(name, bundle, steps[0], steps, hold_s, hold_users, margin=margin)
    changes.with_rollout(now, first)  # refused before anything is loaded
    await switching.prepare(table, bundle, who=who, reason=reason)
    at_ms = await table.now_ms()
    first = msgspec.structs.replace(first, since_ms=at_ms + SETTLE_MS, began_ms=at_ms)

    def started(traffic: Traffic) -> Traffic:
        return changes.with_rollout(traffic, first)

    return (await switching.load_and_switch(table, [bundle], started, who=who, reason=reason))[0]


def refuse_at_once(steps: Sequence[int], margin: float) -> None:
    """Raise TrafficError where everybody would get a bundle that has to be compared first."""
    if steps[0] == BUCKETS and margin < 1:
        raise TrafficError(
            "a rollout to everybody at once has nobody to compare them with; give smaller steps before 100, a margin "
            "of 100, or let `riffle bundles promote` do it"
        )


async def step_outcomes(outcomes: OutcomeReader, rollout: Rollout) -> Outcomes:
    """What came of the step under way; errors as of `OutcomeReader.read`."""
    return await outcomes.read(rollout.name, (CONTROL, CANARY), since_ms=rollout.since_ms, began_ms=rollout.began_ms)


def verdict_on(rollout: Rollout, outcomes: Outcomes) -> Verdict:
    """What guards say of the step under way; each step has its part of ALPHA."""
    alpha = ALPHA / max(1, len(rollout.steps))
    return judge(outcomes, rollout.share / BUCKETS, alpha=alpha, margin=rollout.margin)


async def run(*watched: Watched) -> None:
    """Step each for ever; a store or an archive that is away is waited for, and what is under way holds meanwhile."""
    while True:
        for one in watched:
            try:
                done = await one.step()
                if done:
                    _log.warning("%s", done)
            except (RedisError, OSError, TimeoutError, RecordsUnavailable, ArchiveError, TrafficError) as error:
                _log.warning("what is tried holds: %s", str(error) or type(error).__name__)
            except Exception:  # a bug: what is under way holds, and the next look may do better
                _log.exception("what is tried holds")
        await asyncio.sleep(LOOK_S)
