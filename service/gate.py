"""The gate of a home: what `recsys.evaluation.gate` asks for, of this registry, these data and these records."""

import asyncio
import time
from datetime import datetime
from typing import Any

import msgspec

from recsys.datasets.dataset import Dataset
from recsys.datasets.junk import without_junk
from recsys.errors import RecsysError
from recsys.evaluation import gate
from recsys.evaluation.compare import Asked
from recsys.evaluation.gate import Line
from recsys.evaluation.report import Report
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import recommend
from recsys.registry import Registry
from recsys.training.log import Log
from recsys.training.splits import DESCRIBED, after
from recsys.types import World
from service.archives import decision_archive
from service.decision_records import DecisionRecords
from service.decision_stream import DecisionStream
from service.decisions import Decision
from service.errors import ServiceError
from service.junk import junk_of
from service.queries import batch_of
from service.rebuild import live_source
from service.replay import query_of
from service.round_trips import RoundTrips
from service.settings import Settings
from service.stack import valkey
from service.warm_up import warm_up
from service.world import registry

QUESTIONS = 4_000
PER_USER = 20
RECORDED = 200  # lists made again
TIMEOUT_MS = 10_000


def judge(settings: Settings, bundle_id: str, dataset: Dataset | None) -> list[Line]:
    """Every line of the gate; where there is no champion to be compared with, those that need none.

    Args:
        dataset: What both are asked about, as `imports.unprompted_history`; None: nothing is imported. What was left
            out of the bundle's own data as junk is not asked.
    Raises:
        RegistryError: no such bundle. DatasetError: what was left out cannot be read.
    """
    bundles = registry(settings)
    files = gate.checked("files", lambda: _intact(bundles, bundle_id), "every byte as published")
    if not files.passed:
        return [files]
    lines = [files]
    bundle, manifest = bundles.load(bundle_id)
    world = World(bundle, bundle.item_stats, settings.candidates)
    warm_up(world, True, max_batch=settings.max_batch)  # compiled code is loaded, which is not the bundle's
    lines.append(gate.start(_started_s(settings, bundles, bundle_id)))
    lines.append(gate.checked("user states", lambda: _live(settings, manifest.fields), "live ones for its features"))
    lines.append(gate.floor(Report.from_json(manifest.fields["metrics"])))
    champion_id = bundles.champion()
    if champion_id is None or champion_id == manifest.id:
        return lines
    other, before = bundles.load(champion_id)
    champion = World(other, other.item_stats, settings.candidates)
    if dataset is None:
        lines.append(gate.checked("beside the champion", _no_data, "data to ask both about"))
    else:
        asked = without_junk(dataset, junk_of(settings, manifest.id))
        lines += beside(world, champion, asked, manifest.fields, before.fields, settings)
    sizes = [sum(one.size for one in of.files.values()) for of in (manifest, before)]
    lines.append(gate.size(*sizes))
    lines.append(gate.recorded(*asyncio.run(_recorded(settings, world))))
    return lines


def _started_s(settings: Settings, bundles: Registry, bundle_id: str) -> float:
    """As a replica that runs takes it in."""
    began = time.monotonic()
    bundle, _ = bundles.load(bundle_id)
    warm_up(World(bundle, bundle.item_stats, settings.candidates), True, max_batch=settings.max_batch)
    return time.monotonic() - began


def _intact(bundles: Registry, bundle_id: str) -> str:
    return f"{len(bundles.load(bundle_id)[1].files)} as published"


def _live(settings: Settings, fields: dict[str, Any]) -> str:
    store, schema = valkey.address(settings), fields["feature_schema_hash"]
    if store is None:
        return "no store runs, so none are needed yet"
    if live_source(store, schema) is None:
        raise LookupError(f"none of schema {schema[:8]}; `riffle features rebuild` makes them")
    return f"of schema {schema[:8]}"


def beside(
    world: World, champion: World, dataset: Dataset, own: dict[str, Any], other: dict[str, Any], settings: Settings
) -> list[Line]:
    """What neither has learnt from, asked of both."""
    until = max(fields["data_window"]["split"] for fields in (own, other))
    split_s = int(datetime.fromisoformat(until).timestamp())
    split = after(Log.of(dataset), split_s, per_user=PER_USER, seed=settings.seed)
    asked = split.questions.limited(QUESTIONS, seed=settings.seed)
    if len(set(asked.user.tolist())) < 2:
        return [gate.checked("beside the champion", lambda: _nobody(until), "two users to ask")]
    known = asked.known(split.history)
    protocol = DESCRIBED["temporal-next"]
    return [
        *gate.quality(world, champion, Asked(asked, known), protocol=protocol, seed=settings.seed),
        gate.recall(world, asked, known),
        gate.short(world, champion, asked, known),
        gate.cost(world, champion, asked, known),
    ]


def _no_data() -> str:
    raise LookupError("nothing is imported, so they cannot be compared; `riffle import` first")


def _nobody(until: str) -> str:
    raise LookupError(f"nobody liked anything new after {until}, where both have stopped to learn")


async def _recorded(settings: Settings, world: World) -> tuple[list[list[str]], list[list[str]]]:
    """Lists as they were served, and as this world makes them: newest first, whole ones only."""
    url = valkey.address(settings)
    if url is None:
        return [], []
    served, now = [], []
    store = RoundTrips(url, timeout_ms=TIMEOUT_MS, connections=1)
    try:
        async for one in DecisionRecords(DecisionStream(store), decision_archive(settings)).newest():
            if (
                not isinstance(one, Decision)
                or one.kind != "recommendations"
                or one.degraded
                or not one.items
                or one.interleaved
            ):
                continue
            try:
                query = query_of(one, world.bundle)
            except (RecsysError, ServiceError, msgspec.ValidationError):
                continue
            states, _ = unpack([one.user_state], SCHEMA_HASH)
            slates = recommend(world, batch_of([query], states))
            served.append(one.items)
            now.append([world.bundle.vocabulary.item_id[row] for row in slates.item])
            if len(served) == RECORDED:
                break
    finally:
        await store.close()
    return served, now
