"""What looks at drift remember: one small document for each bundle, in the home."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from recsys.errors import RegistryError
from recsys.monitoring.reference import Reference
from recsys.monitoring.watch import LAYOUT_OF_WATCH, Watch, Watcher, new_watch
from service.errors import StackError


def file_of(folder: Path, bundle: str) -> Path:
    """Where looks at a bundle are remembered."""
    return folder / f"{bundle}.json"


def remembered(folder: Path, bundle: str, problems: list[str], *, before: Callable[[], str | None]) -> Watch:
    """What is known from earlier looks; anew, with a problem, where that cannot be read.

    Args:
        before: The bundle that served until this one did; the first look takes over how that began.
    """
    watch = _read(file_of(folder, bundle), problems, "what earlier looks saw is lost, and they begin anew")
    if watch is not None:
        return watch
    lost = "clicks are not compared with how the bundle before began"
    try:
        last = before()
    except RegistryError as error:
        problems.append(f"which bundle served before cannot be read ({error}): {lost}")
        return new_watch(bundle)
    return new_watch(bundle, None if last is None else _read(file_of(folder, last), problems, lost))


def _read(path: Path, problems: list[str], lost: str) -> Watch | None:
    try:
        watch = msgspec.json.decode(path.read_bytes(), type=Watch)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        problems.append(f"{path} cannot be read ({error}): {lost}")
        return None
    if watch.layout != LAYOUT_OF_WATCH:
        problems.append(f"{path} is of another version: {lost}")
        return None
    return watch


def watcher_of(watch: Watch, reference: Reference, problems: list[str]) -> Watcher:
    """What goes on from there; anew, with a problem, where the document does not fit the reference."""
    try:
        return Watcher(watch, reference)
    except ValueError as error:
        problems.append(f"what earlier looks saw is damaged ({error}), and they begin anew")
        return Watcher(msgspec.structs.replace(new_watch(watch.bundle), before=watch.before), reference)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One look at a time: two at once would count the same hours twice. Raises StackError: the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "look.lock").open("ab")
    except OSError as error:
        raise StackError(
            f"{folder} cannot be written to: {error.strerror}; `riffle drift report --now` writes nothing"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
