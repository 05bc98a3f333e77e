"""What users tie to an item comes before what is only near it, and both before what is only popular."""

from types import SimpleNamespace

import numpy as np

from recsys.retrieval.ties import tied_first
from recsys.types import Source


def test_ties_come_first_then_near_items_then_popular_ones() -> None:
    scores = np.zeros((len(Source), 4), np.float32)
    scores[Source.SIMILAR, 0] = 0.2
    scores[Source.TRANSITIONS, 1] = 0.1
    sources = np.array([1 << Source.SIMILAR, 1 << Source.TRANSITIONS, 1 << Source.ALS, 1 << Source.POPULAR], np.uint16)
    retrieval = np.array([0.1, 0.9, 1.0, 1.0], np.float32)
    candidates = SimpleNamespace(source_score=scores, sources=sources, retrieval_score=retrieval)
    score = tied_first(candidates)  # type: ignore[arg-type]
    assert np.argsort(-score).tolist() == [0, 1, 2, 3]
