"""The archives of this service: their columns, and rows from what lies in the streams."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from recsys.archive import Archive, Position
from service.event_log import Event
from service.settings import Settings
from service.state_keys import SHARDS

_COLUMNS = (
    pa.field("event_id", pa.string()),
    pa.field("type", pa.string()),
    pa.field("user_id", pa.string()),
    pa.field("item_id", pa.string()),
    pa.field("ts_ms", pa.int64()),
    pa.field("received_ms", pa.int64()),
    pa.field("verb", pa.uint8()),
    pa.field("recommendation_id", pa.string()),
    pa.field("position", pa.int32()),
    pa.field("value", pa.float64()),
    pa.field("properties", pa.string()),  # JSON
)


def event_archive(settings: Settings) -> Archive:
    """The events of this home; its streams are the shards."""
    return Archive(settings.home_path / "archive" / "events", streams=SHARDS, columns=_COLUMNS)


def event_rows(logged: Sequence[tuple[int, Position, Event]]) -> pa.Table:
    """Rows of an event archive, from (shard, position, event)."""
    columns: dict[str, Any] = {
        "stream": pa.array([shard for shard, _, _ in logged], pa.uint8()),
        "ms": pa.array([position[0] for _, position, _ in logged], pa.uint64()),
        "sequence": pa.array([position[1] for _, position, _ in logged], pa.uint64()),
    }
    for column in _COLUMNS[:-1]:
        columns[column.name] = pa.array([getattr(event, column.name) for _, _, event in logged], column.type)
    properties = [msgspec.json.encode(event.properties).decode() for _, _, event in logged]
    return pa.table(columns | {"properties": pa.array(properties, pa.string())})
