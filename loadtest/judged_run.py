"""A run of Locust with what its processes counted beside, its verdict, and the exit code that follows from it."""

import sys
import time
from collections.abc import Iterable
from typing import Any

import gevent
from flask import Response
from locust import log
from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner, WorkerRunner
from locust.stats import StatsEntry

from loadtest.generator import GeneratorWatch
from loadtest.journeys import EVENTS, LISTS
from loadtest.load_options import limits_of
from loadtest.locust_nodes import Node
from loadtest.slo import Outcome, Verdict, judge, merged

KEY = "riffle"  # of our part of a worker's report
LAST_REPORT_S = 10.0


class JudgedRun:
    """What this process knows of the run: of itself where it sends requests, of its workers where it is the master."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.own = Node()
        self._is_master = isinstance(environment.runner, MasterRunner)
        self._is_worker = isinstance(environment.runner, WorkerRunner)
        self._workers: dict[str, Node] = {}
        self._watch = GeneratorWatch(self.own)
        self._verdict: Verdict | None = None
        self._told = False
        self._number = 0

    def listen(self) -> None:
        """Follow what Locust says of the run."""
        hear = self.environment.events
        hear.test_start.add_listener(lambda **_: self._start())
        hear.test_stopping.add_listener(
            lambda **_: self._watch.stop()
        )  # what Locust does from here on delays no answer
        hear.test_stop.add_listener(lambda **_: self._stop())
        hear.spawning_complete.add_listener(lambda **_: self._clear() if self.environment.reset_stats else None)
        hear.reset_stats.add_listener(lambda **_: self._clear())
        if self._is_worker:
            hear.report_to_master.add_listener(lambda data, **_: data.update({KEY: self.own.take()}))
            return
        hear.worker_report.add_listener(lambda client_id, data, **_: self._reported(client_id, data))
        hear.quitting.add_listener(lambda **_: self._quit())
        hear.quit.add_listener(lambda **_: self._tell(self._number))

    def _start(self) -> None:
        self._verdict, self._told, self._number = None, False, self._number + 1
        self._clear()
        if self._is_master:
            self._workers = {client_id: Node() for client_id in self.environment.runner.clients}
        else:
            self._watch.start()

    def _stop(self) -> None:
        """With a web UI this is the end of a run, not of the process."""
        self.own.ended = True
        if self._is_master and not self.environment.web_ui:
            self._await_last_reports()
        elif self.environment.web_ui:  # workers send their last report within this
            gevent.spawn_later(WORKER_REPORT_INTERVAL + 1 if self._is_master else 0, self._tell, self._number)

    def _await_last_reports(self) -> None:
        """Send the workers home now: Locust does so next, and gives a busy one no more than half a second to report."""
        self.environment.runner.send_message("quit")
        until = time.monotonic() + LAST_REPORT_S
        while self._lost() and time.monotonic() < until:
            gevent.sleep(0.05)

    def _lost(self) -> int:
        return sum(not node.ended for node in self._workers.values())

    def _clear(self) -> None:
        for node in (self.own, *self._workers.values()):
            node.clear()

    def _reported(self, client_id: str, data: dict[str, Any]) -> None:
        if KEY in data:
            self._workers.setdefault(client_id, Node()).add(data[KEY])

    def _quit(self) -> None:
        """End what still runs, which brings the last reports; the exit code follows the verdict."""
        self.environment.runner.quit()
        self.environment.process_exit_code = 0 if self.verdict().passed else 1

    def verdict(self) -> Verdict:
        """Of the run that has ended; made once."""
        if self._verdict is None:
            self._verdict = judge(self.outcome(lost=self._lost()), limits_of(self.environment.parsed_options))
        return self._verdict

    def _tell(self, number: int) -> None:
        if number == self._number and not self._told:  # the next run may have begun
            self._told = True
            print("\n".join(self.verdict().lines()), file=sys.stderr, flush=True)

    def page(self) -> Response:
        """What the verdict is, or would be if the run ended now, as plain text."""
        so_far = self._verdict or judge(self.outcome(lost=0), limits_of(self.environment.parsed_options))
        word = "" if self._verdict else "So far: "
        return Response(word + "\n".join(so_far.lines()) + "\n", mimetype="text/plain")

    def outcome(self, *, lost: int) -> Outcome:
        """What was measured so far, by all processes.

        Args:
            lost: Processes whose last report is missing.
        """
        stats, exceptions = self.environment.stats, self.environment.runner.exceptions.values()
        return Outcome(
            requests=stats.num_requests,
            failures=stats.num_failures,
            response_ms={"lists": self._response_ms(LISTS), "events": self._response_ms([EVENTS])},
            nodes=list(self._workers.values()) if self._is_master else [self.own],
            exceptions=sum(one["count"] for one in exceptions) + log.unhandled_greenlet_exception,
            lost=lost,
        )

    def _response_ms(self, names: Iterable[str]) -> dict[int, int]:
        entries: list[StatsEntry | None] = [self.environment.stats.entries.get((name, "POST")) for name in names]
        return merged(entry.response_times for entry in entries if entry)
