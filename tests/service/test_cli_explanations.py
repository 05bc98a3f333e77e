"""`riffle explain` and `riffle why-not`: what they print, and that they refuse as `riffle replay` does."""

import asyncio

import msgspec
import pytest
import redis

from recsys.types import World
from service.decisions import STREAM, Decision
from tests.service.conftest import BreakableStore
from tests.service.test_cli import Home, refused
from tests.service.test_cli_replay import _serve, deployed

__all__ = ["deployed"]

pytestmark = pytest.mark.valkey


def test_explain_prints_words_sources_and_lists_made_again(
    deployed: Home, served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    first, *_ = asyncio.run(_serve(served, store_url, breakable_store.url))
    run = deployed.riffle("explain", first)
    assert run.code == 0
    assert "candidates were ranked; ruled out:" in run.out
    assert "diversity kept" in run.out
    assert run.out.count("found by ") == run.out.count("for a user of whom nothing is known: ") == 20
    assert "it falls from " in run.out
    assert "because you " in run.out


def test_explain_of_one_item_shows_what_each_feature_adds(
    deployed: Home, served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    first, *_ = asyncio.run(_serve(served, store_url, breakable_store.url))
    item = next(line.split()[1] for line in deployed.riffle("explain", first).out.splitlines() if line.startswith("3 "))
    one = deployed.riffle("explain", first, "--item", item)
    assert one.code == 0
    assert one.out.count("found by ") == 1
    assert "what all candidates have" in one.out
    assert "cross_" in one.out
    other = deployed.riffle("explain", first, "--item", "no such item")
    assert (other.code, "is not on the list; riffle why-not says why" in other.out) == (1, True)


def test_why_not_prints_the_verdict_and_where_sources_have_it(
    deployed: Home, served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    first, *_ = asyncio.run(_serve(served, store_url, breakable_store.url))
    printed = [deployed.riffle("why-not", first, item) for item in served.bundle.vocabulary.item_id.tolist()[:25]]
    assert {run.code for run in printed} == {0}
    verdicts = {run.out.split(" ")[0] for run in printed}
    assert {"filtered", "outranked"} <= verdicts <= {"filtered", "outranked", "not", "listed", "displaced"}
    unknown = deployed.riffle("why-not", first, "never heard of")
    assert unknown.out.startswith("not in bundle The bundle of this answer does not have it")


def test_what_cannot_be_explained_is_refused_with_the_reason(
    deployed: Home, served: World, store_url: str, breakable_store: BreakableStore
) -> None:
    *_, last = asyncio.run(_serve(served, store_url, breakable_store.url))
    assert "is no recommendation id" in refused(deployed.riffle("explain", "seven"))
    assert "no record of" in refused(deployed.riffle("why-not", "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11", "1"))
    similar = _similar_of(breakable_store.url)
    for words in (("explain", similar), ("why-not", similar, "1")):
        run = deployed.riffle(*words)
        assert run.code == 1
        assert "not replayable answers of kind 'similar' are not made by recommend() alone" in run.out
    breakable_store.end()
    assert "cannot be read" in refused(deployed.riffle("explain", last))


def _similar_of(url: str) -> str:
    with redis.Redis.from_url(url) as server:
        records = [msgspec.msgpack.decode(fields[b"d"], type=Decision) for _, fields in server.xrange(STREAM)]
    return next(record.id for record in records if record.kind == "similar")
