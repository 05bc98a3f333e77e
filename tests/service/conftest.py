"""A published bundle, a store that holds every user's state, and a store of its own for tests that break it."""

import asyncio
import inspect
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from recsys.datasets.dataset import Dataset
from recsys.registry import Registry
from recsys.training.train import Trained, write
from recsys.types import World
from service.archives import event_archive
from service.rebuild import rebuild
from service.settings import Settings
from service.stack import processes, valkey
from service.world import load_world
from tests.free_ports import free_port
from tests.service.traffic.tables import A, B

HANG_S = 60.0  # far above what any test takes


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests, each in an event loop of its own; one that hangs fails."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), HANG_S))
    return True


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """No gateway of another process looks for live states twice a second, so a rebuild need not wait for any."""
    monkeypatch.setattr("service.rebuild.GRACE_S", 0.1)


@pytest.fixture(scope="session")
def published_home(trained: Trained, synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home whose registry has one bundle, the champion."""
    home = tmp_path_factory.mktemp("published")
    folder = home / "finished"
    write(trained, synthetic_dataset, folder, code_commit="0" * 12, parent=None)
    bundles = Registry(home / "registry")
    bundles.promote(bundles.publish(folder), reason="the only one", who="test")
    return Settings(home=str(home))


@pytest.fixture(scope="session")
def served(published_home: Settings) -> World:
    """The champion as a replica maps it."""
    return load_world(published_home)


@pytest.fixture(scope="session")
def two(served: World) -> dict[str, World]:
    """The same model, and one that looks at the last interaction only."""
    recipe = msgspec.structs.replace(served.bundle.recipe, recent=1)
    return {
        A: replace(served, bundle=replace(served.bundle, id=A)),
        B: replace(served, bundle=replace(served.bundle, id=B, recipe=recipe)),
    }


@pytest.fixture(scope="session")
def store_url(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey with the states of all users of `synthetic_dataset`; tests add keys but never take any away."""
    settings = Settings(home=str(tmp_path_factory.mktemp("store")), valkey_port=free_port())
    url = valkey.start(settings).url
    try:
        rebuild(url, synthetic_dataset, event_archive(settings))
        yield url
    finally:
        valkey.stop(settings)


@dataclass
class BreakableStore:
    """A Valkey that a test may pause, kill and start again on the same port."""

    settings: Settings
    pid: int
    url: str

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        valkey.stop(self.settings)

    def start(self) -> None:
        self.pid = valkey.start(self.settings).pid or 0


@pytest.fixture
def breakable_store(tmp_path: Path) -> Iterator[BreakableStore]:
    settings = Settings(home=str(tmp_path / "store"), valkey_port=free_port())
    running = valkey.start(settings)
    store = BreakableStore(settings, running.pid or 0, running.url)
    yield store
    recorded = processes.load(settings.home_path / "run" / "valkey.json")
    processes.end(processes.session(recorded) if recorded else [], grace_s=0)  # a graceful end takes 0.1 s
