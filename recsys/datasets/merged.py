"""Interactions that were given to another user: from then on they are that user's, and nobody else's."""

from collections.abc import Collection, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.erased_users import user_digest
from recsys.verbs import MERGED


def merged_rows(rows: pa.Table) -> np.ndarray:
    """Which rows of an event archive are interactions that another user gave, int64 [m]. rows: `type`."""
    return np.flatnonzero(pc.fill_null(pc.equal(rows["type"], MERGED), False).to_numpy())


def givers(rows: pa.Table) -> list[str]:
    """The digest of the user who gave each interaction. rows: `properties` of merged ones."""
    return [str(msgspec.json.decode(one).get("from", "")) for one in rows["properties"].to_pylist()]


def numbers_of(digests: Sequence[str], users: Collection[str]) -> np.ndarray:
    """The place of each digest's user among the users, -1 where nobody there has it, int64 [m]."""
    wanted = set(digests)
    place = {digest: number for number, user in enumerate(users) if (digest := user_digest(user)) in wanted}
    return np.array([place.get(digest, -1) for digest in digests], np.int64)


def given_away(
    user: np.ndarray, item: np.ndarray, ts_s: np.ndarray, arrived: np.ndarray, merged: np.ndarray, giver: np.ndarray
) -> np.ndarray:
    """Whether an interaction was given to another user afterwards, bool [e].

    Args:
        user, item: Numbers, [e]. ts_s: int64 [e], UTC epoch seconds.
        arrived: uint64 [e, 2], position in the log; (0, 0) where it was imported.
        merged: int64 [m], places of the interactions that were given. giver: int64 [m], who gave each, -1 if unknown.
    """
    until: dict[tuple[int, int, int], tuple[int, int]] = {}
    for place, who in zip(merged.tolist(), giver.tolist(), strict=True):
        what, at = (who, int(item[place]), int(ts_s[place])), (int(arrived[place, 0]), int(arrived[place, 1]))
        until[what] = max(until.get(what, at), at)
    gone = np.zeros(len(user), bool)
    for event in np.flatnonzero(np.isin(user, giver)).tolist():
        what, at = (int(user[event]), int(item[event]), int(ts_s[event])), tuple(arrived[event].tolist())
        gone[event] = what in until and at < until[what]
    return gone
