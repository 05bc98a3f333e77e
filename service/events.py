"""Events as clients send them: checked row by row, and put into the log together."""

import time
from typing import Any

import msgspec
import numpy as np

from recsys.verbs import Verb, event_types
from recsys.vocabulary import Vocabulary, item_keys
from service.errors import FieldError
from service.event_log import Event, EventLog, Outcome
from service.schemas import EventRow, EventsRequest
from service.settings import Settings

_ACCEPTED, _CONFLICT, _REFUSED = 202, 409, 422


class EventIntake:
    """Takes events of known items into the log.

    Args:
        vocabulary: The items that are known.
    """

    def __init__(self, log: EventLog, vocabulary: Vocabulary, settings: Settings) -> None:
        self._log, self._settings = log, settings
        self._known: tuple[Vocabulary, ...] = (vocabulary,)
        self._verb_of = event_types(settings.verbs)

    def know(self, champion: Vocabulary, *others: Vocabulary) -> None:
        """From now on these are the items that are known; a list of any of these bundles may have them."""
        self._known = (champion, *others)

    async def record(self, request: EventsRequest) -> dict[str, Any]:
        """Put the sound rows into the log; shaped as `EventsResponse`. What it answers is in the log.

        Raises:
            Overloaded, LogUnavailable: some rows may be in the log, none is answered; sending all again is safe.
        """
        rows = request.events
        received_ms = time.time_ns() // 1_000_000
        keys = item_keys(row.item_id for row in rows)
        known = np.logical_or.reduce([one.rows(keys) >= 0 for one in self._known])
        results: list[dict[str, Any]] = [{} for _ in rows]
        sound: list[tuple[int, Event]] = []
        for place, row in enumerate(rows):
            event = self._event(row, received_ms)
            error = self._error(row, event, place, is_known=bool(known[place]))
            if error:
                results[place] = _result(row, _REFUSED, error)
            else:
                sound.append((place, event))
        for (place, event), outcome in zip(
            sound, await self._log.append([event for _, event in sound]) if sound else [], strict=True
        ):
            if outcome is Outcome.CONFLICT:
                detail = f"event {event.event_id!r} is in the log with another body"
                error = FieldError(f"/events/{place}/event_id", "conflict", detail)
                results[place] = _result(rows[place], _CONFLICT, error)
            elif outcome is Outcome.REFUSED:
                error = FieldError(f"/events/{place}/user_id", "forgotten_user", "this user was forgotten")
                results[place] = _result(rows[place], _REFUSED, error)
            else:
                results[place] = _result(rows[place], _ACCEPTED)
        accepted = sum(result["status"] == _ACCEPTED for result in results)
        return {"accepted": accepted, "refused": len(rows) - accepted, "results": results}

    def _event(self, row: EventRow, received_ms: int) -> Event:
        return Event(
            event_id=row.event_id,
            type=row.type,
            user_id=row.user_id,
            item_id=row.item_id,
            ts_ms=round(row.ts.timestamp() * 1000),
            received_ms=received_ms,
            verb=self._verb(row),
            recommendation_id=row.recommendation_id,
            position=row.position,
            value=row.value,
            properties=row.properties,
        )

    def _verb(self, row: EventRow) -> int:
        """The verb; a rating of at least `positive_rating` is a like, as it is when a data set is imported."""
        if row.type == "rating" and row.value is not None and row.value >= self._settings.positive_rating:
            return Verb.LIKE
        return self._verb_of.get(row.type, 0)

    def _error(self, row: EventRow, event: Event, place: int, *, is_known: bool) -> FieldError | None:
        if row.type not in self._verb_of:
            detail = f"no type {row.type!r}; there are {', '.join(self._verb_of)}"
            return FieldError(f"/events/{place}/type", "unknown_type", detail)
        age_s = (event.received_ms - event.ts_ms) / 1000
        if age_s > self._settings.event_late_s:
            detail = f"{age_s:.0f} s old; at most {self._settings.event_late_s} s are accepted"
            return FieldError(f"/events/{place}/ts", "too_late", detail)
        if -age_s > self._settings.event_early_s:
            detail = f"{-age_s:.0f} s in the future; at most {self._settings.event_early_s} s are accepted"
            return FieldError(f"/events/{place}/ts", "too_early", detail)
        if row.type == "rating" and row.value is None:
            return FieldError(f"/events/{place}/value", "missing", "a rating has a value")
        if not is_known:
            return FieldError(f"/events/{place}/item_id", "unknown_item", f"no item {row.item_id!r}")
        return None


def _result(row: EventRow, status: int, error: FieldError | None = None) -> dict[str, Any]:
    result: dict[str, Any] = {"event_id": row.event_id, "status": status}
    if error:
        result["error"] = msgspec.to_builtins(error)
    return result
