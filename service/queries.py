"""From decoded requests to a `QueryBatch`, with the checks that need the bundle."""

from collections.abc import Sequence

import msgspec
import numpy as np

from recsys.bundle import Bundle
from recsys.features.user import UserStates
from recsys.types import QueryBatch, Ragged
from recsys.vocabulary import item_keys
from service.errors import FieldError, Unprocessable
from service.schemas import Filter


class Query(msgspec.Struct, frozen=True, eq=False):
    """One request, resolved against a bundle.

    Attributes:
        count: Items wanted. session, excluded: uint64 item keys. categories: int32 category numbers, empty = no filter.
        explore: Probability of a new item at the end. seed, now_s: Of this request.
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


_NO_KEYS = np.zeros(0, np.uint64)
_NO_CATEGORIES = np.zeros(0, np.int32)


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
) -> Query:
    """Turn ids and names of a request into keys and numbers.

    Raises:
        Unprocessable: a category does not exist: a filter that cannot be applied is an error, not an empty list.
    """
    unknown: list[str] = []
    categories = _NO_CATEGORIES if filter_ is None else _categories(bundle, filter_.categories.any_of)
    return Query(
        count,
        _keys(bundle, session_ids, unknown),
        _keys(bundle, excluded_ids, unknown),
        categories,
        explore,
        seed,
        now_s,
        list(dict.fromkeys(unknown)),
    )


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
    )


def _keys(bundle: Bundle, item_ids: Sequence[str], unknown: list[str]) -> np.ndarray:
    if not item_ids:
        return _NO_KEYS
    keys = item_keys(item_ids)
    known = bundle.vocabulary.rows(keys) >= 0
    unknown.extend(item_id for item_id, is_known in zip(item_ids, known, strict=True) if not is_known)
    return keys[known]


def _categories(bundle: Bundle, names: Sequence[str]) -> np.ndarray:
    numbers = bundle.category_number
    missing = [
        FieldError(f"/filter/categories/any/{place}", "unknown_category", f"no item has category {name!r}")
        for place, name in enumerate(names)
        if name not in numbers
    ]
    if missing:
        known = ", ".join(list(numbers)[:30]) or "none"
        raise Unprocessable(f"the filter names unknown categories; this catalogue has: {known}", missing)
    return np.array(sorted({numbers[name] for name in names}), np.int32)
