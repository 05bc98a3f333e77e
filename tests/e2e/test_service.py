"""The whole service as a user meets it. The tests build on one another's stack and run in the order of the file."""

import re
import signal
import socket
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
import redis

from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import recommend
from service.archives import catalogue_archive
from service.decisions import STREAM, Decision
from service.imports import imported
from service.queries import batch_of, resolve
from service.record_schemas import Outcome, RecordedAnswer, RecordedExplanation, RecordedWhyNot, Replay
from service.schemas import EventsResponse, Problem, Readiness, RecommendationResponse, SimilarResponse
from service.stack import processes
from service.stack.ray_environment import runtime_folder
from service.world import recorded_worlds
from tests.e2e.conftest import Riffle

pytestmark = pytest.mark.e2e

RECOMMEND = "/v1/recommendations"


def _users(riffle: Riffle) -> list[str]:
    return imported(riffle.settings).user_id[:40]


def _ask(client: httpx.Client, body: dict[str, Any]) -> RecommendationResponse:
    answer = client.post(RECOMMEND, json=body)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=RecommendationResponse)


def test_the_first_requests_after_ready_are_as_fast_as_the_later_ones(colocated: httpx.Client, riffle: Riffle) -> None:
    """Loose on purpose: a cold path costs seconds, noise costs milliseconds; the figure itself is measured apart."""
    assert msgspec.json.decode(colocated.get("/readyz").content, type=Readiness).ready
    took = []
    for user in _users(riffle) * 3:
        began = time.perf_counter()
        _ask(colocated, {"user_id": user})
        took.append(time.perf_counter() - began)
    assert max(took[:2]) < 10 * statistics.median(took)


def test_a_known_user_gets_a_personal_list_and_a_stranger_a_cold_start(colocated: httpx.Client, riffle: Riffle) -> None:
    known = _ask(colocated, {"user_id": _users(riffle)[0], "count": 30, "return": {"reasons": True}})
    stranger = _ask(colocated, {"user_id": "nobody has this id"})
    assert (known.strategy, stranger.strategy) == ("personalized", "cold_start")
    assert (len(known.items), len(stranger.items)) == (30, 20)
    assert known.degraded == stranger.degraded == []
    assert [item.rank for item in known.items] == list(range(1, 31))
    assert all(item.reasons and item.sources and item.metadata for item in known.items)


def test_similar_items_are_found_and_unknown_ones_are_a_404(colocated: httpx.Client, riffle: Riffle) -> None:
    item = _ask(colocated, {"user_id": _users(riffle)[0]}).items[0].item_id
    answer = colocated.post("/v1/similar", json={"item_ids": [item], "count": 5})
    similar = msgspec.json.decode(answer.content, type=SimilarResponse)
    assert len(similar.items) == 5
    assert item not in [one.item_id for one in similar.items]
    assert colocated.post("/v1/similar", json={"item_ids": ["no such item"]}).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", RECOMMEND, b"{", 400),
        ("POST", RECOMMEND, b'{"user_id": 7}', 400),
        ("POST", RECOMMEND, b'{"user_id": "u", "count": NaN}', 400),
        ("POST", RECOMMEND, b'{"user_id": "u", "filter": {"categories": {"any": ["no such"]}}}', 422),
        ("POST", RECOMMEND, b'{"user_id": "' + b"x" * 600_000 + b'"}', 413),
        ("GET", RECOMMEND, b"", 405),
        ("POST", "/v2/recommendations", b"{}", 404),
    ],
)
def test_bad_input_is_a_problem_document_through_the_whole_stack(
    colocated: httpx.Client, method: str, path: str, content: bytes, status: int
) -> None:
    answer = colocated.request(method, path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = msgspec.json.decode(answer.content, type=Problem)
    assert problem.status == status
    assert "Traceback" not in answer.text


def test_headers_that_steer_serve_are_taken_from_clients(colocated: httpx.Client, riffle: Riffle) -> None:
    headers = {"x-request-timeout-seconds": "0.000001", "serve_multiplexed_model_id": "x"}
    for _ in range(20):
        assert colocated.post(RECOMMEND, json={"user_id": _users(riffle)[0]}, headers=headers).status_code == 200


def test_docs_and_the_api_description_are_served(colocated: httpx.Client) -> None:
    assert "/v1/recommendations" in colocated.get("/openapi.json").json()["paths"]
    assert colocated.get("/docs").headers["content-type"].startswith("text/html")
    assert colocated.get("/docs/swagger-ui-bundle.js").status_code == 200


def test_every_answer_can_be_made_again_from_its_decision_record_bit_for_bit(
    colocated: httpx.Client, riffle: Riffle
) -> None:
    _assert_answers_can_be_made_again(colocated, riffle)
    assert "30 identical, 0 different, 0 not replayable" in riffle.must("replay", "--sample", "30")
    one = _ask(colocated, {"user_id": _users(riffle)[1]}).recommendation_id
    time.sleep(0.5)  # records follow their answers within that
    assert "1 identical" in riffle.must("replay", one)
    assert "0 different" in riffle.must("replay", "--since", "1m")
    shown = msgspec.json.decode(colocated.get(f"{RECOMMEND}/{one}").content, type=RecordedAnswer)
    assert shown.recommendation_id == one
    verdict = msgspec.json.decode(colocated.post(f"{RECOMMEND}/{one}:replay").content, type=Replay)
    assert verdict == Replay(recommendation_id=one, outcome=Outcome.IDENTICAL)
    assert colocated.get(f"{RECOMMEND}/no%2Fid").status_code == 404


def test_lists_explain_themselves_in_their_answer_from_their_record_and_by_the_command(
    colocated: httpx.Client, riffle: Riffle
) -> None:
    answer = _ask(colocated, {"user_id": _users(riffle)[2], "deadline_ms": 10_000, "return": {"explain": True}})
    assert answer.explanation
    assert answer.degraded == []
    one = answer.recommendation_id
    time.sleep(0.5)  # records follow their answers within that
    told = msgspec.json.decode(colocated.post(f"{RECOMMEND}/{one}:explain").content, type=RecordedExplanation)
    assert told.explanation == answer.explanation
    shown = {item.item_id for item in answer.items}
    assert all(item.item_id in riffle.must("explain", one) for item in answer.items[:3])
    absent = next(item for item in answer.explanation.tried if item not in shown)
    body = colocated.post(f"{RECOMMEND}/{one}:why-not", json={"item_id": absent}).content
    verdict = msgspec.json.decode(body, type=RecordedWhyNot)
    assert verdict.why_not
    assert "seen" in verdict.why_not.filters
    assert verdict.why_not.text.split(".")[0] in riffle.must("why-not", one, absent)


def test_a_click_is_in_the_next_list_also_after_the_updater_was_killed(colocated: httpx.Client, riffle: Riffle) -> None:
    _assert_click_has_its_effect(colocated, "clicker-1", within_s=5)
    updaters = [p for p in _session(riffle) if "FeatureUpdater" in " ".join(p.cmdline())]
    assert len(updaters) == 1
    updaters[0].kill()
    _assert_click_has_its_effect(colocated, "clicker-2", within_s=60)


def test_a_withheld_item_is_in_no_list_after_two_seconds_and_a_new_one_is_listed(
    colocated: httpx.Client, riffle: Riffle
) -> None:
    users = _users(riffle)[:20]
    withheld = _ask(colocated, {"user_id": users[0]}).items[0].item_id
    put = colocated.put("/v1/items/brand-new", json={"title": "Brand new", "categories": []})
    assert put.status_code == 200, put.text
    assert colocated.patch(f"/v1/items/{withheld}", json={"available": False}).status_code == 200
    time.sleep(2)
    drawn = 0
    for user in users * 10:
        answer = _ask(colocated, {"user_id": user, "count": 20})
        assert withheld not in [item.item_id for item in answer.items]
        drawn += answer.items[-1].item_id == "brand-new"
    assert drawn > 0  # of 200 lists one in ten: none at all comes once in 1.4e9 runs
    time.sleep(0.5)
    assert "200 identical, 0 different, 0 not replayable" in riffle.must("replay", "--sample", "200")
    assert colocated.patch(f"/v1/items/{withheld}", json={"available": True}).status_code == 200
    # It ends lists by chance, and later tests compare lists.
    assert colocated.delete("/v1/items/brand-new").status_code == 200


def test_changes_of_items_are_archived_and_item_stats_made_again_from_there(
    colocated: httpx.Client, riffle: Riffle
) -> None:
    for available in (False, True):
        assert colocated.put("/v1/items/archived", json={"available": available}).status_code == 200
    archive, until = catalogue_archive(riffle.settings), time.monotonic() + 60
    while archive.read(columns=["item_id"])["item_id"].to_pylist().count("archived") < 2:
        assert time.monotonic() < until
        time.sleep(0.5)
    time.sleep(1)
    _ask(colocated, {"user_id": _users(riffle)[0]})
    time.sleep(0.5)
    assert "1 identical, 0 different, 0 not replayable" in riffle.must("replay", "--sample", "1")
    items = next(line for line in riffle.must("status").splitlines() if line.startswith("Items"))
    assert re.search(r"none waits; \d+ changes kept in the store", items)
    assert colocated.delete("/v1/items/archived").status_code == 200  # as brand-new


def test_states_are_rebuilt_under_a_running_service_and_answers_are_verified(
    colocated: httpx.Client, riffle: Riffle
) -> None:
    _assert_click_has_its_effect(colocated, "rebuilt-1", within_s=5)
    before = _ask(colocated, {"user_id": "rebuilt-1"})
    assert "is live" in riffle.must("features", "rebuild")
    time.sleep(1)
    after = _ask(colocated, {"user_id": "rebuilt-1"})
    assert (after.degraded, after.strategy) == ([], "personalized")
    assert _state_of(colocated, after) == _state_of(colocated, before)
    # Made some seconds later: what is as good as equal may have changed places.
    assert len({one.item_id for one in after.items[:10]} & {one.item_id for one in before.items[:10]}) >= 8
    _assert_click_has_its_effect(colocated, "rebuilt-2", within_s=5)
    riffle.must("features", "verify", "--sample", "50")  # fails where a served feature is another than a rebuilt one


def _assert_click_has_its_effect(client: httpx.Client, user: str, *, within_s: float) -> None:
    shown = _ask(client, {"user_id": user}).items[0].item_id
    row = {"event_id": f"{user}-1", "type": "click", "user_id": user, "item_id": shown}
    answer = client.post("/v1/events", json={"events": [{**row, "ts": datetime.now(UTC).isoformat()}]})
    assert answer.status_code == 200, answer.text
    assert msgspec.json.decode(answer.content, type=EventsResponse).accepted == 1
    until = time.monotonic() + within_s
    while (after := _ask(client, {"user_id": user})).strategy != "personalized":
        assert time.monotonic() < until, "the click had no effect"
        time.sleep(0.02)
    assert shown not in [item.item_id for item in after.items]


def _state_of(client: httpx.Client, answer: RecommendationResponse) -> dict[str, Any]:
    """What was known of the user, as its record says; it is written a moment after the answer."""
    until = time.monotonic() + 10
    while (record := client.get(f"/v1/recommendations/{answer.recommendation_id}")).status_code != 200:
        assert time.monotonic() < until, record.text
        time.sleep(0.1)
    return record.json()["user_state"]


def _session(riffle: Riffle) -> list[psutil.Process]:
    recorded = processes.load(riffle.settings.home_path / "run" / "ray.json")
    assert recorded is not None
    return processes.session(recorded)


def test_a_user_who_is_forgotten_is_in_no_file_of_the_stack_any_more(colocated: httpx.Client, riffle: Riffle) -> None:
    user = _users(riffle)[7]
    answer = _ask(colocated, {"user_id": user})
    click = {"event_id": "f1", "type": "click", "user_id": user, "item_id": answer.items[0].item_id}
    click |= {"ts": datetime.now(UTC).isoformat()}
    assert colocated.post("/v1/events", json={"events": [click]}).json()["accepted"] == 1
    receipt = colocated.delete(f"/v1/users/{user}").json()
    deadline = time.monotonic() + 60
    while receipt["status"] != "done":
        assert time.monotonic() < deadline, receipt
        time.sleep(0.2)
        receipt = colocated.get(f"/v1/erasures/{receipt['receipt_id']}").json()
    assert receipt["removed"]["imported_events"] > 0
    assert colocated.get(f"{RECOMMEND}/{answer.recommendation_id}").status_code == 410
    later = msgspec.json.decode(
        colocated.post("/v1/events", json={"events": [{**click, "event_id": "f2"}]}).content, type=EventsResponse
    )
    assert (later.results[0].status, later.results[0].error.code) == (422, "forgotten_user")
    assert user not in imported(riffle.settings).user_id
    folders = riffle.settings.home_path, runtime_folder(riffle.settings)
    while found := [path for folder in folders for path in folder.rglob("*") if _has(path, user)]:
        assert time.monotonic() < deadline, found  # the store writes its append-only file anew
        time.sleep(0.5)


def _has(path: Path, text: str) -> bool:
    try:
        return path.is_file() and text.encode() in path.read_bytes()
    except OSError:  # gone meanwhile
        return False


def _once_there(ask: Callable[[], httpx.Response]) -> dict[str, Any]:
    """The answer, asked for again while the record is on its way, or a connection to the store that died is noticed."""
    deadline = time.monotonic() + 10
    while (found := ask()).status_code in {404, 503} and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found.status_code == 200, found.text
    return found.json()


def _record(client: httpx.Client, recommendation_id: str) -> dict[str, Any]:
    """What an answer was made from."""
    return _once_there(lambda: client.get(f"{RECOMMEND}/{recommendation_id}"))


def _replay(client: httpx.Client, recommendation_id: str) -> dict[str, Any]:
    """What comes of making it again."""
    return _once_there(lambda: client.post(f"{RECOMMEND}/{recommendation_id}:replay"))


def test_a_dead_store_degrades_answers_visibly_and_recovers_by_itself(colocated: httpx.Client, riffle: Riffle) -> None:
    user = _users(riffle)[2]
    time.sleep(1)  # gateways look twice a second: until then their item stats may know who was just forgotten
    before = _ask(colocated, {"user_id": user})
    made_from = _record(colocated, before.recommendation_id)
    recorded = processes.load(riffle.settings.home_path / "run" / "valkey.json")
    assert recorded is not None
    psutil.Process(recorded.pid).send_signal(signal.SIGKILL)
    for _ in range(20):
        degraded = _ask(colocated, {"user_id": user})
        assert degraded.items
        assert [one.stage for one in degraded.degraded] == ["features"]
    assert colocated.get("/readyz").status_code == 200
    riffle.must("serve")
    deadline = time.monotonic() + 10
    while (after := _ask(colocated, {"user_id": user})).degraded and time.monotonic() < deadline:
        time.sleep(0.1)
    assert after.degraded == []
    made_again_from = _record(colocated, after.recommendation_id)
    assert made_again_from["user_state"] == made_from["user_state"]
    for answer in (before, after):
        replay = _replay(colocated, answer.recommendation_id)
        assert replay["outcome"] == "identical", replay
    if made_again_from["item_stats"] == made_from["item_stats"]:  # they are published anew when they are a minute old
        assert [item.item_id for item in after.items] == [item.item_id for item in before.items]


@pytest.mark.usefixtures("colocated")
def test_serve_again_changes_nothing_that_is_fine(riffle: Riffle) -> None:
    before = sorted(riffle.processes())
    riffle.must("serve")
    assert sorted(riffle.processes()) == before
    status = riffle.must("status")
    assert "ready" in status
    assert "none waits; 0 set aside" in status


def test_distributed_stages_give_the_same_bits(colocated: httpx.Client, riffle: Riffle) -> None:
    riffle.must("serve", RIFFLE_TOPOLOGY="distributed", RIFFLE_UPDATERS="2")
    deployed = {line.split("riffle:")[1].split()[0] for line in _replicas()}
    assert {"FeatureLookup", "CandidateRetrieval", "Ranking", "Gateway"} <= deployed
    _assert_answers_can_be_made_again(colocated, riffle)
    assert len([p for p in _session(riffle) if "FeatureUpdater" in " ".join(p.cmdline())]) == 2
    for number in range(8):  # of shards of both
        _assert_click_has_its_effect(colocated, f"divided-{number}", within_s=5)


def _assert_answers_can_be_made_again(client: httpx.Client, riffle: Riffle) -> None:
    """Ask, read the records from the stream, run `recommend` in this process, compare."""
    bodies: list[dict[str, Any]] = [{"user_id": user, "count": 50} for user in _users(riffle)]
    bodies += [{"user_id": "nobody has this id"}, {"user_id": "u", "session": {"item_ids": ["i1", "i2"]}}]
    # Bits are compared here, not times: a machine that others use must not make a list a degraded one.
    served = [_ask(client, {**body, "deadline_ms": 5_000}) for body in bodies]
    records = _records(riffle, {one.recommendation_id for one in served})
    world_of = recorded_worlds(riffle.settings, f"redis://127.0.0.1:{riffle.settings.valkey_port}/0")
    for one in served:
        assert one.degraded == []
        record = records[one.recommendation_id]
        assert record.bundle == one.bundle
        world = world_of(record)
        assert world.item_stats.version == record.item_stats
        query = resolve(
            world.bundle,
            count=record.query["count"],
            session_ids=(record.query["session"] or {}).get("item_ids", []),
            excluded_ids=record.query["exclude_item_ids"],
            filter_=None,
            explore=record.explore,
            diversity=record.diversity,
            seed=record.seed,
            now_s=record.now_s,
        )
        states, problems = unpack([record.user_state], SCHEMA_HASH)
        assert problems == {}
        again = recommend(world, batch_of([query], states))
        ids = [world.bundle.vocabulary.item_id[row] for row in again.item.tolist()]
        assert ids == record.items == [item.item_id for item in one.items]
        assert again.score.tolist() == record.scores == [item.score for item in one.items]


def _records(riffle: Riffle, wanted: set[str]) -> dict[str, Decision]:
    decode = msgspec.msgpack.Decoder(Decision).decode
    with redis.Redis(port=riffle.settings.valkey_port) as store:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            newest = [decode(fields[b"d"]) for _, fields in store.xrevrange(STREAM, count=2000)]
            found = {one.id: one for one in newest if one.id in wanted}
            if len(found) == len(wanted):
                return found
            time.sleep(0.05)
    raise AssertionError(f"{len(wanted) - len(found)} decision records are missing")


def _replicas() -> list[str]:
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return [line for line in lines if "ServeReplica:riffle:" in line]


@pytest.mark.usefixtures("colocated")
def test_down_leaves_no_process_and_no_port(riffle: Riffle) -> None:
    assert riffle.processes()
    riffle.must("down")
    assert riffle.processes() == []
    for name, port in riffle.ports().items():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"{name} port {port} still listens"
    assert "Nothing was running" in riffle.must("down")


def test_a_taken_port_is_one_sentence_and_nothing_is_started(riffle: Riffle) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = riffle.run("serve", RIFFLE_HTTP_PORT=port)
    assert done.returncode == 1
    assert port in done.stderr
    assert "RIFFLE_HTTP_PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert riffle.processes() == []
