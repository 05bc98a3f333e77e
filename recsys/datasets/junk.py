"""What looks for junk have left out, so that it stays out: what is older than a look is trusted by the next."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from recsys.datasets.dataset import Dataset
from recsys.datasets.leave_out import without_events
from recsys.erased_users import user_digest


class Junk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one look left out: all that these users did in a time.

    Attributes:
        since_ms, until_ms: The first and the last moment of what was looked at, UTC epoch milliseconds.
        flooding, blind: Digests of users (`recsys.erased_users.user_digest`), by what was found of them.
    """

    since_ms: int
    until_ms: int
    flooding: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()

    @property
    def users(self) -> frozenset[str]:
        """Digests of all."""
        return frozenset((*self.flooding, *self.blind))


def junk_rows(dataset: Dataset, junk: Iterable[Junk]) -> np.ndarray:
    """Which interactions were left out, bool [e]."""
    looks = [(look, look.users) for look in junk]
    rows = np.zeros(len(dataset.events), bool)
    if not looks:
        return rows
    anybody = frozenset[str]().union(*(users for _, users in looks))
    digest_of = {number: digest for number, digest in enumerate(map(user_digest, dataset.user_id)) if digest in anybody}
    theirs = np.flatnonzero(np.isin(dataset.events.user, list(digest_of)))
    user, ts_ms = dataset.events.user[theirs], dataset.events.ts_ms[theirs]
    for look, users in looks:
        of_look = np.isin(user, [number for number, digest in digest_of.items() if digest in users])
        rows[theirs] |= of_look & (ts_ms >= look.since_ms) & (ts_ms <= look.until_ms)
    return rows


def without_junk(dataset: Dataset, junk: Sequence[Junk]) -> Dataset:
    """The data set without what was left out; the same object if it has none of that."""
    rows = junk_rows(dataset, junk)
    if not rows.any():
        return dataset
    return replace(without_events(dataset, rows), screened_since_ms=min(look.since_ms for look in junk))


def without_users(junk: Iterable[Junk], digests: frozenset[str]) -> tuple[Junk, ...]:
    """The same without these users; a look that left out nobody else is not kept."""
    kept = (
        msgspec.structs.replace(
            look,
            flooding=tuple(one for one in look.flooding if one not in digests),
            blind=tuple(one for one in look.blind if one not in digests),
        )
        for look in junk
    )
    return tuple(look for look in kept if look.users)
