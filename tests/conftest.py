"""Worlds that many tests read; all of them are immutable, so one of each serves the whole run."""

import os
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

from recsys.datasets.dataset import Dataset
from recsys.datasets.synthetic import synthetic
from recsys.training.train import Trained, train
from recsys.types import World
from tests import worlds

if TYPE_CHECKING:
    from tests.gcs_endpoint import GcsEndpoint
    from tests.s3_endpoint import S3Endpoint

hypothesis.settings.register_profile("riffle", deadline=None)  # a busy machine is slow, not wrong
hypothesis.settings.load_profile("riffle")
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


@pytest.fixture(scope="session")
def s3() -> "Iterator[S3Endpoint]":
    """An S3 endpoint to which `s3://` leads in this process and its children."""
    from tests.s3_endpoint import S3Endpoint  # here, not above: a second that few tests need

    endpoint = S3Endpoint()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield endpoint
    endpoint.stop()


@pytest.fixture
def s3_url(s3: "S3Endpoint") -> Iterator[str]:
    """A new bucket, and a prefix in it."""
    import fsspec

    bucket = f"test-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(bucket)
    yield f"s3://{bucket}/registry"
    s3.spoil = None


@pytest.fixture(scope="session")
def gcs() -> "Iterator[GcsEndpoint]":
    """An endpoint to which `gs://` leads in this process and its children."""
    from tests.gcs_endpoint import GcsEndpoint

    endpoint = GcsEndpoint()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", endpoint.url)
        yield endpoint
    endpoint.stop()


@pytest.fixture
def gcs_url(gcs: "GcsEndpoint") -> str:
    """A new bucket, and a prefix in it."""
    bucket = f"test-{uuid.uuid4().hex}"
    gcs.make_bucket(bucket)
    return f"gs://{bucket}/registry"


@pytest.fixture
def memory_url() -> str:
    return f"memory://test-{uuid.uuid4().hex}/registry"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait for real processes come first: where files are shared out among workers, the last one decides."""
    items.sort(key=lambda item: "tests/loadtest/" not in item.nodeid)
