"""The local stack: the online store, Ray with its dashboard, Serve behind HAProxy. Started, found, ended."""

import contextlib
import fcntl
from collections.abc import Iterator

from service.errors import StackError
from service.settings import Settings
from service.stack import ray_head, valkey


def start(settings: Settings) -> tuple[valkey.Running, str]:
    """Start what does not run yet; returns the store and the address of Ray.

    Everything is checked before anything is started, and what this call started is ended when it fails.

    Raises:
        StackError: a port is taken, the store is unreachable, a process did not come up.
    """
    with _alone(settings):
        valkey.check(settings)
        ray_head.check(settings)
        had_store = valkey.running(settings)
        store = valkey.start(settings)
        try:
            return store, ray_head.start(settings)
        except BaseException:
            if not had_store:
                valkey.stop(settings)
            raise


def stop(settings: Settings) -> bool:
    """End everything of this home, Ray first; True when there was something to end.

    Raises:
        StackError: a process would not end.
    """
    with _alone(settings):
        try:
            had_ray = ray_head.stop(settings)
        finally:
            had_store = valkey.stop(settings)
        return had_ray or had_store


def running(settings: Settings) -> bool:
    """True while both the store and Ray answer. The store at `redis_url` is not asked."""
    return ray_head.running(settings) and (bool(settings.redis_url) or valkey.running(settings))


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the lock of this home; the system drops it when its process ends, however that ends."""
    path = settings.home_path / "run" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise StackError(f"{settings.home_path} cannot be written: {error}; set RIFFLE_HOME") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(
                f"another process is starting or stopping the stack of {settings.home_path}; wait for it to finish"
            ) from error
        yield
