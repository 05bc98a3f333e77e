"""Worlds that many tests read; all of them are immutable, so one of each serves the whole run."""

import os

import pytest

from recsys.datasets.dataset import Dataset
from recsys.datasets.synthetic import synthetic
from recsys.training.train import Trained, train
from recsys.types import World
from tests import worlds

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and tables would be cut where they are not in one process


def train_small(dataset: Dataset) -> Trained:
    """Train with few trees and short factors."""
    return train(dataset, worlds.SMALL)


def world_of(trained: Trained) -> World:
    return World(trained.bundle, trained.bundle.item_stats)


@pytest.fixture(scope="session")
def synthetic_dataset() -> Dataset:
    """120 users, 400 items, about 15,000 events."""
    return synthetic(7, users=120, items=400, sessions=25)


@pytest.fixture(scope="session")
def trained(synthetic_dataset: Dataset) -> Trained:
    return train_small(synthetic_dataset)


@pytest.fixture(scope="session")
def world(trained: Trained) -> World:
    return world_of(trained)


@pytest.fixture(scope="session")
def tastes() -> World:
    """Trained on `worlds.two_tastes`."""
    return world_of(train_small(worlds.two_tastes()))


@pytest.fixture(scope="session")
def chain_trained() -> Trained:
    return train_small(worlds.chain())


@pytest.fixture(scope="session")
def chain(chain_trained: Trained) -> World:
    """Trained on `worlds.chain`."""
    return world_of(chain_trained)


@pytest.fixture(scope="session")
def tiny() -> World:
    """`worlds.tiny_world`."""
    return worlds.tiny_world()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait for real processes come first: where files are shared out among workers, the last one decides."""
    items.sort(key=lambda item: "tests/loadtest/" not in item.nodeid)
