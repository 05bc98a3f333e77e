"""A Ray of this process's own, for work that ends with it: no service, no dashboard, nothing that listens beyond here.

It is not the head that serves, so that a search neither waits for its processors nor ends with it.
"""

import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from service.errors import StackError
from service.settings import Settings
from service.stack.ray_environment import environment, runtime_folder

# Of the variables of the head; those that Serve reads are left out, and workers keep Ray's niceness of 15: they give
# way to a service on the same machine.
_SHARED = (
    "RAY_USAGE_STATS_ENABLED",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
    "RAY_AUTH_MODE",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "PYTHONPATH",
)


@contextmanager
def local_ray(settings: Settings, *, cpus: int) -> Iterator[None]:
    """A Ray of so many processors while the context lasts; the environment is afterwards as it was.

    Raises:
        StackError: it does not start, or would listen beyond this machine.
    """
    shared = {name: value for name, value in environment(settings).items() if name in _SHARED}
    with ExitStack() as at_end, _environ(shared | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}):
        import ray  # here: it reads its variables when it is imported
        from ray._private.ray_constants import ENABLE_RAY_CLUSTER

        if ENABLE_RAY_CLUSTER:  # of RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER: as of the import, and stays
            raise StackError("Ray would listen on every interface: it was imported before its variables were set")
        folder = _folder(settings)
        at_end.callback(_read_variables)
        _read_variables()
        try:
            try:
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    num_gpus=0,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(folder),
                )
            except (OSError, RuntimeError, ValueError, TimeoutError) as error:
                raise StackError(f"Ray did not start: {error}; its logs are in {folder}") from error
            at_end.callback(shutil.rmtree, folder, ignore_errors=True)
            yield
        finally:
            ray.shutdown()


def _read_variables() -> None:
    """Have Ray read whether there is a token, and which: it keeps what it has read at its import and its first use."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # its stub lacks them

    Config.initialize("")  # first: with the mode of before, a thread that still ends could ask for a token
    AuthenticationTokenLoader.instance().reset_cache()


def _folder(settings: Settings) -> Path:
    """A new private folder, short as a socket's path must be; what a process that was killed has left goes."""
    runtime = runtime_folder(settings)
    folder = runtime.with_name(f"{runtime.name}-search")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise StackError(f"{folder} cannot be made: {error}; remove it") from error
    return folder


@contextmanager
def _environ(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:  # Ray adds variables of its own
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
