"""The service's own log lines go where Serve's go, as JSON, one object a line: the logs that the Ray dashboard shows.

Without this they go nowhere: Serve takes the standard error of a replica for lines of level INFO, and drops these.
"""

import logging

_THEIRS = "ray.serve"
_OURS = ("service", "recsys")
# Serve's `logging_config`: INFO makes a log record for each request, even with the access log off.
SERVE = {"enable_access_log": False, "log_level": "WARNING", "encoding": "JSON"}


def attach() -> None:
    """Give our loggers the handlers of Serve's, in a replica; elsewhere there are none to give."""
    handlers = logging.getLogger(_THEIRS).handlers
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = list(handlers), not handlers
        logger.setLevel(logging.WARNING)
    # One line for each sampled request; every request would cost more than its own Python.
    logging.getLogger("service.telemetry.requests").setLevel(logging.INFO)


def flush() -> None:
    """Write what handlers hold back."""
    for handler in logging.getLogger(_THEIRS).handlers:
        handler.flush()
