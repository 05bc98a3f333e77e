"""Runs of Locust: what visitors do, and with which exit code and sentences a run ends."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.schemas import EventRow
from tests.loadtest.locust_runs import ROOT, locust, shop, verdict
from tests.loadtest.server import Behaviour, server
from tests.loadtest.shop import Shop

BUSY = """
import time
import gevent
from locust import events
from loadtest.locustfile import *

def work():
    while True:
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:
            pass
        gevent.sleep(0.1)

@events.test_start.add_listener
def begin(**_):
    gevent.spawn(work)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ids").write_text("somebody\nsomebody else\n", "utf-8")
    return tmp_path


# --- what visitors do ---


def test_visitors_read_click_tell_and_come_back(folder: Path) -> None:
    served = shop()
    with server(Behaviour(body_of=served.answer)) as port:
        done = locust(folder, port, "--new-weight", "9", "--count", "5")
    assert done.returncode == 0, done.stderr
    known, new = ([one for one in served.asked if one.user_id.startswith("new-") is new] for new in (False, True))
    assert {one.user_id for one in known} == {"somebody", "somebody else"}
    assert len({one.user_id for one in new}) > 2
    assert max(sum(one.user_id == user for one in new) for user in {one.user_id for one in new}) > 1
    assert {(one.count, one.placement) for one in served.asked} == {(5, "home")}
    rows = [row for request in served.events for row in request.events]
    clicked = [row for row in rows if row.type == "click"]
    assert {row.type for row in rows} == {"impression", "click"}
    assert 0 < len(clicked) < len(served.events)
    assert {served.similar[0].item_ids[0]} <= {row.item_id for row in clicked}
    assert all(shown(served, row) for row in rows)
    assert len({row.event_id for row in rows}) == len(rows)


def shown(served: Shop, row: EventRow) -> bool:
    """Whether the event names the item that its list had at its position."""
    assert row.recommendation_id
    assert row.position
    return served.lists[row.recommendation_id][row.position - 1] == row.item_id


def test_every_list_that_was_looked_at_is_told_as_shown_in_full(folder: Path) -> None:
    served = shop()
    with server(Behaviour(body_of=served.answer)) as port:
        locust(folder, port, "--count", "5", "--click-share", "0")
    assert len(served.events) > 5
    assert all([row.position for row in request.events] == [1, 2, 3, 4, 5] for request in served.events)
    assert served.similar == []


def test_visitors_of_weight_zero_do_not_come(folder: Path) -> None:
    served = shop()
    with server(Behaviour(body_of=served.answer)) as port:
        locust(folder, port, "--returning-weight", "0")
    assert served.asked
    assert all(one.user_id.startswith("new-") for one in served.asked)


def test_users_follow_the_shape(folder: Path) -> None:
    with server(Behaviour(body_of=shop().answer)) as port:
        done = locust(folder, port, "--shape", "steps", "-u", "5", "-t", "6s")
    assert done.returncode == 0, done.stderr
    assert [int(users) for users in re.findall(r"Shape test updating to (\d+) users", done.stderr)] == [1, 2, 3, 4, 5]
    assert "will be ignored" not in done.stderr


# --- pass or not ---


def test_service_within_its_limits_is_a_pass(folder: Path) -> None:
    served = shop()
    with server(Behaviour(body_of=served.answer)) as port:
        done = locust(folder, port)
    assert done.returncode == 0, done.stderr
    (line,) = verdict(done)
    found = re.fullmatch(
        r"Load test passed: p99 of lists [\d,]+ ms, p99 of events [\d,]+ ms, 0 of ([\d,]+) requests failed, "
        r"0 of ([\d,]+) lists degraded, generator at most [\d,]+ ms late at p99 and \d+% of a core\.",
        line,
    )
    assert found, line
    requests, lists = (int(number.replace(",", "")) for number in found.groups())
    assert lists == pytest.approx(len(served.asked) + len(served.similar), abs=4)  # those under way at the end
    assert requests == pytest.approx(lists + len(served.events), abs=8)


def test_slow_answers_breach_the_p99(folder: Path) -> None:
    with server(Behaviour(delay_s=0.06, body_of=shop().answer)) as port:
        done = locust(folder, port, "--slo-p99-ms", "50")
    assert done.returncode == 1
    said = verdict(done)
    assert said[0].startswith("Load test failed: ")
    assert re.fullmatch(r"  SLO breach: p99 of lists was [\d,]+ ms; the limit is 50 ms\.", said[1])
    assert re.fullmatch(r"  SLO breach: p99 of events was [\d,]+ ms; the limit is 50 ms\.", said[2])
    assert len(said) == 3


def test_refusals_breach_the_share_of_errors(folder: Path) -> None:
    with server(Behaviour(body_of=shop().answer, refuse_every=5)) as port:
        done = locust(folder, port)
    with server(Behaviour(body_of=shop().answer, refuse_every=5)) as port:
        tolerated = locust(folder, port, "--slo-errors", "50")
    assert done.returncode == 1
    assert re.fullmatch(r"  SLO breach: \d+\.\d+% of requests failed; the limit is 0\.01%\.", verdict(done)[1])
    assert "status 429" in done.stderr
    assert tolerated.returncode == 0, tolerated.stderr


def test_degraded_lists_breach_their_share_and_are_no_errors(folder: Path) -> None:
    with server(Behaviour(body_of=shop(degraded_every=3).answer)) as port:
        done = locust(folder, port)
        tolerated = locust(folder, port, "--slo-degraded", "60")
    assert done.returncode == 1
    sentence = r"  SLO breach: \d+\.\d+% of lists were degraded \(ranking timeout \d+ times\); the limit is 1%\."
    assert re.fullmatch(sentence, verdict(done)[1])
    assert "0 of" in verdict(done)[0]
    assert tolerated.returncode == 0, tolerated.stderr


def test_answers_of_another_kind_are_errors_and_no_crash(folder: Path) -> None:
    with server(Behaviour(body=b"{}")) as port:
        done = locust(folder, port)
    assert done.returncode == 1
    assert "not a RecommendationResponse" in done.stderr
    assert len(verdict(done)) == 2  # the errors: no list came that could be degraded or told of


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--generator-lag-ms", "100"], r"its event loop was [\d,]+ ms late at p99, the limit is 100 ms"),
        (["--generator-cpu", "20"], r"a process of it used \d+% of a core in its worst seconds, the limit is 20%"),
    ],
)
def test_busy_generator_is_no_pass_and_says_so(folder: Path, options: list[str], sentence: str) -> None:
    (folder / "busy.py").write_text(BUSY, "utf-8")
    with server(Behaviour(body_of=shop().answer)) as port:
        done = locust(folder, port, *options, file=folder / "busy.py")
    assert done.returncode == 1
    said = verdict(done)
    assert said[0].startswith("Load test is not a pass: ")
    assert re.search(f"The load generator was the bottleneck: {sentence}", said[1]), said
    assert len(said) == 2


def test_run_in_which_nothing_was_asked_is_no_pass(folder: Path) -> None:
    with server(Behaviour(body_of=shop().answer)) as port:
        done = locust(folder, port, "--think-s", "3600")
    assert done.returncode == 1
    assert "Nothing was measured" in verdict(done)[1]


# --- what is missing or wrong ---


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--user-ids", "none"], "locust: cannot read user ids from none"),
        (["--user-ids", ""], "locust: no data set is imported"),
        (
            ["--returning-weight", "0", "--new-weight", "0"],
            "locust: nobody would come; give --returning-weight or --new-weight more than 0",
        ),
        (["--host", "http://127.0.0.1:1"], "locust: no service is ready at http://127.0.0.1:1 ("),
        (["--host", "127.0.0.1"], "or give --host"),
    ],
)
def test_run_that_cannot_begin_ends_with_one_sentence(folder: Path, options: list[str], sentence: str) -> None:
    with server(Behaviour(body_of=shop().answer)) as port:
        done = locust(folder, port, *options)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--think-s", "-1", "-1 is no number from 0 to 3600"),
        ("--slo-errors", "nan", "nan is no number from 0 to 100"),
        ("--click-share", "much", "much is no number from 0 to 1"),
        ("--count", "501", "501 is no whole number from 1 to 500"),
        ("--count", "1.5", "1.5 is no whole number from 1 to 500"),
        ("--shape", "round", "invalid choice: 'round'"),
    ],
)
def test_option_out_of_range_is_refused(folder: Path, option: str, value: str, sentence: str) -> None:
    done = locust(folder, 1, option, value)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


# --- make load ---


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("given", "environment", "host"),
    [
        ([], {}, None),
        (["HOST=http://box:8000"], {}, "http://box:8000"),
        (["HOST=box"], {}, "box"),
        ([], {"HOST": "https://box"}, "https://box"),
        ([], {"HOST": "name-of-this-machine"}, None),
    ],
)
def test_make_load_asks_the_address_that_is_given(
    given: list[str], environment: dict[str, str], host: str | None
) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in ("HOST", "MAKEFLAGS")}
    make = ["make", "-n", "load", "USERS=5", "TIME=3s", *given]
    done = subprocess.run(
        make, cwd=ROOT, env={**inherited, **environment}, capture_output=True, text=True, check=True, timeout=60
    )
    assert re.findall(r'--host "(.*?)"', done.stdout) == ([host] if host else [])
    assert '-u "5"' in done.stdout
    assert '-t "3s"' in done.stdout
    assert "--headless" in done.stdout
