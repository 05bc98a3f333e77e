"""User states made anew from the import, the archive and the log: beside the live ones, then live in their place.

Whoever asks is answered from the states there were until one key names the new ones; the updater goes on from the
position that came with them. So nothing is lost, nothing is applied twice, and a rebuild that dies leaves only garbage,
which the next one clears away.
"""

import asyncio
import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import redis

from recsys.archive import Archive, Position
from recsys.datasets.dataset import Dataset
from recsys.features.apply import states_of
from recsys.features.codec import pack, unpack
from recsys.features.matrix import SCHEMA_HASH
from service.archives import catalogue_beside, event_archive
from service.errors import StackError
from service.event_log import stream_key
from service.imports import current_dataset
from service.item_history import ItemHistory
from service.item_snapshot import CATALOGUE, encode, snapshot_key
from service.items import restore
from service.log_entries import position_of, text_of
from service.round_trips import RoundTrips
from service.settings import Settings
from service.state_keys import SHARDS, live_key, live_name, namespace, position_key, rebuilt_key, refused_key, state_key
from service.store_client import StoreClient, store_client
from service.store_client import now_ms as store_now_ms
from service.timeline import Timeline, timelines
from service.updater import Updater

GRACE_S = 2.0  # gateways look for the live namespace twice a second
_GENERATION = f"{live_key()}:generation"
_CHUNK = 1000
_HELD_S = 600  # a shard takes less; a rebuild that dies lets go of the log after that
_ATTEMPTS = 3
# KEYS: states, then for each what says that its user is refused: what was read before may know who was forgotten since.
_WRITE = """
local states = #KEYS / 2
for i = 1, states do
  if redis.call('EXISTS', KEYS[i + states]) == 0 then redis.call('SET', KEYS[i], ARGV[i]) end
end
"""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What the states of a namespace were made from; beside it in the store.

    Attributes:
        dataset: Fingerprint of the import, "" without one. built: RFC 3339.
        imported_s: When states of this import were first made; for item stats its last event happened then.
        users, events: Of import and archive; what only the log had is not counted.
    """

    dataset: str
    imported_s: int
    built: str
    users: int
    events: int


class Rebuilt(NamedTuple):
    """What a rebuild has done; `seconds` is without the time it waited for gateways to leave the old states."""

    namespace: str
    source: Source
    seconds: float


def rebuild(
    url: str,
    dataset: Dataset | None,
    archive: Archive,
    *,
    accept_loss: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Rebuilt:
    """Replay everything through the online `update` into a new namespace, catch up with the log, and switch.

    Args:
        archive: Of events; beside it lie the catalogue's, and the lock that one rebuild at a time holds.
        progress: Told of shards done, SHARDS in all.
        accept_loss: Go on where entries have left log or catalogue that are not in their archive.
    Raises:
        StackError: the store failed, or entries left log or catalogue unread; the live states are as before.
        ArchiveError: a file of the archive cannot be read.
    """
    began = time.monotonic()
    try:
        with _alone(archive.root.with_name("rebuild.lock")), store_client(url, timeout_s=10) as client:
            before = live_name(client.get(live_key()))
            _clear(client, keep=before)
            name = namespace(int(client.incr(_GENERATION)))
            _hold(client, name, archive, accept_loss=accept_loss)
            users = events = 0
            for timeline in timelines(dataset, archive):
                _load(client, name, timeline)
                client.expire(rebuilt_key(), _HELD_S)
                users, events = users + len(timeline.user_id), events + len(timeline)
                progress(1)
            source = _source(url, dataset, users=users, events=events)
            now_ms = store_now_ms(client)
            items = ItemHistory.read(client, dataset, source.imported_s, archive, now_ms).at(now_ms)
            client.set(snapshot_key(name), encode(items))
            restore(client, items.items)
            asyncio.run(_catch_up(url, name))
            client.set(_source_key(name), msgspec.json.encode(source))
            client.set(live_key(), name)
            client.delete(rebuilt_key())
            seconds = time.monotonic() - began
            if any(client.exists(position_key(before, number)) for number in range(SHARDS)):
                time.sleep(GRACE_S)
            _clear(client, keep=name)
            return Rebuilt(name, source, seconds)
    except redis.RedisError as error:
        raise StackError(
            f"user states could not be rebuilt: {error}; check that the store runs and has memory"
        ) from error


def count_items_anew(settings: Settings, url: str) -> None:
    """Make the item snapshot of the live namespace anew: from now on without who was erased.

    Raises:
        StackError: the store failed. ArchiveError, DatasetError: a file cannot be read.
    """
    live = live_source(url)
    if live is None:
        return
    dataset, archive = current_dataset(settings), event_archive(settings)
    try:
        with store_client(url, timeout_s=10) as client:
            now_ms = store_now_ms(client)
            history = ItemHistory.read(client, dataset, live[1].imported_s, archive, now_ms)
            client.set(snapshot_key(live[0]), encode(history.at(now_ms)))
    except redis.RedisError as error:
        raise StackError(f"the store does not answer: {error}; `riffle doctor` looks for causes") from error


def live_source(url: str, schema_hash: str = SCHEMA_HASH) -> tuple[str, Source] | None:
    """The live namespace of a feature schema and what it was made from; None where nothing was ever rebuilt for it.

    Raises:
        StackError: the store does not answer.
    """
    try:
        with store_client(url, timeout_s=5) as client:
            found = client.get(live_key(schema_hash))
            if not found:
                return None
            source = client.get(_source_key(live_name(found)))
            return live_name(found), msgspec.json.decode(source or b"", type=Source)
    except msgspec.DecodeError:
        return None  # states whose source is unknown are made anew
    except redis.RedisError as error:
        raise StackError(f"the store does not answer: {error}; `riffle doctor` looks for causes") from error


def is_live(url: str, dataset: Dataset) -> bool:
    """Whether the live states were made from this import and are of the layout that this version reads.

    Raises:
        StackError: the store does not answer.
    """
    found = live_source(url)
    if found is None or found[1].dataset != dataset.fingerprint:
        return False
    if not dataset.user_id:  # all were forgotten
        return True
    try:
        with store_client(url, timeout_s=5) as client:
            value = client.get(state_key(found[0], dataset.user_id[0]))
    except redis.RedisError as error:
        raise StackError(f"the store does not answer: {error}; `riffle doctor` looks for causes") from error
    return isinstance(value, bytes) and not unpack([value], SCHEMA_HASH)[1]


def _load(client: StoreClient, name: str, timeline: Timeline) -> None:
    """Write the state of every user of a shard."""
    for first, states in states_of(
        len(timeline.user_id),
        timeline.user,
        item_key=timeline.item_key,
        verb=timeline.verb,
        ts_s=timeline.ts_s,
        event_id=timeline.event_id,
    ):
        values = pack(states, SCHEMA_HASH)
        for start in range(0, len(values), _CHUNK):
            users = timeline.user_id[first + start : first + start + _CHUNK]
            keys = [*(state_key(name, user) for user in users), *map(refused_key, users)]
            client.eval(_WRITE, len(keys), *keys, *values[start : start + _CHUNK])


def _source(url: str, dataset: Dataset | None, *, users: int, events: int) -> Source:
    fingerprint = dataset.fingerprint if dataset else ""
    now = datetime.now(UTC)
    live = live_source(url)
    imported_s = live[1].imported_s if live and live[1].dataset == fingerprint else int(now.timestamp())
    built = now.isoformat(timespec="seconds")
    return Source(dataset=fingerprint, imported_s=imported_s, built=built, users=users, events=events)


async def _catch_up(url: str, name: str) -> None:
    """Apply what the log has beyond the archive."""
    store = RoundTrips(url, timeout_ms=10_000, connections=1)
    try:
        updater = Updater(store, namespace=name)
        while await updater.step(block_ms=1) or updater.counts["shards_left"]:
            if updater.counts["shards_left"]:
                raise StackError("a node of the store does not answer; `riffle doctor` looks for causes")
    except (OSError, TimeoutError) as error:
        raise StackError(f"the event log does not answer: {error}; `riffle doctor` looks for causes") from error
    finally:
        await store.close()


def _hold(client: StoreClient, name: str, archive: Archive, *, accept_loss: bool) -> None:
    """Begin the new states where the archive ends, and keep in log and catalogue what comes after.

    Raises:
        StackError: an archive is behind what has left the log or the catalogue.
    """
    for _ in range(_ATTEMPTS):
        until = archive.until()
        for number, at in enumerate(until):
            client.set(position_key(name, number), text_of(at))
        client.set(rebuilt_key(), name, ex=_HELD_S)
        gaps = [
            f"the log of shard {number} has lost events"
            for number in range(SHARDS)
            if _left_after(client, stream_key(number), until[number])
        ]
        if _left_after(client, CATALOGUE, *catalogue_beside(archive).until()):
            gaps.append("the catalogue has lost changes of items")
        if not gaps or accept_loss:
            return
    raise StackError(
        f"{gaps[0]} that are not archived; restore the archive, or let them go with `riffle up --accept-loss`"
    )


def _left_after(client: StoreClient, key: str, position: Position) -> bool:
    """Whether entries of a stream were dropped that came after a position."""
    if not client.exists(key):
        return False
    stream = client.xinfo_stream(key)
    first = stream["first-entry"]
    return stream["entries-added"] > stream["length"] and first is not None and position_of(first[0]) > position


def _clear(client: StoreClient, *, keep: str) -> None:
    """Remove all states of this schema, and what belongs to them, but those of one namespace."""
    schema = keep.partition(".")[0]
    others: list[bytes] = []
    for key in client.scan_iter(match=f"riffle:*:{schema}.*", count=_CHUNK):
        name = key.split(b":")[2]  # a user's id may look like a namespace further on
        if name.startswith(f"{schema}.".encode()) and name != keep.encode():
            others.append(key)
        if len(others) == _CHUNK:
            client.unlink(*others)
            others.clear()
    if others:
        client.unlink(*others)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StackError(f"another rebuild is under way ({lock} is locked); wait for it") from error
        yield


def _source_key(name: str) -> str:
    return f"riffle:features:{name}:source"
