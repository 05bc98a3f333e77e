"""The eraser: carries out orders to forget users, in every store that has something of them.

An order is done when all of it is; whoever dies before leaves it waiting, and doing any part of it twice is safe.
Nothing comes back meanwhile: the scripts of log, updater and rebuild look whether a user is refused.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from recsys.archive import Archive
from recsys.datasets.dataset import MANIFEST, Dataset, load
from recsys.datasets.leave_out import rewrite_without
from recsys.datasets.merged import givers
from recsys.erased_users import ErasedUsers, user_digest
from recsys.verbs import MERGED
from service.archiver import READ, Archiver
from service.decisions import STREAM
from service.entry_users import decision_user, event_user, mentioned
from service.errors import StoreUnavailable
from service.event_log import stream_key
from service.forgetting import ORDERS, Forgetting, Order, receipt_key, rfc_3339
from service.log_entries import Entry
from service.round_trips import RoundTrips
from service.state_keys import SHARDS, shard
from service.stream_entries import remove_entries
from service.updater import dead_key

KEPT_S = 366 * 86_400  # a receipt, after its order is done
REWRITE_EVERY_S = 3600.0  # a rewrite of the append-only file takes a core; lookups time out for 0.8 s at 115 MB
_SCAN = 1_000

_log = logging.getLogger(__name__)

Removed = Mapping[str, Counter[str]]  # by user: how much of what was found


class Eraser:
    """Carries out what waits. One at a time: the process that keeps the archives.

    Args:
        forgetting: Takes orders for those who were merged into a user who is forgotten.
        events, decisions: The archivers of this home. data: The folder of imported data sets.
        withdraw: Keeps what some users did to items, as of a moment, without them. let_go: Ends that in time.
        forget_junk: Removes users, by digest, from what was left out of bundles' data. recount: Makes item stats anew.
    """

    def __init__(
        self,
        store: RoundTrips,
        forgetting: Forgetting,
        events: Archiver,
        decisions: Archiver,
        erased: ErasedUsers,
        *,
        data: Path,
        withdraw: Callable[[Collection[str], int], None],
        let_go: Callable[[int], None],
        forget_junk: Callable[[Collection[str]], None],
        recount: Callable[[], None],
    ) -> None:
        self._withdraw, self._let_go, self._recount, self._forgetting = withdraw, let_go, recount, forgetting
        self._forget_junk = forget_junk
        self._store, self._erased, self._data = store, erased, data
        self._events, self._decisions = events, decisions
        self._owes_rewrite, self._rewritten = False, -REWRITE_EVERY_S
        self.counts: Counter[str] = Counter()  # "forgotten", "rewrites"

    async def step(self) -> int:
        """Carry out every order that waits; how many there were.

        Raises:
            RedisError, OSError, TimeoutError: the store failed. ArchiveError, DatasetError: the disk did. Calling again
                goes on.
        """
        (waiting,) = await self._store.demand([("HVALS", ORDERS)])
        orders = [msgspec.json.decode(one, type=Order) for one in waiting]
        await asyncio.to_thread(self._let_go, await self._store.now_ms())
        if not orders:
            await self._rewrite_store()
            return 0
        for one in orders:
            await self._resume(one)
        users = {one.user_id: Counter[str]() for one in orders}
        await self._archive_all()
        if givers := await asyncio.to_thread(self._givers, users):
            for user in givers:
                await self._forgetting.forget(user)
            return await self.step()
        await self._withdraw_events(users)
        until_ms = {one.receipt.user: one.until_ms for one in orders}
        await asyncio.to_thread(self._erased.add, until_ms)
        # Again, and now everything of these users that was ever accepted is archived or left out. Another archiver that
        # has read some of it and not added it yet adds nothing: the archive no longer ends where it began.
        await self._archive_all()
        await self._withdraw_events(users)  # again: of what came to the archive since
        await asyncio.to_thread(_rewrite, self._events.archive, users, "archived_events", _without)
        await asyncio.to_thread(_rewrite, self._decisions.archive, users, "archived_decisions", _stubs)
        for number in range(SHARDS):
            await self._remove(stream_key(number), users, "events", partial(event_user, number=number, users=users))
            await self._remove(dead_key(number), users, "dead_events", partial(mentioned, field=b"entry", users=users))
        await self._remove(STREAM, users, "decisions", partial(decision_user, users=users))
        await self._remove_states(users)
        await asyncio.to_thread(rewrite_without, self._data, self._count_imported(users))
        await asyncio.to_thread(self._forget_junk, until_ms)
        await asyncio.to_thread(self._recount)
        await asyncio.to_thread(self._let_go, await self._store.now_ms())
        await self._finish(orders, users)
        self.counts["forgotten"] += len(orders)
        self._owes_rewrite = True
        await self._rewrite_store()
        return len(orders)

    async def _withdraw_events(self, users: Removed) -> None:
        await asyncio.to_thread(self._withdraw, users, await self._store.now_ms())

    async def _resume(self, order: Order) -> None:
        try:
            await self._forgetting.resume(order)
        except StoreUnavailable as error:
            raise ConnectionError(str(error)) from error

    def _count_imported(self, users: Removed) -> Callable[[Dataset], Collection[str]]:
        """Who of a data set is to be left out; also who was forgotten earlier, if an import had them."""

        def gone(dataset: Dataset) -> Collection[str]:
            number_of = {user: number for number, user in enumerate(dataset.user_id) if user in users}
            for user, number in number_of.items():
                users[user]["imported_events"] += int((dataset.events.user == number).sum())
            return self._erased.among(dataset.user_id)

        return gone

    def _givers(self, users: Collection[str]) -> list[str]:
        """Who was merged into one of the users, and is not one of them: they were the same person."""
        theirs = [("user_id", "in", list(users)), ("type", "=", MERGED)]
        digests = set(givers(self._events.archive.read(columns=("properties",), where=theirs)))
        digests -= {user_digest(user) for user in users}
        if not digests:
            return []
        known = set(self._events.archive.read(columns=("user_id",))["user_id"].unique().to_pylist())
        known.update(*(load(one.parent).user_id for one in self._data.glob(f"*/{MANIFEST}")))
        return [user for user in known if user_digest(user) in digests]

    async def _archive_all(self) -> None:
        for one in (self._events, self._decisions):
            await one.drain()

    async def _remove(self, stream: str, users: Removed, what: str, user_in: Callable[[Entry], str | None]) -> None:
        """Take the entries in which one of the users is found out of a stream.

        A stream in which they may have been is written anew in any case: what was trimmed left its bytes in a node.
        """
        found: dict[bytes, str] = {}
        begin = "-"
        while begin:
            (page,) = await self._store.demand([("XRANGE", stream, begin, "+", "COUNT", str(READ))])
            found |= {entry[0]: user for entry in page if (user := user_in(entry))}
            begin = f"({page[-1][0].decode('ascii')}" if len(page) == READ else ""
        if found or stream in {STREAM, *(stream_key(shard(user)) for user in users)}:
            await remove_entries(self._store, stream, found)
        for user in found.values():
            users[user][what] += 1

    async def _remove_states(self, users: Removed) -> None:
        """Delete the users' states in every namespace, also those of other versions."""
        settled = await self._slots()
        async for key in self._keys("riffle:*:user:*"):
            user = key.split(b":", 4)[4].decode("utf-8", "replace") if key.count(b":") >= 4 else ""
            if user in users:
                await self._store.demand([("UNLINK", key)])
                users[user]["states"] += 1
        if "[" in settled or await self._slots() != settled:  # a state may have gone to a node that was seen before
            raise ConnectionError("slots of the store are on their way to other nodes; users are forgotten after that")

    async def _slots(self) -> str:
        """Which node of a cluster has which slots, and in brackets those that are on their way."""
        if not self._store.is_cluster:
            return ""
        told = await asyncio.gather(*(node.demand([("CLUSTER", "NODES")]) for node in await self._store.nodes()))
        own = [line.split() for (lines,) in told for line in lines.decode().splitlines() if "myself" in line]
        return "; ".join(sorted(" ".join((line[0], *line[8:])) for line in own))

    async def _keys(self, pattern: str) -> AsyncIterator[bytes]:
        for node in await self._store.nodes():
            cursor = b"0"
            while True:
                ((cursor, keys),) = await node.demand([("SCAN", cursor, "MATCH", pattern, "COUNT", str(_SCAN))])
                for key in keys:
                    yield key
                if cursor == b"0":
                    break

    async def _rewrite_store(self) -> None:
        """Have the store write its append-only file anew, without the commands of the past, if it may be asked to."""
        if not self._owes_rewrite or time.monotonic() < self._rewritten + REWRITE_EVERY_S:
            return
        for node in await self._store.nodes():
            (info,) = await node.call([("INFO", "persistence")])
            if isinstance(info, bytes) and b"aof_enabled:1" in info:
                (reply,) = await node.call([("BGREWRITEAOF",)])
                if isinstance(reply, Exception):
                    _log.warning("until its next rewrite the store's append-only file has who was forgotten: %s", reply)
                self.counts["rewrites"] += not isinstance(reply, Exception)
        self._owes_rewrite, self._rewritten = False, time.monotonic()

    async def _finish(self, orders: Collection[Order], removed: Removed) -> None:
        done_at = rfc_3339(await self._store.now_ms())
        for one in orders:
            receipt = msgspec.structs.replace(
                one.receipt, status="done", done_at=done_at, removed=dict(removed[one.user_id])
            )
            told = "SET", receipt_key(receipt.receipt_id), msgspec.json.encode(receipt), "EX", str(KEPT_S)
            await self._store.demand([told])
            await self._store.demand([("HDEL", ORDERS, receipt.receipt_id)])


def _rewrite(archive: Archive, users: Removed, what: str, change: Callable[[pa.Table, pa.Array], pa.Table]) -> None:
    def changed(rows: pa.Table) -> pa.Table:
        theirs = pc.is_in(rows["user_id"], pa.array(list(users), pa.string()))
        found = rows.filter(theirs)["user_id"].to_pylist()
        for user in found:
            users[user][what] += 1
        return change(rows, theirs) if found else rows

    archive.rewrite(changed, where=[("user_id", "in", list(users))])


def _without(rows: pa.Table, theirs: pa.Array) -> pa.Table:
    return rows.filter(pc.invert(theirs))


def _stubs(rows: pa.Table, theirs: pa.Array) -> pa.Table:
    """Leave the id and the time of each answer, so that who asks for it is told that it was erased."""
    for name in ("user_id", "record"):
        column = pc.if_else(theirs, pa.scalar(None, rows[name].type), rows[name])
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), column)
    return rows
