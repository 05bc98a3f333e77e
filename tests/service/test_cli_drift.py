"""`riffle drift report`: text, JSON and a page of plots, and what its exit code says."""

import json
from pathlib import Path

import msgspec
import pytest

from recsys.monitoring.page import page
from service.stack import application
from tests.service.conftest import BreakableStore
from tests.service.test_cli import Home, refused
from tests.service.test_drift import HOUR_MS, START_MS, Served, served

__all__ = ["served"]

pytestmark = pytest.mark.valkey


@pytest.fixture
def deployed(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of `served`, as the command finds it, some hours later."""
    (tmp_path / "state").symlink_to(tmp_path)
    record = application._record(served.settings)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"redis_url": served.url}), "utf-8")
    monkeypatch.setattr("service.drift.time.time_ns", lambda: (START_MS + 8 * HOUR_MS) * 1_000_000)
    return Home(tmp_path)


def test_quiet_report_is_text_json_and_a_page(deployed: Home, served: Served) -> None:
    served.answer(*served.records())
    run = deployed.riffle("drift", "report", "--parity", "0", "--html", "drift.html", "--json", "drift.json")
    assert run.code == 0, run.out + run.err
    assert f"{served.world.bundle.id}: no alarm" in run.out
    assert "different items in the first ten places" in run.out
    found = json.loads((deployed.path / "drift.json").read_text())
    assert (found["alarms"], found["compared"], found["lists"]) == ([], True, len(served.users))
    html = (deployed.path / "drift.html").read_text()
    assert html.count("<svg") > 10
    assert "No drift" in html
    assert "http" not in html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_alarm_is_named_in_all_three_and_fails_the_command(deployed: Home, served: Served) -> None:
    served.answer(*(msgspec.structs.replace(one, now_s=one.now_s + 5 * 10**8) for one in served.records()))
    run = deployed.riffle("drift", "report", "--parity", "0", "--html", "drift.html")
    assert run.code == 1
    assert "broken feature (user_log_idle_s" in run.out
    assert "remedy: repair" in run.out
    assert "broken feature" in (deployed.path / "drift.html").read_text()
    again = deployed.riffle("drift", "report", "--parity", "0", "--json", "-")
    assert again.code == 1
    assert json.loads(again.out)["causes"][0]["name"] == "broken feature"


def test_parity_is_named_in_the_report_whatever_becomes_of_it(deployed: Home, served: Served) -> None:
    served.answer(*served.records())
    run = deployed.riffle("drift", "report")
    assert "Training/serving parity: 0 of the 200 newest answers verified to the bit" in run.out, run.out


def test_now_looks_at_the_hour_under_way(deployed: Home, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.answer(*served.records(hours=1))
    monkeypatch.setattr("service.drift.time.time_ns", lambda: (START_MS + HOUR_MS + 60_000) * 1_000_000)
    assert "no hour with lists of this bundle is over" in deployed.riffle("drift", "report", "--parity", "0").out
    assert f"{len(served.users):,} lists compared" in deployed.riffle("drift", "report", "--now", "--parity", "0").out


def test_what_cannot_be_reported_is_one_sentence(deployed: Home, breakable_store: BreakableStore) -> None:
    assert "cannot be written" in refused(
        deployed.riffle("drift", "report", "--parity", "0", "--html", "missing/drift.html")
    )
    assert "no bundle" in refused(deployed.riffle("drift", "report", "--bundle", "nobody")).lower()
    breakable_store.end()
    assert "cannot be read" in refused(deployed.riffle("drift", "report", "--parity", "0"))


def test_names_are_escaped_on_the_page() -> None:
    html = page("<b>", summary=["<i>"], problems=["<u>"], causes=[], alarms=[], figures=[], days={})
    assert "<i>" not in html
    assert "&lt;b&gt;" in html
