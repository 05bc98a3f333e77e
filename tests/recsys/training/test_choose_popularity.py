"""Which window of popularity a log asks for."""

import numpy as np
import pytest

from recsys.bundle import Window
from recsys.features.user import UserStates
from recsys.training.choose_popularity import choose_popularity
from recsys.training.fit import fit
from recsys.training.log import Log
from recsys.training.questions import Known, Questions
from recsys.types import Ragged, World
from recsys.verbs import Verb
from recsys.vocabulary import item_key
from tests import worlds
from tests.worlds import DAY_S, START_S, dataset_of


def world_where(answers: str) -> tuple[World, Window]:
    """Item `old` was liked by many two years ago, `new` by a few lately; newcomers like what `answers` says."""
    items = {name: [] for name in ("old", "new", *(f"other-{n}" for n in range(30)))}
    events = [(f"then-{n}", "old", Verb.LIKE, START_S + n * 3600) for n in range(60)]
    events += [(f"then-{n}", f"other-{n % 30}", Verb.LIKE, START_S + n * 3600 + 60) for n in range(60)]
    late_s = START_S + 730 * DAY_S
    events += [(f"lately-{n}", "new", Verb.LIKE, late_s + n * 60) for n in range(10)]
    data = dataset_of(events, items)
    now_s, asked = late_s + DAY_S, 20
    bundle = fit(data, Log.of(data), worlds.SMALL, until_s=now_s)
    wanted = Ragged(np.arange(asked + 1), np.full(asked, item_key(answers), np.uint64))
    questions = Questions(np.arange(asked, dtype=np.int32), np.full(asked, now_s), np.full(asked, len(events)), wanted)
    known = Known.of(UserStates.empty(asked))
    found = choose_popularity(bundle, questions, known)
    return World(found, found.item_stats), found.recipe.popular


@pytest.mark.parametrize(("answers", "windows"), [("old", {"year", "ever"}), ("new", {"day", "month"})])
def test_the_window_is_that_in_which_the_answers_are_popular(answers: str, windows: set[str]) -> None:
    world, window = world_where(answers)
    assert window in windows
    row = int(world.popular[0])
    assert world.bundle.vocabulary.item_id[row] == answers
    assert not world.popular.flags.writeable
