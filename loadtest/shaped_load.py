"""A curve of shapes.py as the load shape of a Locust run."""

from locust import LoadTestShape
from locust.runners import Runner

from loadtest.shapes import users_at

RUN_TIME_S = 600.0  # where --run-time says nothing


class ShapedLoad(LoadTestShape):
    """Follows a curve up to `--users`, through `--run-time`; a change of users takes about a second.

    It is abstract only to Locust, which would take the first other one that it finds in a locustfile, asked for or not.
    """

    abstract = True
    use_common_options = True

    def __init__(self, name: str, runner: Runner) -> None:
        super().__init__()
        self._name, self.runner = name, runner

    def tick(self) -> tuple[int, float] | None:
        """Users for the next second, and how many of them may come or go in it; None at the end."""
        options = self.runner.environment.parsed_options
        peak = options.num_users or 1
        users = users_at(self._name, self.get_run_time(), run_time_s=options.run_time or RUN_TIME_S, peak=peak)
        return None if users is None else (users, float(peak))
