"""Items like others: those that users tie to them come first."""

import numpy as np

from recsys.types import CandidateSet, Source

_POPULAR_ONLY = 1 << Source.POPULAR
_UNTIED = np.float32(1e-3)  # places items that are only near in the space of factors after the tied ones


def tied_first(candidates: CandidateSet) -> np.ndarray:
    """Scores of candidates by how they are tied to a session, float [m]: tied ones, near ones, popular ones last."""
    tied = candidates.source_score[Source.SIMILAR] + candidates.source_score[Source.TRANSITIONS]
    filler = candidates.sources == _POPULAR_ONLY
    return np.where(filler, candidates.retrieval_score - 1, tied + candidates.retrieval_score * _UNTIED)
