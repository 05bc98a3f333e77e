"""The one way from an adapter's raw columns to a Dataset: parse, refuse, encode, sort, report."""

import hashlib

import numpy as np

from recsys.datasets.catalogue import Catalogue, read_catalogue
from recsys.datasets.dataset import Dataset, Events, ImportReport, Timing
from recsys.datasets.fields import (
    NO_ID,
    NO_POSITION,
    VERB_NAMES,
    Ids,
    parse_ids,
    parse_numbers,
    parse_positions,
    parse_timestamps,
    parse_verbs,
)
from recsys.datasets.impressions import Impressions
from recsys.datasets.malformed import KEPT, MalformedRows
from recsys.datasets.raw import RawInteractions, RawItems, Rows
from recsys.datasets.source import Source
from recsys.errors import DatasetError
from recsys.verbs import EVENT_TYPES, Verb

ADAPTER_VERSION = 1  # raise it when the same files would give another Dataset


def assemble(
    *,
    name: str,
    title: str,
    attribution: str,
    source: Source,
    interactions: RawInteractions,
    items: RawItems | None,
    malformed: MalformedRows,
    positive_rating: float,
    notes: list[str],
    timing: Timing = "exact",
) -> Dataset:
    """Build a Dataset.

    Args:
        name, title, attribution, notes, timing: As in `Dataset` and its report.
        source: Where the files were read; gives their hashes.
        interactions, items: Raw columns; without an items file the catalogue is the items interacted with.
        malformed: Already holds the rows with a wrong number of columns.
        positive_rating: A rating of at least this becomes LIKE, below it RATING.
    Raises:
        DatasetError: more than 1 % of a file's rows are malformed, or no row is left.
    """
    rows = interactions.rows
    users, listed = parse_ids(rows.columns["user_id"]), parse_ids(rows.columns["item_id"])
    ts_ms, bad_time = parse_timestamps(rows.columns["timestamp"])
    value, empty, bad_value = _values(rows)
    verb, bad_verb = _verbs(interactions, value, empty, positive_rating)
    position, bad_position = _positions(rows)
    checks = [
        ("user_id", users.bad, NO_ID),
        ("item_id", listed.bad, NO_ID),
        ("timestamp", bad_time, "neither epoch seconds or milliseconds nor RFC 3339, from 1970 to 2100"),
        ("value", bad_value, "not a finite number"),
        ("verb", bad_verb, f"none of {VERB_NAMES}"),
        ("position", bad_position, NO_POSITION),
        (
            "value",
            empty & (interactions.value_required | (verb == Verb.RATING)),
            "missing, but this is a rating",
        ),
    ]
    valid = _mark_malformed(rows, checks, malformed)
    malformed.refuse_beyond_allowed(rows.file, rows.rows_read)
    done = valid & (verb != EVENT_TYPES["impression"])
    if not done.any():
        raise DatasetError(f"{rows.file} in {source.path} holds no interaction: give a file that has rows")

    catalogue = read_catalogue(items, malformed)
    items_listed = len(catalogue)
    user_id, user = _users(users, valid)
    item = _items(listed, valid, catalogue)
    categories, indptr, category = catalogue.category_rows()
    columns = {"user": user, "item": item, "ts_ms": ts_ms[valid], "position": position[valid]}
    interaction = done[valid]
    by_time = np.argsort(ts_ms[valid], kind="stable")
    order = by_time[interaction[by_time]]
    impressions = _impressions(columns, by_time[~interaction[by_time]], notes)
    return Dataset(
        name=name,
        title=title,
        synthetic=False,
        attribution=attribution,
        fingerprint=_fingerprint(source, positive_rating),
        user_id=user_id,
        item_id=catalogue.item_id,
        item_title=catalogue.title,
        categories=categories,
        item_category_indptr=indptr,
        item_category=category,
        events=Events(
            **{name: column[order] for name, column in columns.items()},
            verb=verb[valid][order],
            value=value[valid][order],
        ),
        report=ImportReport(
            rows_read=rows.rows_read,
            rows_malformed=malformed.count[rows.file],
            items_read=items.rows.rows_read if items else 0,
            items_malformed=malformed.count[items.rows.file] if items else 0,
            malformed=malformed.kept,
            unlisted_items=len(catalogue) - items_listed if items else 0,
            unlisted_events=int((item[order] >= items_listed).sum()) if items else 0,
            notes=notes,
        ),
        timing=timing,
        impressions=impressions,
    )


def _impressions(columns: dict[str, np.ndarray], rows: np.ndarray, notes: list[str]) -> Impressions | None:
    """Of these rows those that have a position; what becomes of them is noted."""
    if not len(rows):
        return None
    placed = rows[columns["position"][rows] > 0]
    notes.append(
        f"{len(rows):,} impressions are no interactions; {len(placed):,} have a position and tell how far people look"
    )
    return Impressions(**{name: column[placed] for name, column in columns.items()}) if len(placed) else None


def _positions(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    if "position" in rows.columns:
        return parse_positions(rows.columns["position"])
    n = len(rows.line_number)
    return np.zeros(n, np.int32), np.zeros(n, bool)


def _values(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if "value" in rows.columns:
        return parse_numbers(rows.columns["value"])
    n = len(rows.line_number)
    return np.full(n, np.nan, dtype=np.float32), np.ones(n, dtype=bool), np.zeros(n, dtype=bool)


def _verbs(
    interactions: RawInteractions, value: np.ndarray, empty: np.ndarray, positive_rating: float
) -> tuple[np.ndarray, np.ndarray]:
    if "verb" in interactions.rows.columns:
        verb, bad = parse_verbs(interactions.rows.columns["verb"])
    else:
        verb = np.where(empty, interactions.bare_verb, Verb.RATING).astype(np.uint8)
        bad = np.zeros(len(verb), dtype=bool)
    verb[(verb == Verb.RATING) & (value >= positive_rating)] = Verb.LIKE
    return verb, bad


def _mark_malformed(rows: Rows, checks: list[tuple[str, np.ndarray, str]], malformed: MalformedRows) -> np.ndarray:
    """bool [n], False where a check failed; a row is counted once, by the first check that it fails."""
    valid = np.ones(len(rows.line_number), dtype=bool)
    for name, bad, reason in checks:
        failed = np.flatnonzero(bad & valid)
        if len(failed):
            shown = failed[:KEPT]
            lines = rows.line_number[shown].tolist()
            values = rows.columns[name].take(shown).to_pylist() if name in rows.columns else [""] * len(shown)
            reasons = [f"{name} {_quoted(value)} is {reason}" for value in values]
            malformed.add(rows.file, len(failed), zip(lines, reasons, strict=True))
            valid[failed] = False
    return valid


def _quoted(value: object, limit: int = 40) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return repr(text if len(text) <= limit else f"{text[:limit]}...")


def _used(ids: Ids, valid: np.ndarray) -> np.ndarray:
    """Positions in `ids.distinct` that valid rows name, ascending."""
    return np.flatnonzero(np.bincount(ids.number[valid], minlength=len(ids.distinct)))


def _users(ids: Ids, valid: np.ndarray) -> tuple[list[str], np.ndarray]:
    used = _used(ids, valid)
    number = np.zeros(len(ids.distinct), dtype=np.int32)
    number[used] = np.arange(len(used))
    return [ids.distinct[position] for position in used], number[ids.number[valid]]


def _items(ids: Ids, valid: np.ndarray, catalogue: Catalogue) -> np.ndarray:
    number = np.zeros(len(ids.distinct), dtype=np.int32)
    for position in _used(ids, valid):
        number[position] = catalogue.number(ids.distinct[position])
    return number[ids.number[valid]]


def _fingerprint(source: Source, positive_rating: float) -> str:
    parts = [f"adapter {ADAPTER_VERSION}", f"positive rating {float(positive_rating)!r}"]
    parts += [f"{name} {digest}" for name, digest in sorted(source.sha256.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
