"""The worlds of earlier answers: that in service is used as it is, others are loaded once."""

from dataclasses import replace

import pytest

from recsys.errors import RegistryError
from recsys.types import World
from service.settings import Settings
from service.world import recorded_worlds
from tests.service.test_decisions import decision


def test_world_in_service_is_not_loaded_again(published_home: Settings, served: World) -> None:
    world_of = recorded_worlds(published_home, served)
    assert world_of(decision(1, bundle=served.bundle.id, candidates=served.candidates)) is served
    narrow = world_of(decision(2, bundle=served.bundle.id, candidates=50))
    assert narrow.candidates == 50
    assert narrow.bundle is served.bundle
    assert world_of(decision(3, bundle=served.bundle.id, candidates=50)) is narrow


def test_other_bundle_is_loaded_once_from_the_registry(published_home: Settings, served: World) -> None:
    in_service = replace(served, bundle=replace(served.bundle, id="20250101-0123456789ab"))
    world_of = recorded_worlds(published_home, in_service)
    first, second = (world_of(decision(1, bundle=served.bundle.id, candidates=n)) for n in (200, 77))
    assert first.bundle.id == served.bundle.id
    assert first.bundle is second.bundle is not served.bundle
    assert (first.candidates, second.candidates) == (200, 77)


def test_bundle_that_is_gone_is_an_error_each_time(published_home: Settings) -> None:
    world_of = recorded_worlds(published_home)
    for _ in range(2):
        with pytest.raises(RegistryError):
            world_of(decision(1, bundle="20250101-0123456789ab"))
