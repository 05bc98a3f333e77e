"""What lies in the streams of the event log, decoded; entries that are no events are told apart, never trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from recsys.archive import Position
from service.event_log import Event
from service.state_keys import shard

Entry = tuple[bytes, list[bytes] | None]  # position; fields and values in turn, None if it was just deleted


@dataclass(frozen=True, slots=True)
class Run:
    """Entries that follow one another in a shard.

    Attributes:
        end: Position of the last one. entries: How many they are.
        events: Those that are events, at `positions`. dead: Those that are not: position, reason, what lay there.
    """

    shard: int
    end: bytes
    entries: int
    events: list[Event]
    positions: list[Position]
    dead: list[tuple[bytes, str, bytes]]

    @classmethod
    def of(cls, number: int, entries: Sequence[Entry]) -> "Run":
        """Decode what was read from a shard's stream; there is something."""
        run = cls(number, entries[-1][0], len(entries), [], [], [])
        for position, fields in entries:
            raw = _event_of(fields or [])
            try:
                event = _decoded(raw, number)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                run.dead.append((position, str(error), raw))
                continue
            run.events.append(event)
            run.positions.append(position_of(position))
        return run

    def ages_s(self, now_s: float) -> np.ndarray:
        """Seconds since each event arrived: a time of day that a gateway noted, whose clock may be another one."""
        received_ms = np.array([event.received_ms for event in self.events], np.float64)
        return np.maximum(now_s - received_ms / 1000, 0)


def position_of(text: bytes) -> Position:
    """`<ms>-<sequence>` as numbers."""
    ms, _, sequence = text.partition(b"-")
    return int(ms), int(sequence)


def text_of(position: Position) -> str:
    """Numbers as `<ms>-<sequence>`."""
    return f"{position[0]}-{position[1]}"


def _event_of(fields: list[bytes]) -> bytes:
    if len(fields) == 2 and fields[0] == b"e":  # the rule; 0.4 us instead of 1
        return fields[1]
    return dict(zip(fields[::2], fields[1::2], strict=False)).get(b"e", b"")


_decode = msgspec.msgpack.Decoder(Event).decode


def _decoded(raw: bytes, number: int) -> Event:
    event = _decode(raw)
    if not 0 <= event.verb < 256:
        raise msgspec.ValidationError(f"verb {event.verb}")
    if not 0 <= event.ts_ms // 1000 < 2**32:
        raise msgspec.ValidationError(f"ts_ms {event.ts_ms}")
    if shard(event.user_id) != number:
        raise msgspec.ValidationError(f"its user belongs to shard {shard(event.user_id)}, not {number}")
    return event
