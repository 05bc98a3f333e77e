"""The archives of this service: their columns, and rows from what lies in the streams."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from recsys.archive import Archive, Position
from recsys.erased_users import ErasedUsers
from recsys.errors import ArchiveError
from recsys.items import Item
from recsys.withdrawn_events import WithdrawnEvents
from service.catalogue_entries import Change
from service.decisions import Decision, Erased, Heading
from service.event_log import Event
from service.settings import Settings
from service.state_keys import SHARDS

ERASED_USERS = "erased-users.json"  # beside the archives
WITHDRAWN_EVENTS = "withdrawn-events.parquet"  # also there
_EVENT_COLUMNS = (
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
_DECISION_COLUMNS = (
    pa.field("id", pa.string()),
    pa.field("time_ms", pa.int64()),
    pa.field("user_id", pa.string()),  # null where an answer was nobody's, and where its user was forgotten
    pa.field("record", pa.binary()),  # as in the stream; null where the user was forgotten
)
_CATALOGUE_COLUMNS = (
    pa.field("item_id", pa.string()),
    pa.field("item", pa.binary()),  # as in the stream
)
_encode_item, _decode_item = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Item).decode


def event_archive(settings: Settings) -> Archive:
    """The events of this home; its streams are the shards."""
    return Archive(settings.home_path / "archive" / "events", streams=SHARDS, columns=_EVENT_COLUMNS)


def decision_archive(settings: Settings) -> Archive:
    """The decision records of this home; it has one stream."""
    return Archive(settings.home_path / "archive" / "decisions", streams=1, columns=_DECISION_COLUMNS)


def catalogue_archive(settings: Settings) -> Archive:
    """Items as they were described in this home, change by change; it has one stream."""
    return catalogue_beside(event_archive(settings))


def catalogue_beside(events: Archive) -> Archive:
    """The catalogue of the home that an archive of events belongs to."""
    return Archive(events.root.with_name("catalogue"), streams=1, columns=_CATALOGUE_COLUMNS)


def withdrawn_beside(events: Archive) -> WithdrawnEvents:
    """What those who were forgotten did in the home that an archive of events belongs to."""
    return WithdrawnEvents(events.root.with_name(WITHDRAWN_EVENTS))


def erased_users(settings: Settings) -> ErasedUsers:
    """Who of this home was forgotten."""
    return ErasedUsers(settings.home_path / "archive" / ERASED_USERS)


def event_rows(logged: Sequence[tuple[int, Position, Event]]) -> pa.Table:
    """Rows of an event archive, from (shard, position, event)."""
    columns = _positions([(shard, position) for shard, position, _ in logged])
    fields = zip(*(msgspec.structs.astuple(event) for _, _, event in logged), strict=True)
    by_name = dict(zip(Event.__struct_fields__, fields, strict=False))
    for column in _EVENT_COLUMNS[:-1]:
        columns[column.name] = pa.array(by_name.get(column.name, ()), column.type)
    properties = [msgspec.json.encode(event.properties).decode() if event.properties else "{}" for *_, event in logged]
    return pa.table(columns | {"properties": pa.array(properties, pa.string())})


def decision_rows(logged: Sequence[tuple[Position, Heading | Erased, bytes | None]]) -> pa.Table:
    """Rows of a decision archive, from (position, heading, the record's bytes); of an erased one there are none."""
    records = [record for _, record, _ in logged]
    users = [None if isinstance(record, Erased) else record.query.user_id for record in records]
    return pa.table(
        _positions([(0, position) for position, _, _ in logged])
        | {
            "id": pa.array([record.id for record in records], pa.string()),
            "time_ms": pa.array([record.time_ms for record in records], pa.int64()),
            "user_id": pa.array(users, pa.string()),
            "record": pa.array([value for _, _, value in logged], pa.binary()),
        }
    )


def catalogue_rows(changes: Sequence[Change]) -> pa.Table:
    """Rows of the catalogue's archive."""
    return pa.table(
        _positions([(0, one.position) for one in changes])
        | {
            "item_id": pa.array([one.item_id for one in changes], pa.string()),
            "item": pa.array([_encode_item(one.item) for one in changes], pa.binary()),
        }
    )


def archived_changes(catalogue: Archive, until: Position) -> list[Change]:
    """What is archived of the catalogue up to a position, inclusively, in its order. Raises ArchiveError."""
    rows = catalogue.read(columns=("ms", "sequence", "item_id", "item"))
    columns = (rows[name].to_pylist() for name in rows.column_names)
    try:
        changes = [
            Change((ms, number), item_id, _decode_item(item))
            for ms, number, item_id, item in zip(*columns, strict=True)
        ]
    except msgspec.DecodeError as error:
        raise ArchiveError(f"{catalogue.root} has what is no item: {error}; restore its files") from error
    return [one for one in changes if one.position <= until]


def user_of(record: Decision | Erased) -> str | None:
    """Whose list a record is about; None of items like others, which are nobody's, and where nobody knows any more."""
    if isinstance(record, Erased) or not isinstance(record.query, dict):
        return None
    user = record.query.get("user_id")
    return user if isinstance(user, str) else None


def _positions(logged: Sequence[tuple[int, Position]]) -> dict[str, Any]:
    return {
        "stream": pa.array([stream for stream, _ in logged], pa.uint8()),
        "ms": pa.array([position[0] for _, position in logged], pa.uint64()),
        "sequence": pa.array([position[1] for _, position in logged], pa.uint64()),
    }
