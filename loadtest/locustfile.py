"""The load of a product on a running service, and whether the service holds its limits under it.

    locust -f loadtest/locustfile.py --headless -u 50 -r 10 -t 60s        (make load)
    locust -f loadtest/locustfile.py -u 50 -r 10 --web-host 127.0.0.1     (make load WEB=1)
    locust -f loadtest/locustfile.py --headless -u 500 -r 50 -t 5m --processes 2 --shape spike

Without `--host` it asks the service of this directory's settings. Over several machines: `--master` on one, `--worker
--master-host` on the others; `--user-ids` names a file that each worker has. What visitors do is in journeys.py, how
many there are when in shapes.py, what a pass is in slo.py; `--help` lists all options.
The visitors' events are real: they change the states of the users whom they name.

It is a closed loop: while the service stalls, visitors wait and ask nothing. For the tail of latencies at a given rate
take open_loop.py (make bench).
"""

import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

import gevent
from locust import events, stats
from locust.env import Environment
from locust.runners import LocalRunner, WorkerRunner

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # locust runs this file from anywhere

from loadtest import load_options
from loadtest.crowd import Crowd, known_users, newcomers
from loadtest.journeys import NewVisitor, ReturningVisitor, Visitor
from loadtest.judged_run import JudgedRun
from loadtest.locust_nodes import rounded_up
from loadtest.shaped_load import ShapedLoad
from recsys.errors import RecsysError
from service.errors import ServiceError
from service.settings import load
from service.stack import application

READY_S = 5.0

events.init_command_line_parser.add_listener(load_options.add_options)


class Unprepared(Exception):
    """Why the run cannot begin."""


@events.init.add_listener
def prepare(environment: Environment, runner: Any, web_ui: Any, **_: Any) -> None:
    """Everything that the options decide; where something is missing, the process ends with one sentence."""
    stats.bucket_response_time = rounded_up  # Locust's own would round 104 ms to 100 ms
    run = JudgedRun(environment)
    Visitor.node = run.own
    if isinstance(runner, WorkerRunner):
        events.test_start.add_listener(_come_as_told)
        run.listen()
        return
    options = environment.parsed_options
    try:
        environment.host = (options.host or application.url(load())).rstrip("/")
        _weigh(environment)
        if options.headless:
            _see_that_it_is_ready(environment.host)
        if isinstance(runner, LocalRunner):
            _invite(environment)
    except (RecsysError, ServiceError, Unprepared) as error:
        sys.exit(f"locust: {error}")
    if options.shape != "constant":
        environment.shape_class = ShapedLoad(options.shape, runner)
    if web_ui:
        web_ui.app.add_url_rule("/slo", "slo", web_ui.auth_required_if_enabled(run.page))
    run.listen()
    gevent.sleep(0)  # let the loop read the clock: by the time of before the reading, a run of `-t 3s` is over already


def _weigh(environment: Environment) -> None:
    """Give the kinds of visitors their weights; Locust cannot do with a kind of weight 0."""
    options = environment.parsed_options
    ReturningVisitor.weight, NewVisitor.weight = options.returning_weight, options.new_weight
    environment.user_classes = [kind for kind in environment.user_classes if kind.weight]
    if not environment.user_classes:
        raise Unprepared("nobody would come; give --returning-weight or --new-weight more than 0")


def _see_that_it_is_ready(host: str) -> None:
    try:
        with urllib.request.urlopen(f"{host}/readyz", timeout=READY_S):
            return
    except (OSError, ValueError, HTTPException) as error:
        raise Unprepared(f"no service is ready at {host} ({error}); run `riffle up`, or give --host") from error


def _invite(environment: Environment) -> None:
    """Find the users who will come to this process."""
    options, process = environment.parsed_options, getattr(environment.runner, "worker_index", 0)
    known = known_users(Path(options.user_ids) if options.user_ids else None)
    crowd = Crowd(known, seed=options.load_seed, unknown_share=0.0, stream=process)
    Visitor.process = process
    ReturningVisitor.user_ids, NewVisitor.user_ids = iter(crowd), newcomers()


def _come_as_told(environment: Environment, **_: Any) -> None:
    """A worker hears only with the master's first order which users are wanted."""
    try:
        _invite(environment)
    except (RecsysError, ServiceError) as error:
        print(f"locust: {error}", file=sys.stderr, flush=True)
        environment.process_exit_code = 1
        environment.runner.quit()
