"""What each part of the pipeline is worth: one switch at a time, everything else as it is.

The models are fitted once. For each variant the ranker is taught anew with just that pipeline, and asked the same
questions; so a part that others make up for is worth little here, which is what a default should know.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from recsys.bundle import Bundle, Loss, Recipe
from recsys.bundle_files import save
from recsys.evaluation.answers import ask
from recsys.evaluation.bootstrap import Interval, mean_interval, paired_difference
from recsys.evaluation.metrics import ndcg_of_hits
from recsys.evaluation.report import conditions_lines
from recsys.features.matrix import NAMES
from recsys.recommend import rank, recommend, retrieve
from recsys.retrieval.band_index import BandIndex
from recsys.training.learn import Models, teach
from recsys.training.questions import Known, Questions
from recsys.types import World

BATCH = 16  # requests of a micro-batch whose cost is measured
MEASURED = 640  # requests
AS_IT_IS = "as it is"
LOSSES: tuple[Loss, ...] = ("PairLogit", "QuerySoftMax", "YetiRank")
CANDIDATES = (50, 100, 250, 400)
GROUPS: dict[str, tuple[str, ...]] = {
    "user features": ("user_",),
    "item features": ("item_",),
    "features of the last events": (
        "user_log_idle_s",
        "user_log_activity_1h",
        "cross_factor_last",
        "cross_factor_recent",
        "cross_category_last",
        "cross_transitions",
        "cross_nearby",
        "cross_similar",
        "cross_content",
    ),
    "features of nearness": ("cross_nearby",),
    "features of descriptions": ("cross_content",),
    "features among the candidates": tuple(name for name in NAMES if name.endswith("_among")),
    "category features": ("cross_category",),
    "fused score as a feature": ("cross_retrieval",),
}


@dataclass(frozen=True, slots=True)
class Variant:
    """One switch.

    Attributes:
        change: Fields of the recipe. approximate: Inverted lists instead of exact search.
    """

    name: str
    change: dict[str, Any]
    candidates: int
    approximate: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a variant gives.

    Attributes:
        ndcg, difference: NDCG@10, and what it is above that of the pipeline as it is, over the same questions.
        found: Share of the right answers among the candidates.
        request_us, rank_us: CPU time of a request in batches of BATCH, and of its features and scores alone.
        bundle_mb: All files but the reports, 2^20 bytes.
    """

    name: str
    ndcg: Interval
    difference: Interval
    found: float
    request_us: float
    rank_us: float
    bundle_mb: float


def variants(recipe: Recipe, candidates: int) -> list[Variant]:
    """All switches of a pipeline, itself first."""
    without = [
        Variant(f"without {one}", {"sources": tuple(s for s in recipe.sources if s != one)}, candidates)
        for one in recipe.sources
        if len(recipe.sources) > 1
    ]
    groups = [
        Variant(f"without {group}", {"ignored_features": tuple(n for n in NAMES if n.startswith(starts))}, candidates)
        for group, starts in GROUPS.items()
    ]
    trees = {"linear": False, "trees": Recipe().trees}
    rankers = [
        Variant("linear ranker", {"linear": True, "trees": 0}, candidates),
        Variant("linear ranker with 50 trees", {"linear": True, "trees": 50}, candidates),
        Variant("trees of one seed", {"tree_seeds": 1}, candidates),
        Variant("trees alone", trees, candidates),
    ]
    losses = [Variant(f"trees alone, loss {loss}", {"loss": loss, **trees}, candidates) for loss in LOSSES]
    depths = [Variant(f"{n} candidates", {}, n) for n in CANDIDATES]
    approximate = Variant("approximate index", {}, candidates, approximate=True)
    return [Variant(AS_IT_IS, {}, candidates), *without, *groups, *rankers, *losses, *depths, approximate]


def ablate(
    models: Models,
    recipe: Recipe,
    switches: list[Variant],
    questions: Questions,
    known: Known,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Outcome]:
    """Every variant on the same questions, each beside the first. recipe: Its sources are those that training chose."""
    outcomes: list[Outcome] = []
    base = np.zeros(0)
    for variant in switches:
        changed = msgspec.structs.replace(recipe, **variant.change)
        of = replace(models, worlds=[replace(world, candidates=variant.candidates) for world in models.worlds])
        bundle = teach(of, changed).bundle
        recipe = recipe if outcomes else bundle.recipe  # the ranker is chosen once
        if variant.approximate:
            bundle = _with_inverted_lists(bundle)
        world = World(bundle, bundle.item_stats, variant.candidates)
        answers = ask(world, questions, known, seed=recipe.seed)
        value = ndcg_of_hits(answers.hits(10), answers.wanted)
        base = base if len(base) else value
        request_us, rank_us = cost_us(world, questions, known)
        outcomes.append(
            Outcome(
                variant.name,
                mean_interval(value, questions.user, seed=recipe.seed),
                paired_difference(value, base, questions.user, seed=recipe.seed),
                float(answers.found.mean()),
                request_us,
                rank_us,
                _size_mb(bundle),
            )
        )
        progress(1)
    return outcomes


def cost_us(world: World, questions: Questions, known: Known) -> tuple[float, float]:
    """CPU time of one request in batches of BATCH, and of its features and scores alone: microseconds."""
    at = np.arange(min(len(questions), MEASURED) // BATCH) * BATCH
    batches = [questions.batch(known, np.arange(start, start + BATCH), count=20, seed=1) for start in at.tolist()]
    if not batches:
        return float("nan"), float("nan")
    recommend(world, batches[0])  # what is compiled or cached at first use
    began = time.process_time_ns()
    for batch in batches:
        recommend(world, batch)
    request_ns = time.process_time_ns() - began
    retrieved = [retrieve(world, batch) for batch in batches]
    began = time.process_time_ns()
    for batch, one in zip(batches, retrieved, strict=True):
        rank(world, batch, one)
    rank_ns = time.process_time_ns() - began
    each = len(batches) * BATCH * 1000
    return request_ns / each, rank_ns / each


def markdown(outcomes: list[Outcome], conditions: Mapping[str, Any]) -> str:
    """The table. conditions: As of `Report`."""
    lines = ["| | NDCG@10 | beside as it is | answers found | request, us | of which ranking | bundle, MB |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for one in outcomes:
        ndcg, other = one.ndcg, one.difference
        lines.append(
            f"| {one.name} | {ndcg.mean:.4f} | {other.mean:+.4f} [{other.low:+.4f}, {other.high:+.4f}] | "
            f"{one.found:.3f} | {one.request_us:.0f} | {one.rank_us:.0f} | {one.bundle_mb:.1f} |"
        )
    return "\n".join([*lines, "", *conditions_lines(conditions)])


def _with_inverted_lists(bundle: Bundle) -> Bundle:
    index, spectral = (
        BandIndex.build(table, seed=bundle.recipe.seed) for table in (bundle.factors, bundle.spectral.vector)
    )
    return replace(bundle, index=index, spectral_index=spectral)


def _size_mb(bundle: Bundle) -> float:
    with tempfile.TemporaryDirectory() as folder:
        save(bundle, Path(folder))
        return sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
