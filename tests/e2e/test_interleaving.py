"""Two bundles make one list, through the real stack: described, answered, credited, reported, made again, ended."""

import json
import re
import shutil
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from recsys.manifest import MANIFEST_NAME, read_manifest, write_manifest
from service.imports import imported
from service.world import registry
from tests.e2e.conftest import Riffle

pytestmark = pytest.mark.e2e

WHY = ("--reason", "which one do people choose?")
USERS = 120


@pytest.fixture(scope="module")
def challenger(colocated: httpx.Client, riffle: Riffle, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The champion's model with fewer sources of candidates, published beside it."""
    assert colocated.get("/readyz").json()["ready"]
    bundles = registry(riffle.settings)
    folder = tmp_path_factory.mktemp("challenger") / "bundle"
    shutil.copytree(bundles.path("champion"), folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    manifest = read_manifest(folder)
    (folder / MANIFEST_NAME).unlink()
    described = json.loads((folder / "bundle.json").read_text("utf-8"))
    described["recipe"]["sources"] = ["SIMILAR", "POPULAR"]
    (folder / "bundle.json").write_text(json.dumps(described), "utf-8")
    write_manifest(folder, fields=manifest.fields)
    return bundles.publish(folder)


def clicks(answer: dict[str, Any], user: str) -> list[dict[str, Any]]:
    """Of a user who clicks what the challenger put there, and what both did."""
    return [
        {
            "event_id": f"{answer['recommendation_id']}-{item['rank']}",
            "type": "click",
            "user_id": user,
            "item_id": item["item_id"],
            "recommendation_id": answer["recommendation_id"],
            "ts": datetime.now(UTC).isoformat(),
        }
        for item in answer["items"]
        if item.get("variant") != "control"
    ]


def test_users_choose_between_two_bundles_in_one_list_and_the_report_says_which_wins(
    challenger: str, riffle: Riffle, colocated: httpx.Client
) -> None:
    variants = ("--variant", "control=50", "--variant", f"new=50,bundle={challenger}")
    riffle.must("experiments", "create", "mix", "--interleave", *variants, *WHY)
    assert "everywhere after" in riffle.must("experiments", "start", "mix", *WHY)
    teams: Counter[str] = Counter()
    answers = {}
    for user in imported(riffle.settings).user_id[:USERS]:
        answer = colocated.post("/v1/recommendations", json={"user_id": user, "count": 10, "deadline_ms": 5000}).json()
        assert (answer["variants"], answer["degraded"]) == ({"mix": "interleaved"}, [])
        ids = [item["item_id"] for item in answer["items"]]
        assert (len({*ids}), [item["rank"] for item in answer["items"]]) == (10, list(range(1, 11)))
        teams.update(item.get("variant", "both") for item in answer["items"])
        answers[user] = answer
    assert min(teams["control"], teams["new"]) > USERS / 4
    assert abs(teams["control"] - teams["new"]) < 4 * (USERS * 2) ** 0.5
    credited = [
        user for user, answer in answers.items() if any(item.get("variant") == "new" for item in answer["items"])
    ]
    for user in credited:
        accepted = colocated.post("/v1/events", json={"events": clicks(answers[user], user)}).json()
        assert accepted["refused"] == 0
    one = answers[credited[0]]
    shown = colocated.get(f"/v1/recommendations/{one['recommendation_id']}").json()
    assert shown["bundles"] == {"control": registry(riffle.settings).champion(), "new": challenger}
    assert [place.get("variant") for place in shown["items"]] == [item.get("variant") for item in one["items"]]
    assert colocated.post(f"/v1/recommendations/{one['recommendation_id']}:replay").json()["outcome"] == "identical"
    report = reported(colocated, "mix", lists=USERS)
    assert (report["users"], report["alone"]) == (USERS, {"control": 0, "new": 0})
    (clicked,) = [one for one in report["preferences"] if one["metric"] == "clicked"]
    assert clicked["credit"] == {"control": 0.0, "new": float(teams["new"])}
    assert clicked["decided"] == len(credited)
    if len(credited) >= 100:
        assert clicked["winner"] == "new"
    said = riffle.must("experiments", "report", "mix")
    assert f"{USERS} users saw {USERS} lists of both sides" in said
    assert f"items clicked: new {teams['new']}, control 0" in said
    assert re.search(r"[1-9]\d* identical, 0 different", riffle.must("replay", "--sample", str(USERS)))
    assert "mix" in riffle.must("experiments", "list")
    riffle.must("experiments", "stop", "mix", *WHY)
    assert colocated.post("/v1/recommendations", json={"user_id": "ann"}).json()["variants"] == {}


def test_an_experiment_is_described_begun_and_ended_over_http(riffle: Riffle, colocated: httpx.Client) -> None:
    why = {"who": "ann@shop", "reason": "over HTTP"}
    variants = [{"name": "control", "share": 50}, {"name": "mixed", "share": 50, "diversity": 0.4}]
    made = colocated.post("/v1/experiments", json={"name": "http", "variants": variants, **why})
    assert made.json()["state"] == "draft"
    assert colocated.post("/v1/experiments/http:start", json=why).json()["state"] == "running"
    users = imported(riffle.settings).user_id[:USERS]
    got = Counter(
        colocated.post("/v1/recommendations", json={"user_id": user}).json()["variants"]["http"] for user in users
    )
    assert min(got["control"], got["mixed"]) > USERS / 4
    report = reported(colocated, "http", lists=USERS)
    assert {one["name"]: one["users"] for one in report["variants"]} == got
    assert report["sound"]
    assert colocated.post("/v1/experiments/http:stop", json=why).json()["state"] == "stopped"
    assert {one["name"]: one["state"] for one in colocated.get("/v1/experiments").json()["experiments"]}["http"] == (
        "stopped"
    )
    assert "over HTTP" in riffle.must("traffic", "history")


def reported(client: httpx.Client, name: str, *, lists: int) -> dict[str, Any]:
    """The report, once all lists are in it: records and events are written a moment after their answers."""
    until = time.monotonic() + 20
    while True:
        report: dict[str, Any] = client.get(f"/v1/experiments/{name}/report").json()
        if report.get("lists") == lists or time.monotonic() > until:
            return report
        time.sleep(0.5)
