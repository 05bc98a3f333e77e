"""Halts experiments whose users were not drawn as they should have been: no figure of theirs is to be believed.

It looks at all running ones, again and again, which the test allows for. What it halts draws nobody any more from then
on, and the history has the numbers; the report stays, and says so as well.
"""

import logging
from datetime import UTC, datetime

from recsys.experiments.buckets import BUCKETS
from recsys.experiments.guards import LOPSIDED
from recsys.experiments.sequential import mismatch
from service.experiments import started_ms
from service.outcomes import OutcomeReader
from service.round_trips import RoundTrips
from service.traffic import changes
from service.traffic.document import Experiment, Traffic
from service.traffic.lease import Lease
from service.traffic.table import TrafficTable

WHO = "experiment guard"
_log = logging.getLogger("ray.serve")


class ExperimentGuard:
    """One look at a time; acts only while it holds the lease.

    Attributes:
        lopsided: By experiment, 1 where it was halted, 0 while it runs as it should.
    """

    def __init__(self, store: RoundTrips, outcomes: OutcomeReader, lease: Lease) -> None:
        self._store, self._outcomes, self._lease = store, outcomes, lease
        self._table = TrafficTable(store)
        self.lopsided: dict[str, float] = {}

    async def step(self) -> str | None:
        """Look at what runs, halt what is lopsided; what was done, None where nothing was.

        Raises:
            RedisError, OSError, TimeoutError, RecordsUnavailable, ArchiveError, TrafficError: not all is known.
        """
        if not await self._lease.held() or (traffic := await self._table.read()) is None:
            return None
        done = [await self._look(one) for one in traffic.running() if one.kind == "ab"]
        return "; ".join(one for one in done if one) or None

    async def _look(self, one: Experiment) -> str | None:
        names = [variant.name for variant in one.variants]
        users = await self._outcomes.users(one.name, names, since_ms=started_ms(one))
        chance = mismatch(users, [variant.share / BUCKETS for variant in one.variants])
        self.lopsided[one.name] = float(chance < LOPSIDED)
        if chance >= LOPSIDED:
            return None
        seen = ", ".join(
            f"{n:,} users of {variant.name} ({variant.share / 100:g} %)"
            for n, variant in zip(users, one.variants, strict=True)
        )
        reason = f"experiment {one.name} is halted: {seen}: probability {chance:.2g} at most that they were so drawn"
        at = datetime.fromtimestamp(await self._table.now_ms() / 1000, UTC).isoformat(timespec="milliseconds")

        def halted(now: Traffic) -> Traffic:
            # Only as it was looked at: what was stopped or begun anew meanwhile stays as it is.
            return changes.stopped(now, one.name, at) if one in now.experiments else now

        await self._table.change(halted, who=WHO, reason=reason)
        return reason
