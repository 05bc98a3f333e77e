"""One user's interactions given to another: what a visitor did before logging in is from then on the user's.

They are put into the log again, as the other user's, with the verbs and times that they had. So states, archive,
training, rebuilds and replay need not know of merging. Item stats do: they count an interaction once.
"""

import asyncio
import hashlib
import time
from collections import Counter
from typing import Any

import numpy as np
from redis.exceptions import RedisError

from recsys.erased_users import user_digest
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import UserStates
from recsys.verbs import MERGED
from recsys.vocabulary import Vocabulary
from service.errors import FieldError, StoreUnavailable, Unprocessable
from service.event_log import Event, EventLog, Outcome, stream_key
from service.log_entries import position_of
from service.round_trips import RoundTrips
from service.state_keys import live_key, live_name, position_key, shard, state_key

_WAIT_S = 1.0  # states are 25 ms behind the log at the median, 250 ms at the 99th percentile
_LOOK_EVERY_S = 0.01


class Merging:
    """Merges users.

    Args:
        vocabulary: The items that are known.
    """

    def __init__(self, store: RoundTrips, log: EventLog, vocabulary: Vocabulary) -> None:
        self._store, self._log, self._vocabulary = store, log, vocabulary

    def know(self, champion: Vocabulary, *_: Vocabulary) -> None:
        """From now on these are the items that are known."""
        self._vocabulary = champion

    async def merge(self, user_id: str, from_user_id: str) -> dict[str, Any]:
        """Give a user the newest interactions of another, up to RING; shaped as `Merge`.

        Whoever they come from keeps their own state. Merging again adds what came since.

        Raises:
            Unprocessable: both are the same, or the user was forgotten. Overloaded, LogUnavailable, StoreUnavailable:
                merging again is safe.
        """
        if user_id == from_user_id:
            raise _refused("same_user", "a user cannot be merged into itself")
        state = await self._state(from_user_id)
        events, unknown = self._events(user_id, from_user_id, state)
        outcomes = await self._log.append(events) if events else []
        if Outcome.REFUSED in outcomes:
            raise _refused("forgotten_user", "the user to merge into was forgotten", pointer="")
        new = sum(outcome is Outcome.ACCEPTED for outcome in outcomes)
        return {"user_id": user_id, "from_user_id": from_user_id, "merged": new, "unknown_items": unknown}

    async def _state(self, user_id: str) -> UserStates:
        """The state of a user, with all in it that was in the log when it was asked for."""
        number = shard(user_id)
        until = time.monotonic() + _WAIT_S
        live, newest = await self._demand(
            ("GET", live_key()), ("XREVRANGE", stream_key(number), "+", "-", "COUNT", "1")
        )
        wanted = position_of(newest[0][0]) if newest else (0, 0)
        while True:
            name = live_name(live)
            at, value, live = await self._demand(
                ("GET", position_key(name, number)), ("GET", state_key(name, user_id)), ("GET", live_key())
            )
            if live_name(live) == name and position_of(at or b"0-0") >= wanted:
                break
            if time.monotonic() > until:
                raise StoreUnavailable("the states are behind the events; merge again")
            await asyncio.sleep(_LOOK_EVERY_S)
        states, undecodable = unpack([value], SCHEMA_HASH)
        if undecodable:
            raise StoreUnavailable(f"the state to merge cannot be read: {undecodable[0]}")
        return states

    def _events(self, user_id: str, from_user_id: str, state: UserStates) -> tuple[list[Event], int]:
        """The interactions of a state as events of another user, oldest first, and how many are of unknown items."""
        slots = np.arange(int(state.length[0]))[::-1]
        rows = self._vocabulary.rows(state.item_key[0, slots])
        received_ms, source = time.time_ns() // 1_000_000, user_digest(from_user_id)
        same: Counter[tuple[int, ...]] = Counter()
        events = []
        for slot, row in zip(slots.tolist(), rows.tolist(), strict=True):
            if row < 0:
                continue
            what = int(state.item_key[0, slot]), int(state.verb[0, slot]), int(state.ts_s[0, slot])
            same[what] += 1
            named = f"{source} {user_digest(user_id)} {what} {same[what]}"
            events.append(
                Event(
                    event_id=f"{MERGED}:{hashlib.blake2b(named.encode(), digest_size=16).hexdigest()}",
                    type=MERGED,
                    user_id=user_id,
                    item_id=self._vocabulary.item_id[row],
                    ts_ms=1000 * what[2],
                    received_ms=received_ms,
                    verb=what[1],
                    properties={"from": source},
                )
            )
        return events, int((rows < 0).sum())

    async def _demand(self, *commands: tuple[str | bytes, ...]) -> list[Any]:
        try:
            return await self._store.demand(commands)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"the store does not answer: {str(error) or type(error).__name__}") from error


def _refused(code: str, detail: str, pointer: str = "/from_user_id") -> Unprocessable:
    return Unprocessable(detail, [FieldError(pointer, code, detail)])
