"""From decision records and events to what came of an experiment, wherever they lie: streams, archives or both."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from redis.exceptions import RedisError

from recsys.archive import Archive
from recsys.errors import ArchiveError
from recsys.experiments.outcomes import METRICS, Outcomes
from recsys.vocabulary import item_key
from service.archives import decision_archive, event_archive
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import Decision
from service.errors import RecordsUnavailable, StackError
from service.logged_events import LoggedEvents
from service.round_trips import RoundTrips
from service.settings import Settings

WINDOW_S = 3_600  # after a list was answered, in which what happens to its items is put down to it
BEFORE_DAYS = 14  # in which what a user did is taken for how active they are anyway
CLICKED = {"view", "click", "like", "purchase", "rating"}
CONVERTED = {"like", "purchase"}
COMMAND_MS = 10_000


class OutcomeReader:
    """Joins lists and events by the recommendation id.

    Args:
        store: Of the streams. events: The archive of events.
    """

    def __init__(self, store: RoundTrips, records: DecisionRecords, events: Archive) -> None:
        self._records, self._events = records, LoggedEvents(store, events)

    async def read(
        self,
        name: str,
        variants: Sequence[str],
        *,
        since_ms: int,
        began_ms: int | None = None,
        window_s: float = WINDOW_S,
    ) -> Outcomes:
        """What came of one experiment or rollout.

        Args:
            name: Of it. variants: Their names, the control first; other answers do not count.
            since_ms: UTC epoch milliseconds, of the first answer that counts.
            began_ms: When any user first got a variant, where that was earlier: what they did since is no "before".
        Raises:
            RecordsUnavailable, ArchiveError: not all can be read.
            RedisError, OSError, TimeoutError: the store failed.
        """
        answered: dict[str, Decision] = {}
        async for one in self._records.newest(since_ms=since_ms):
            if isinstance(one, Decision) and one.variants.get(name) in variants:
                answered[one.id] = one
        clicked: set[str] = set()
        converted: set[str] = set()
        value: dict[str, float] = defaultdict(float)
        before: Counter[str] = Counter()
        earliest = datetime.fromtimestamp(since_ms / 1000, UTC) - timedelta(days=BEFORE_DAYS)
        async for event in self._events.since(earliest):
            if event.ms < (since_ms if began_ms is None else began_ms):
                before[event.user_id] += 1
            of = event.recommendation_id
            if of is None or (record := answered.get(of)) is None or not in_time(record, event.ts_ms, window_s):
                continue
            if event.type in CLICKED:
                clicked.add(of)
            if event.type in CONVERTED:
                converted.add(of)
                value[of] += float(event.value or 0.0)
        return _by_user(list(answered.values()), tuple(variants), name, clicked, converted, value, before)


def with_outcomes(settings: Settings, url: str, work: Callable[[OutcomeReader], Awaitable[Outcomes]]) -> Outcomes:
    """Read what came of something, for a command that waits for it. Raises StackError: not all can be read."""

    async def read() -> Outcomes:
        store = RoundTrips(url, timeout_ms=COMMAND_MS, connections=1)
        try:
            records = DecisionRecords(DecisionStream(store), decision_archive(settings))
            return await work(OutcomeReader(store, records, event_archive(settings)))
        except (RedisError, OSError, TimeoutError, RecordsUnavailable, ArchiveError) as error:
            raise StackError(f"what came of it cannot be read: {str(error) or type(error).__name__}") from error
        finally:
            await store.close()

    return asyncio.run(read())


def in_time(record: Decision, happened_ms: int, window_s: float) -> bool:
    """Whether an event is put down to a list; clients' clocks may be a minute early."""
    return -60_000 <= happened_ms - record.time_ms <= window_s * 1000


def _by_user(
    records: Sequence[Decision],
    variants: tuple[str, ...],
    name: str,
    clicked: set[str],
    converted: set[str],
    value: dict[str, float],
    before: Counter[str],
) -> Outcomes:
    """One row for each user of one variant; who was moved from one to another is in none."""
    of_user: dict[str, set[int]] = defaultdict(set)
    for one in records:
        of_user[one.query["user_id"]].add(variants.index(one.variants[name]))
    number = {user: row for row, user in enumerate(user for user, of in of_user.items() if len(of) == 1)}
    variant = [next(iter(of_user[user])) for user in number]
    items: dict[int, list[int]] = defaultdict(list)
    owners: dict[int, list[int]] = defaultdict(list)
    rows = np.zeros((1 + len(METRICS), len(number)))
    for one in records:
        user = one.query["user_id"]
        if user not in number:
            continue
        row, place = number[user], variant[number[user]]
        # Its own batch's computation: from waiting to answer a list takes as long as all lanes of its micro-batch.
        took_ms = sum(one.timing_ms.get(stage, 0.0) for stage in ("retrieve", "rank", "select"))
        rows[:, row] += (1, one.id in clicked, one.id in converted, value[one.id], bool(one.degraded), took_ms)
        items[place].extend(item_key(item) >> 1 for item in one.items)  # 63 bits
        owners[place].extend([row] * len(one.items))
    return Outcomes(
        variants,
        np.array(variant, np.int64),
        rows[0],
        rows[1:],
        np.array([before[user] for user in number], np.float64),
        *(tuple(np.array(of[place], np.int64) for place in range(len(variants))) for of in (items, owners)),
    )
