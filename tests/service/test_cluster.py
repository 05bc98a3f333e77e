"""The store as a Redis Cluster of three real nodes: same lists, same states, also when a node dies or a slot moves."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import redis

from recsys.datasets.dataset import Dataset
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.items import Item
from recsys.types import World
from recsys.verbs import Verb
from service.archived_streams import CatalogueStream, EventStreams
from service.archiver import Archiver
from service.archives import archived_changes, catalogue_beside, event_archive
from service.catalogue_backlog import catalogue_backlog
from service.decision_stream import DecisionStream
from service.decisions import STREAM, DecisionLog
from service.errors import LogUnavailable, StackError
from service.event_backlog import BacklogWatch, backlog
from service.event_ids import IdCleaner, day_of, ids_of
from service.event_log import Event, EventLog, Outcome, stream_key
from service.forgetting import Forgetting
from service.item_schemas import ItemDescription
from service.item_snapshot import CATALOGUE, decode, snapshot_key
from service.item_updater import ItemUpdater
from service.items import ItemCatalogue, items_key, restore
from service.lookup import StateLookup
from service.merging import Merging
from service.node_connections import Command, NodeConnections
from service.rebuild import rebuild
from service.round_trips import RoundTrips
from service.schemas import RecommendationRequest
from service.settings import Settings
from service.slots import slot_of
from service.stack.valkey import check_version
from service.state_keys import (
    FIRST,
    SHARDS,
    beside,
    fence_key,
    live_key,
    live_name,
    position_key,
    refused_key,
    shard,
    state_key,
)
from service.store_client import store_client
from service.store_url import node_url, seeds
from service.updater import Updater, dead_key
from service.updater import run as run_updater
from tests.redis_cluster import ClusterNode, RealCluster, real_cluster, until
from tests.service.conftest import BreakableStore
from tests.service.gateways import gateway_at
from tests.service.test_decisions import decision
from tests.service.test_eraser import eraser_in
from tests.service.test_lookup import STRANGE_IDS
from tests.service.test_updater import by_the_log, catch_up, entries_in, some_events

pytestmark = pytest.mark.valkey
EVERYTHING = (2**63, 0)
ACL = Path(__file__).resolve().parents[2] / "deploy" / "valkey" / "users.acl"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    with real_cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[RealCluster]:
    """Each of the three nodes with a replica."""
    with real_cluster(tmp_path / "cluster", replicas=3) as made:
        yield made


def user_at(node: ClusterNode, number: int = 0) -> str:
    """A user whose state lies on a node."""
    ranges = node.slots()
    names = (f"visitor-{at}" for at in range(10_000))
    own = (one for one in names if any(a <= slot_of(state_key(FIRST, one)) <= b for a, b in ranges))
    return next(one for at, one in enumerate(own) if at == number)


def click(number: int, user_id: str) -> Event:
    now_ms = time.time_ns() // 1_000_000
    return Event(
        event_id=f"{user_id} {number}",
        type="click",
        user_id=user_id,
        item_id=f"item-{number % 400:04d}",
        ts_ms=now_ms,
        received_ms=now_ms,
        verb=int(Verb.CLICK),
    )


def states_at(url: str) -> dict[str, bytes]:
    with store_client(url, timeout_s=5) as client:
        name = live_name(client.get(live_key()))
        keys = list(client.scan_iter(match=f"riffle:*:{name}:user:*", count=1000))
        return {key.split(b":user:")[1].decode(): client.get(key) for key in keys}


class Parts:
    """The service's parts over one store, as many as a test asks for."""

    def __init__(self, url: str, *, timeout_ms: int = 3000, replicas: int = 0) -> None:
        self.store = RoundTrips(url, timeout_ms=timeout_ms, connections=2)
        self.log = EventLog(self.store, limit=1_000_000, replicas=replicas)

    async def __aenter__(self) -> "Parts":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()


# --- one slot, one node ---


def test_slots_are_those_of_the_server(cluster: RealCluster) -> None:
    keys = ["", "a", "{}", "{}a", "a{b", "a{b}c", "{a}{b}", "a{}{b}", "}a{b}", *STRANGE_IDS]
    keys += [state_key(FIRST, one) for one in STRANGE_IDS]
    with cluster.nodes[0].client() as client:
        assert [slot_of(key) for key in keys] == [client.execute_command("CLUSTER KEYSLOT", key) for key in keys]


async def test_a_batch_is_one_round_trip_to_each_node(cluster: RealCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    trips: Counter[NodeConnections] = Counter()
    call = NodeConnections.call

    async def counted(self: NodeConnections, commands: Sequence[Command], **given: Any) -> list[Any]:
        trips[self] += 1
        return await call(self, commands, **given)

    async with Parts(cluster.url) as parts:
        lookup, users = StateLookup(parts.store), [f"user-{number}" for number in range(256)]
        await lookup.fetch(users)
        monkeypatch.setattr(NodeConnections, "call", counted)
        assert await lookup.fetch(users) == ([None] * 256, [None] * 256)
    assert list(trips.values()) == [1, 1, 1]


async def test_a_command_without_a_key_belongs_to_no_node(cluster: RealCluster) -> None:
    async with Parts(cluster.url) as parts:
        with pytest.raises(ValueError, match="TIME names no key"):
            await parts.store.demand([("TIME",)])
        assert abs(await parts.store.now_ms() - time.time() * 1000) < 1000


# --- what the service does ---


async def test_events_become_states_and_the_list_is_personal(
    cluster: RealCluster, served: World, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    archive = event_archive(Settings(home=str(tmp_path)))
    await asyncio.to_thread(rebuild, cluster.url, synthetic_dataset, archive)
    users = [user_at(node) for node in cluster.nodes]
    async with (
        Parts(cluster.url) as parts,
        gateway_at(served, cluster.url) as (gateway, _),
    ):
        updater = Updater(parts.store)
        assert (await gateway.recommend(RecommendationRequest(user_id=users[0])))["strategy"] == "cold_start"
        events = [click(number, user) for user in users for number in range(3)]
        assert set(await parts.log.append(events)) == {Outcome.ACCEPTED}
        assert set(await parts.log.append(events)) == {Outcome.DUPLICATE}
        assert await catch_up(updater) == len(events)
        for user in [*users, synthetic_dataset.user_id[0]]:
            body = await gateway.recommend(RecommendationRequest(user_id=user))
            assert (body["strategy"], body["degraded"]) == ("personalized", [])
        watch = BacklogWatch(parts.store)
        await watch.look()
        assert (watch.oldest_s, watch.dead) == (0.0, 0)
    assert backlog(cluster.url).waiting == 0


async def test_states_made_anew_from_archive_and_log_are_the_same_to_the_byte(
    cluster: RealCluster, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    url, archive = cluster.url, event_archive(Settings(home=str(tmp_path)))
    await asyncio.to_thread(rebuild, url, synthetic_dataset, archive)
    async with Parts(url) as parts:
        updater, items = Updater(parts.store), ItemUpdater(parts.store)
        archiver = Archiver(parts.store, archive, EventStreams(parts.store, kept=1))
        for seed in (1, 2):
            await parts.log.append(some_events(1000, seed=seed))
            await catch_up(updater)
            await asyncio.sleep(0.005)
            await items.step()
            if seed == 1:
                await archiver.drain()
                await archiver.step()
        assert archiver.counts["archived"] == 1000
        assert archiver.counts["trimmed"] > 900
        assert items.counts["counted"] > 1000
    before = states_at(url)
    assert len(before) > len(synthetic_dataset.user_id)
    await asyncio.to_thread(rebuild, url, synthetic_dataset, archive)
    assert states_at(url) == before


async def test_items_are_described_archived_and_restored(
    cluster: RealCluster, served: World, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    url, archive = cluster.url, event_archive(Settings(home=str(tmp_path)))
    await asyncio.to_thread(rebuild, url, synthetic_dataset, archive)
    async with Parts(url) as parts:
        catalogue = ItemCatalogue(parts.store, served.bundle.vocabulary, limit=1000)
        await catalogue.put("brand new", ItemDescription(title="New"))
        assert (await catalogue.show("brand new"))["title"] == "New"
        items = ItemUpdater(parts.store)
        await asyncio.sleep(0.005)
        await items.step()
        assert catalogue_backlog(url).waiting == 0
        changes = catalogue_beside(archive)
        await Archiver(parts.store, changes, CatalogueStream(parts.store, kept=1)).step()
        assert [one.item_id for one in archived_changes(changes, EVERYTHING)] == ["brand new"]
    with store_client(url, timeout_s=5) as client:
        (value,) = [client.get(snapshot_key(live_name(client.get(live_key()))))]
        assert list(decode(value).items) == ["brand new"]
        client.delete(items_key(is_cluster=True))
        restore(client, {"brand new": Item(title="New")})
        assert client.hlen(items_key(is_cluster=True)) == 1


async def test_users_are_merged_and_forgotten_and_old_ids_go(
    cluster: RealCluster, served: World, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    settings = Settings(home=str(tmp_path))
    await asyncio.to_thread(rebuild, cluster.url, synthetic_dataset, event_archive(settings))
    giver, user = user_at(cluster.nodes[0]), user_at(cluster.nodes[1])
    async with Parts(cluster.url) as parts:
        updater, forgetting = Updater(parts.store), Forgetting(parts.store, refuse_s=600)
        await parts.log.append([click(number, giver) for number in range(5)])
        await catch_up(updater)
        merged = await Merging(parts.store, parts.log, served.bundle.vocabulary).merge(user, giver)
        assert merged["merged"] + merged["unknown_items"] == 5
        await catch_up(updater)
        written = DecisionLog(parts.store, queue=10, stream_length=100)
        record = decision(1, id=str(UUID(int=time.time_ns() // 1_000_000 << 80)), query={"user_id": giver})
        written.put(record)
        await written.flush()
        assert (await DecisionStream(parts.store).find(record.id)).id == record.id
        receipt = await forgetting.forget(giver)
        assert (await forgetting.forget(giver))["receipt_id"] == receipt["receipt_id"]
        assert await eraser_in(parts.store, settings, cluster.url).step() >= 1
        assert (await forgetting.receipt(receipt["receipt_id"]))["status"] == "done"
        assert (await parts.log.append([click(9, giver)])) == [Outcome.REFUSED]
        removed = await IdCleaner(parts.store).step(now_s=(day_of() + 3) * 86_400)
        assert removed >= 2
    assert giver not in states_at(cluster.url)
    with store_client(cluster.url, timeout_s=5) as client:
        left = [fields for number in range(SHARDS) for _, fields in client.xrange(stream_key(number))]
        assert not any(giver.encode() in fields[b"e"] for fields in left)


async def test_an_id_is_remembered_within_its_shard(cluster: RealCluster) -> None:
    first = click(1, "ann")
    async with Parts(cluster.url) as parts:
        same = next(user for user in (f"u{n}" for n in range(999)) if shard(user) == shard("ann"))
        assert await parts.log.append([first]) == [Outcome.ACCEPTED]
        assert await parts.log.append([msgspec.structs.replace(first, user_id=same)]) == [Outcome.CONFLICT]


async def test_the_access_list_of_the_deployment_suffices_on_a_cluster_too(
    cluster: RealCluster, served: World, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    rules = ACL.read_text("utf-8").partition("user svc ")[2].split("\n")[0].replace("#PASSWORD_SHA256", ">secret")
    for node in cluster.nodes:
        with node.client() as client:
            client.execute_command("ACL", "SETUSER", "svc", *in_selectors(rules))
    url = cluster.url.replace("://", "://svc:secret@")
    settings = Settings(home=str(tmp_path))
    archive = event_archive(settings)
    await asyncio.to_thread(rebuild, url, synthetic_dataset, archive)
    user = user_at(cluster.nodes[0])
    async with Parts(url) as parts:
        await parts.log.append([click(number, user) for number in range(3)])
        await catch_up(Updater(parts.store))
        await ItemCatalogue(parts.store, served.bundle.vocabulary, limit=10).put("new", ItemDescription(title="New"))
        await ItemUpdater(parts.store).step()
        await Archiver(parts.store, archive, EventStreams(parts.store, kept=1)).drain()
        await Archiver(parts.store, catalogue_beside(archive), CatalogueStream(parts.store, kept=1)).drain()
        await Forgetting(parts.store, refuse_s=600).forget(user)
        assert await eraser_in(parts.store, settings, cluster.url).step() == 1
        await IdCleaner(parts.store).step()
        assert (await parts.log.append([click(4, user)])) == [Outcome.REFUSED]
        await parts.store.demand([("SET", fence_key(0), ""), ("WAIT", "0", "1")])
    assert check_version(url)


def in_selectors(rules: str) -> list[str]:
    """The words of an access list; a selector, in parentheses, is one."""
    return re.findall(r"\(.*?\)|\S+", rules)


# --- a node that is away ---


async def test_lists_of_users_of_a_dead_node_say_that_they_are_degraded_and_those_of_others_do_not(
    cluster: RealCluster, served: World
) -> None:
    users = [user_at(node) for node in cluster.nodes]
    async with Parts(cluster.url) as parts, gateway_at(served, cluster.url) as (gateway, _):
        await parts.log.append([click(number, user) for user in users for number in range(3)])
        await catch_up(Updater(parts.store))

        async def lists() -> list[tuple[str, list[str]]]:
            """Of one micro-batch."""
            bodies = await asyncio.gather(*(gateway.recommend(RecommendationRequest(user_id=user)) for user in users))
            return [(body["strategy"], [one["cause"] for one in body["degraded"]]) for body in bodies]

        personal = ("personalized", list[str]())
        assert await lists() == [personal] * 3
        cluster.nodes[0].kill()
        assert await lists() == [("cold_start", ["unavailable"]), personal, personal]
        cluster.nodes[0].start()
        await until_async(lists, lambda found: found == [personal] * 3)


async def test_users_of_a_dead_node_are_degraded_the_others_are_not_and_afterwards_nobody_is(
    cluster: RealCluster,
) -> None:
    users = [user_at(node) for node in cluster.nodes]
    async with Parts(cluster.url) as parts, Parts(cluster.url, timeout_ms=1_000) as quick:
        updater, lookup = Updater(parts.store), StateLookup(quick.store)
        await parts.log.append([click(0, user) for user in users])
        await catch_up(updater)
        cluster.nodes[1].kill()
        began = time.monotonic()
        values, causes = await lookup.fetch(users)
        assert time.monotonic() - began < 0.9
        assert causes == [None, "unavailable", None]
        assert [value is None for value in values] == [False, True, False]
        with pytest.raises(LogUnavailable):
            await parts.log.append([click(1, user) for user in users])
        for user in (users[0], users[2]):  # what they do goes on having an effect
            assert set(await parts.log.append([click(2, user)])) == {Outcome.ACCEPTED}
        assert await updater.step() >= 2
        values, _ = await lookup.fetch(users)
        states, _ = unpack(values, SCHEMA_HASH)
        assert [int(length) for length in states.length] == [3, 0, 3]
        cluster.nodes[1].start()
        await until_async(lambda: lookup.fetch(users), lambda found: found[1] == [None] * 3)
        assert Outcome.ACCEPTED in await parts.log.append([click(1, user) for user in users])
        await catch_up(updater)
        states, _ = unpack((await lookup.fetch(users))[0], SCHEMA_HASH)
        assert [int(length) for length in states.length] == [3, 2, 3]


async def test_a_node_that_hangs_costs_one_timeout_not_one_for_each_batch(cluster: RealCluster) -> None:
    users = [user_at(node) for node in cluster.nodes]
    async with Parts(cluster.url, timeout_ms=1_000) as parts:
        lookup = StateLookup(parts.store)
        await lookup.fetch(users)
        cluster.nodes[0].pause()
        try:
            assert (await lookup.fetch(users))[1] == ["timeout", None, None]
            began = time.monotonic()
            for _ in range(5):
                assert (await lookup.fetch(users))[1] == ["unavailable", None, None]
            assert time.monotonic() - began < 1
        finally:
            cluster.nodes[0].resume()
        await until_async(lambda: lookup.fetch(users), lambda found: found[1] == [None] * 3)


async def test_no_node_at_all_is_unavailable_to_everybody(cluster: RealCluster) -> None:
    for node in cluster.nodes:
        node.kill()
    async with Parts(cluster.url, timeout_ms=200) as parts:
        assert await StateLookup(parts.store).fetch(["a", "b"]) == ([None, None], ["unavailable"] * 2)
        with pytest.raises(LogUnavailable):
            await parts.log.append([click(0, "a")])
        with pytest.raises((redis.RedisError, OSError)):
            await Updater(parts.store).step()
    with pytest.raises(StackError, match="does not answer"):
        backlog(cluster.url)


# --- slots that move, nodes that take over ---


class Traffic:
    """Clients that send events until each is acknowledged, and an updater, while something happens to the store."""

    def __init__(self, url: str, users: list[str], *, replicas: int = 0) -> None:
        self._url, self._users, self._replicas = url, users, replicas
        self.acknowledged: list[Event] = []
        self.refused = 0

    async def during(self, happens: asyncio.Future[None]) -> None:
        async with Parts(self._url, replicas=self._replicas) as parts, Parts(self._url) as others:
            updater = asyncio.create_task(run_updater(Updater(others.store)))
            number = 0
            try:
                while not happens.done() or number < 50:
                    batch = [click(number, user) for user in self._users]
                    await self._send(parts.log, batch)
                    self.acknowledged += batch
                    number += 1
                await happens
            finally:
                updater.cancel()
            await until_async(lambda: caught_up(others.store), lambda done: done)

    async def _send(self, log: EventLog, batch: list[Event]) -> None:
        while True:
            try:
                outcomes = await log.append(batch)
            except LogUnavailable:
                self.refused += 1
                await asyncio.sleep(0.05)
                continue
            assert set(outcomes) <= {Outcome.ACCEPTED, Outcome.DUPLICATE}
            return

    def assert_nothing_is_lost_or_counted_twice(self) -> None:
        with store_client(self._url, timeout_s=5) as client:
            entries = entries_in(client)
            logged = [event.event_id for _, event in entries]
            assert sorted(logged) == sorted(event.event_id for event in self.acknowledged)
            expected = by_the_log(entries)
            assert {user: client.get(state_key(FIRST, user)) for user in expected} == expected


async def caught_up(store: RoundTrips) -> bool:
    return not await catch_up(Updater(store))


async def test_moving_a_slot_under_load_loses_no_event_and_repeats_none(cluster: RealCluster) -> None:
    users = [user_at(node, number) for node in cluster.nodes for number in range(4)]
    slot = slot_of(state_key(FIRST, users[0]))
    async with Parts(cluster.url) as parts:  # so that there is something to move
        others = [f"other-{number}" for number in range(3000)]
        other_events = [click(0, user) for user in others]
        assert set(await parts.log.append(other_events)) == {Outcome.ACCEPTED}
        await catch_up(Updater(parts.store))
        lookup = StateLookup(parts.store)
        await lookup.fetch(users)

        def look() -> None:
            with store_client(cluster.url, timeout_s=5) as client:  # half of the slot's keys are there, half are here
                assert sum(client.exists(state_key(FIRST, user)) for user in others) == len(others)

        move = asyncio.ensure_future(asyncio.to_thread(cluster.move_slot, slot, cluster.nodes[2], meanwhile=look))
        traffic = Traffic(cluster.url, users)
        await traffic.during(move)
        traffic.acknowledged += other_events
        assert cluster.owner(slot) is cluster.nodes[2]
        assert (await lookup.fetch([*users, *others]))[1] == [None] * (len(users) + len(others))
    traffic.assert_nothing_is_lost_or_counted_twice()


async def test_a_slot_handed_over_as_a_whole_loses_no_event_and_repeats_none(cluster: RealCluster) -> None:
    users = [user_at(node, number) for node in cluster.nodes for number in range(4)]
    slot = slot_of(state_key(FIRST, users[0]))
    moved = asyncio.ensure_future(asyncio.to_thread(cluster.hand_over_slot, slot, cluster.nodes[2]))
    traffic = Traffic(cluster.url, users)
    await traffic.during(moved)
    assert cluster.owner(slot) is cluster.nodes[2]
    traffic.assert_nothing_is_lost_or_counted_twice()


async def test_states_are_read_on_both_sides_of_a_slot_on_its_way(cluster: RealCluster) -> None:
    user = user_at(cluster.nodes[0])
    slot = slot_of(state_key(FIRST, user))
    users = [one for one in (f"x-{number}" for number in range(4000)) if slot_of(state_key(FIRST, one)) == slot]
    async with Parts(cluster.url) as parts:
        await parts.store.demand([("SET", state_key(FIRST, one), one) for one in users])
        lookup = StateLookup(parts.store)
        found: list[object] = []
        loop = asyncio.get_running_loop()

        def look() -> None:
            found.append(asyncio.run_coroutine_threadsafe(lookup.fetch(users), loop).result(10))

        await asyncio.to_thread(cluster.move_slot, slot, cluster.nodes[1], meanwhile=look)
        expected = [one.encode() for one in users], [None] * len(users)
        assert found == [expected]
        assert await lookup.fetch(users) == expected


async def test_who_is_forgotten_while_slots_move_is_forgotten_when_they_have_moved(
    cluster: RealCluster, tmp_path: Path
) -> None:
    user = user_at(cluster.nodes[0])
    slot = slot_of(state_key(FIRST, user))
    async with Parts(cluster.url) as parts:
        await parts.log.append([click(0, user)])
        await catch_up(Updater(parts.store))
        eraser = eraser_in(parts.store, Settings(home=str(tmp_path)), cluster.url)
        receipt = await Forgetting(parts.store, refuse_s=600).forget(user)
        with cluster.nodes[0].client() as here, cluster.nodes[1].client() as there:
            there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", cluster.nodes[0].node_id)
            here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", cluster.nodes[1].node_id)
            with pytest.raises((ConnectionError, redis.RedisError)):
                await eraser.step()
            for client in (there, here):
                client.execute_command("CLUSTER SETSLOT", slot, "STABLE")
        assert await eraser.step() == 1
        assert (await Forgetting(parts.store, refuse_s=600).receipt(receipt["receipt_id"]))["status"] == "done"


async def test_when_a_replica_takes_over_no_acknowledged_event_is_lost(replicated: RealCluster) -> None:
    users = [user_at(node, number) for node in replicated.nodes for number in range(4)]
    dead, heir = replicated.nodes[0], replicated.replicas[0]

    async def fail() -> None:
        await asyncio.sleep(0.3)
        dead.kill()
        await asyncio.to_thread(until, lambda: bool(heir.slots()))

    traffic = Traffic(replicated.url, users, replicas=1)
    # The new master has no replica of its own, and who waits for one would wait for ever.
    task = asyncio.ensure_future(fail())

    async def and_again() -> None:
        await task
        await asyncio.to_thread(dead.start)
        with heir.client() as client:
            await asyncio.to_thread(until, lambda: client.info("replication")["connected_slaves"] == 1)

    await traffic.during(asyncio.ensure_future(and_again()))
    assert traffic.refused > 0
    traffic.assert_nothing_is_lost_or_counted_twice()


async def test_events_that_too_few_replicas_have_are_not_acknowledged(replicated: RealCluster) -> None:
    user = user_at(replicated.nodes[0])
    again = [click(1, user)]
    async with Parts(replicated.url, replicas=1) as parts, Parts(replicated.url) as plain:
        assert await parts.log.append([click(0, user)]) == [Outcome.ACCEPTED]
        replicated.replicas[0].pause()
        try:
            await plain.log.append(again)
            with pytest.raises(LogUnavailable, match="fewer than 1 replicas"):
                await parts.log.append(again)  # in the log already, but on one node alone
        finally:
            replicated.replicas[0].resume()
        assert await parts.log.append(again) == [Outcome.DUPLICATE]


async def until_async(look, done) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 20
    while not done(await look()):
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


# --- where it is, and whether it is one ---


def test_version_is_asked_of_every_node(cluster: RealCluster) -> None:
    assert int(check_version(cluster.url).split(".")[0]) >= 7


def test_a_node_of_a_cluster_is_not_taken_for_a_server_nor_a_server_for_a_cluster(
    cluster: RealCluster, breakable_store: BreakableStore
) -> None:
    port = cluster.nodes[0].port
    with pytest.raises(StackError, match=r"is a node of a cluster; write redis\+cluster://"):
        check_version(f"redis://127.0.0.1:{port}/0")
    with pytest.raises(StackError, match="does not answer"):
        check_version(breakable_store.url.replace("redis://", "redis+cluster://"))


def test_slots_that_nobody_has_are_reported_before_anything_starts(cluster: RealCluster) -> None:
    with cluster.nodes[0].client() as client:
        client.execute_command("CLUSTER DELSLOTS", 7, 8)
        until(lambda: not any(a <= 7 <= b for a, b in cluster.nodes[0].slots()))
    with pytest.raises(StackError, match="no node has slot 7, and 1 others"):
        check_version(node_cluster_url(cluster.nodes[0]))


def node_cluster_url(node: ClusterNode) -> str:
    return f"redis+cluster://127.0.0.1:{node.port}"


def test_every_node_has_user_password_and_options_of_the_url() -> None:
    url = "rediss+cluster://svc:p%40ss@one:7000,two,[::1]:7002/0?ssl_cert_reqs=none"
    assert [str(one) for one in seeds(url)] == ["one:7000", "two:6379", "[::1]:7002"]
    assert node_url(url, seeds(url)[1]) == "rediss://svc:p%40ss@two:6379/0?ssl_cert_reqs=none"
    assert node_url(url, seeds(url)[2]) == "rediss://svc:p%40ss@[::1]:7002/0?ssl_cert_reqs=none"


def test_all_keys_of_a_shard_have_one_slot() -> None:
    """A script may take any of them together."""
    user, number = "somebody", shard("somebody")
    keys = [state_key(FIRST, user), refused_key(user), stream_key(number), dead_key(number), fence_key(number)]
    keys += [
        position_key(FIRST, number),
        ids_of(7, number),
        beside(stream_key(number), f"{stream_key(number)}:copy", is_cluster=True),
    ]
    assert len({slot_of(key) for key in keys}) == 1
    assert slot_of(items_key(is_cluster=True)) == slot_of(CATALOGUE)
    assert slot_of(beside(STREAM, f"{STREAM}:copy", is_cluster=True)) == slot_of(STREAM)
