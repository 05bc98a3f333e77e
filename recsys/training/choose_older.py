"""Whether what a user did long ago says what they like, chosen by what ranks the right answers higher.

Where the next item is asked for, the newest interactions say more, and older ones dilute them; where any item of the
user may be asked for, all of them count: decision 0030.
"""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np

from recsys.bundle import Bundle
from recsys.evaluation.answers import ask
from recsys.evaluation.baselines import alone
from recsys.evaluation.metrics import ndcg_of_hits
from recsys.training.questions import Known, Questions
from recsys.types import Source, World

OLDER = 256  # items; with the ring 320, more than seven eighths of the users of MovieLens 1M have
ASKED = 2000  # questions
JUDGES = (Source.SPECTRAL, Source.ALS)  # sources whose vectors are made from all that a user likes


def choose_older(
    bundle: Bundle, questions: Questions, known: Known, *, progress: Callable[[int], None] = lambda _: None
) -> Bundle:
    """The bundle, its recipe with OLDER items or none, by the mean NDCG@10 of JUDGES alone; of equals none.

    It is settled then, as the strength of ALS is.
    """
    rows = questions.drawn(ASKED, seed=bundle.recipe.seed)
    few, known = questions.take(rows), known.take(rows)

    def value(older: int) -> float:
        recipe = msgspec.structs.replace(bundle.recipe, older=older)
        world = World(replace(bundle, recipe=recipe), bundle.item_stats)
        found = []
        for one in JUDGES:
            of = alone(world, one)
            answers = ask(of.world, few, known, score=of.score, seed=recipe.seed)
            found.append(float(ndcg_of_hits(answers.hits(10), answers.wanted).mean()))
        progress(1)
        return float(np.mean(found))

    best = OLDER if value(OLDER) > value(0) else 0
    return replace(bundle, recipe=msgspec.structs.replace(bundle.recipe, older=best, choose_older=False))
