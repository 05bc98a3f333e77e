"""How fast states are made from an import and from the archive, on one core, what they are like, what memory they need.

    python -m loadtest.rebuild_states PATH

Everything in a folder of its own and with a store of its own, which are gone afterwards. The process and the store
share one core. Every state is compared with what its user did: seen items must be exactly those.
"""

import argparse
import asyncio
import os
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import redis

from recsys.archive import Archive
from recsys.datasets.dataset import Dataset
from recsys.datasets.detect import read_dataset
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.features.user import fingerprint
from recsys.vocabulary import item_keys
from service.archives import event_archive, event_rows
from service.event_log import Event, EventLog
from service.rebuild import rebuild
from service.round_trips import RoundTrips
from service.settings import Settings
from service.stack import ports, valkey
from service.state_keys import SHARDS, live_key, live_name, shard, state_key

LOGGED = 200_000
PER_MS = 10  # events that arrive in a millisecond of the archive
START_MS = 1_700_000_000_000


def archived(dataset: Dataset, archive: Archive) -> None:
    """Put all events of a data set into an archive, as if they had come over HTTP."""
    events, logged = dataset.events, []
    until = [(0, 0)] * SHARDS
    for number, (user, item, ts_ms, verb) in enumerate(
        zip(events.user.tolist(), events.item.tolist(), events.ts_ms.tolist(), events.verb.tolist(), strict=True)
    ):
        user_id = dataset.user_id[user]
        stream, position = shard(user_id), (START_MS + number // PER_MS, number)
        event = Event(
            event_id=str(number),
            type="rating",
            user_id=user_id,
            item_id=dataset.item_id[item],
            ts_ms=ts_ms,
            received_ms=position[0],
            verb=verb,
        )
        logged.append((stream, position, event))
        until[stream] = position
    archive.append(event_rows(logged), after=archive.until(), until=until)


def described(url: str, dataset: Dataset) -> dict[str, Any]:
    """Sizes of the states, and how many users' seen items are not exactly those of their events."""
    with redis.Redis.from_url(url) as client:
        name = live_name(client.get(live_key()))
        values = [client.get(state_key(name, user_id)) for user_id in dataset.user_id]
    states, problems = unpack(values, SCHEMA_HASH)
    keys = item_keys(dataset.item_id)
    order = np.argsort(dataset.events.user, kind="stable")
    bounds = np.searchsorted(dataset.events.user[order], np.arange(len(dataset.user_id) + 1))
    wrong = 0
    for row in range(len(values)):
        did = keys[dataset.events.item[order[bounds[row] : bounds[row + 1]]]]
        kept = fingerprint(states.item_key[row, : states.length[row]]).tolist()
        wrong += set(kept) | set(states.seen[row, : states.seen_count[row]].tolist()) != set(fingerprint(did).tolist())
    sizes = [len(value or b"") for value in values]
    return {
        "users": len(values),
        "median_bytes": int(np.median(sizes)),
        "largest_bytes": max(sizes),
        "undecodable": len(problems),
        "seen_items_wrong": wrong,
    }


async def _logged(url: str, dataset: Dataset) -> None:
    """Put clicks with random ids into the log, as the API does."""
    store = RoundTrips(url, timeout_ms=10_000, connections=1)
    log, users, items = EventLog(store, limit=LOGGED), dataset.user_id, dataset.item_id
    now_ms = time.time_ns() // 1_000_000
    for start in range(0, LOGGED, 1000):
        events = [
            Event(
                event_id=uuid.uuid4().hex,
                type="click",
                user_id=users[number % len(users)],
                item_id=items[number % len(items)],
                ts_ms=now_ms,
                received_ms=now_ms,
                verb=0,
            )
            for number in range(start, start + 1000)
        ]
        await log.append(events)
    await store.close()


def _memory(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("memory")["used_memory_dataset"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path, help="a data set as `riffle import` takes it")
    path = parser.parse_args().path
    dataset = read_dataset(path, positive_rating=4.0)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=folder, valkey_port=ports.free_port())
        url = valkey.start(settings).url
        try:
            archive = event_archive(settings)
            for what, imported in (("import, compiled code loaded for the first time", dataset), ("import", dataset)):
                _print(what, rebuild(url, imported, archive))
            print(described(url, dataset))
            print(f"{_memory(url) / len(dataset.user_id):,.0f} bytes of the store a user, of all it holds")
            archived(dataset, archive)
            _print("archive", rebuild(url, None, archive))
            print(described(url, dataset))
            before = _memory(url)
            asyncio.run(_logged(url, dataset))
            print(f"{(_memory(url) - before) / LOGGED:,.0f} bytes of the store an event in the log, its id included")
        finally:
            valkey.stop(settings)


def _print(what: str, made: Any) -> None:
    rate = made.source.events / made.seconds
    print(f"{what}: {made.source.events:,} events in {made.seconds:.2f} s, {rate:,.0f} events/s")


if __name__ == "__main__":
    main()
