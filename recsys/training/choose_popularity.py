"""The window by which items are popular, chosen by what ranks the right answers higher where nothing else is known.

Thirty days are right for a shop with many events a day; where there are few, its list is noise and a longer memory is
better: on MovieLens latest-small popularity alone has an NDCG@10 of .02 over thirty days and .05 over all time.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import msgspec

from recsys.bundle import Bundle, Window
from recsys.evaluation.answers import ask
from recsys.evaluation.baselines import only
from recsys.evaluation.metrics import ndcg_of_hits
from recsys.training.questions import Known, Questions
from recsys.types import Source, World

ASKED = 2000  # questions


def choose_popularity(
    bundle: Bundle, questions: Questions, known: Known, *, progress: Callable[[int], None] = lambda _: None
) -> Bundle:
    """The bundle, its recipe with the window whose popular list alone has the highest NDCG@10; of equals its own.

    The window is settled then, as the strength of ALS is.
    """
    rows = questions.drawn(ASKED, seed=bundle.recipe.seed)
    few, known = questions.take(rows), known.take(rows)

    def value(window: Window) -> float:
        recipe = msgspec.structs.replace(bundle.recipe, popular=window)
        world = only(World(replace(bundle, recipe=recipe), bundle.item_stats), Source.POPULAR)
        answers = ask(world, few, known, seed=recipe.seed)
        progress(1)
        return float(ndcg_of_hits(answers.hits(10), answers.wanted).mean())

    own = bundle.recipe.popular
    best = max((own, *(window for window in get_args(Window) if window != own)), key=value)
    return replace(bundle, recipe=msgspec.structs.replace(bundle.recipe, popular=best, choose_popularity=False))
