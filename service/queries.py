"""From decoded requests to a `QueryBatch`, with the checks that need the bundle."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from recsys.bundle import Bundle
from recsys.features.user import UserStates
from recsys.types import Controls, QueryBatch, Ragged
from recsys.vocabulary import item_keys
from service.errors import FieldError, Unprocessable
from service.schemas import Filter, Quota, RecommendationRequest, SimilarRequest
from service.settings import Settings
from service.traffic.document import Arm


class Query(msgspec.Struct, frozen=True, eq=False):
    """One request, resolved against a bundle.

    Attributes:
        count: Items wanted. session, excluded: uint64 item keys. categories: int32 category numbers, empty = no filter.
        explore: Probability of a new item at the end. seed, now_s: Of this request.
        diversity, popularity_damping: 0 to 1. quotas: Category numbers and maxima, int32 [q, 2].
        quality: As in `QueryBatch`.
        unknown_ids: Ids of the request that the bundle does not know.
    """

    count: int
    session: np.ndarray
    excluded: np.ndarray
    categories: np.ndarray
    explore: float
    seed: int
    now_s: int
    unknown_ids: list[str]
    diversity: float
    popularity_damping: float
    quotas: np.ndarray
    quality: float = 1.0


_NO_KEYS = np.zeros(0, np.uint64)
_NO_CATEGORIES = np.zeros(0, np.int32)
_NO_QUOTAS = np.zeros((0, 2), np.int32)


def resolve(
    bundle: Bundle,
    *,
    count: int,
    session_ids: Sequence[str],
    excluded_ids: Sequence[str],
    filter_: Filter | None,
    seed: int,
    now_s: int,
    explore: float = 0.0,
    diversity: float = 0.0,
    popularity_damping: float = 0.0,
    quotas: Sequence[Quota] = (),
    quality: float = 1.0,
) -> Query:
    """Turn ids and names of a request into keys and numbers.

    Raises:
        Unprocessable: a category does not exist: a filter that cannot be applied is an error, not an empty list.
    """
    unknown: list[str] = []
    any_of = filter_.categories.any_of if filter_ else ()
    of_filter = [(f"/filter/categories/any/{place}", name) for place, name in enumerate(any_of)]
    of_quotas = [(f"/quotas/{place}/category", one.category) for place, one in enumerate(quotas)]
    numbers = _numbers(bundle, [*of_filter, *of_quotas]) if of_filter or of_quotas else _NO_CATEGORIES
    most = [one.max for one in quotas]
    return Query(
        count,
        _keys(bundle, session_ids, unknown),
        _keys(bundle, excluded_ids, unknown),
        np.unique(numbers[: len(of_filter)]) if of_filter else _NO_CATEGORIES,
        explore,
        seed,
        now_s,
        list(dict.fromkeys(unknown)),
        diversity,
        popularity_damping,
        np.stack([numbers[len(of_filter) :], np.array(most, np.int32)], axis=1) if most else _NO_QUOTAS,
        quality,
    )


def resolve_request(
    bundle: Bundle,
    request: RecommendationRequest | SimilarRequest,
    arm: Arm,
    settings: Settings,
    *,
    seed: int,
    now_s: int,
) -> Query:
    """`resolve` of what a client asks; what it leaves open is as the arm says, else as the settings do."""
    own: dict[str, Any] = {}
    if isinstance(request, RecommendationRequest):
        request = ruled(request, arm)
    if isinstance(request, SimilarRequest):
        session_ids = list(dict.fromkeys(request.item_ids))
    else:
        session_ids = request.session.item_ids if request.session else []
        own["explore"] = settings.explore if arm.explore is None else arm.explore
        usual = settings.diversity if arm.diversity is None else arm.diversity
        own["diversity"] = usual if request.diversity is None else request.diversity
        own["popularity_damping"], own["quotas"] = request.popularity_damping, request.quotas
    return resolve(
        bundle,
        count=request.count,
        session_ids=session_ids,
        excluded_ids=request.exclude_item_ids,
        filter_=request.filter,
        seed=seed,
        now_s=now_s,
        **own,
    )


def ruled(request: RecommendationRequest, arm: Arm) -> RecommendationRequest:
    """A request with the rules of an arm where it gives none; so it is recorded, and made again without the arm."""
    rules: dict[str, Any] = {}
    if arm.popularity_damping is not None and not request.popularity_damping:
        rules["popularity_damping"] = arm.popularity_damping
    if arm.quotas and not request.quotas:
        rules["quotas"] = [Quota(category=category, max=most) for category, most in arm.quotas]
    return msgspec.structs.replace(request, **rules) if rules else request


def batch_of(queries: Sequence[Query], states: UserStates) -> QueryBatch:
    """The columns of a micro-batch."""
    return QueryBatch(
        states=states,
        now_s=np.array([q.now_s for q in queries], np.int64),
        seed=np.array([q.seed for q in queries], np.uint64),
        count=np.array([q.count for q in queries], np.int32),
        session=Ragged.of([q.session for q in queries], np.uint64),
        excluded=Ragged.of([q.excluded for q in queries], np.uint64),
        categories=Ragged.of([q.categories for q in queries], np.int32),
        explore=np.array([q.explore for q in queries], np.float32),
        controls=_controls(queries),
        quality=_quality(queries),
    )


def _quality(queries: Sequence[Query]) -> np.ndarray | None:
    return np.array([q.quality for q in queries], np.float32) if any(q.quality < 1 for q in queries) else None


def _controls(queries: Sequence[Query]) -> Controls | None:
    """None where no request has any: then lists are in the order of their scores, at no cost."""
    if not any(q.diversity or q.popularity_damping or len(q.quotas) for q in queries):
        return None
    return Controls(
        diversity=np.array([q.diversity for q in queries], np.float32),
        popularity_damping=np.array([q.popularity_damping for q in queries], np.float32),
        quota_category=Ragged.of([q.quotas[:, 0] for q in queries], np.int32),
        quota_most=Ragged.of([q.quotas[:, 1] for q in queries], np.int32),
    )


def _keys(bundle: Bundle, item_ids: Sequence[str], unknown: list[str]) -> np.ndarray:
    if not item_ids:
        return _NO_KEYS
    keys = item_keys(item_ids)
    known = bundle.vocabulary.rows(keys) >= 0
    unknown.extend(item_id for item_id, is_known in zip(item_ids, known, strict=True) if not is_known)
    return keys[known]


def _numbers(bundle: Bundle, named: Sequence[tuple[str, str]]) -> np.ndarray:
    """Number of each category, int32, given with the pointer to where the request names it."""
    numbers = bundle.category_number
    missing = [
        FieldError(pointer, "unknown_category", f"no item has category {name!r}")
        for pointer, name in named
        if name not in numbers
    ]
    if missing:
        known = ", ".join(list(numbers)[:30]) or "none"
        raise Unprocessable(f"the request names unknown categories; this catalogue has: {known}", missing)
    return np.array([numbers[name] for _, name in named], np.int32)
