"""What explanations cost: the measurement itself, on a small world."""

import asyncio

from loadtest.explained_lists import markdown, measure, states_by_user
from recsys.datasets.dataset import Dataset
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.types import World
from service.settings import Settings


def test_states_are_those_of_all_users_after_all_events(synthetic_dataset: Dataset) -> None:
    packed = states_by_user(synthetic_dataset)
    states, problems = unpack(list(packed.values()), SCHEMA_HASH)
    assert (list(packed), problems) == (synthetic_dataset.user_id, {})
    assert states.events.sum() == len(synthetic_dataset.events)


def test_every_kind_of_list_is_measured_and_each_explained_one_is(world: World, synthetic_dataset: Dataset) -> None:
    states = states_by_user(synthetic_dataset)
    found = asyncio.run(measure(world, states, Settings(), lists=4, seed=1))
    assert found["explained"]["lists"] == found["plain"]["lists"] == 4
    assert found["explained"]["unexplained"] == 0
    assert found["explained"]["cpu_p50_ms"] > found["plain"]["cpu_p50_ms"] > 0
    assert markdown(found).count("|\n") == 6
    assert "| plain beside explained |" in markdown(found)
