"""What looks for junk have left out, so that it stays out: what is older than a look is trusted by the next."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from recsys.datasets.dataset import Dataset, Events
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
    junk = tuple(junk)
    rows = np.zeros(len(dataset.events), bool)
    if not junk:
        return rows
    digests = [user_digest(user) for user in dataset.user_id]
    events = dataset.events
    for look in junk:
        users = look.users
        theirs = np.array([digest in users for digest in digests], bool)
        rows |= theirs[events.user] & (events.ts_ms >= look.since_ms) & (events.ts_ms <= look.until_ms)
    return rows


def without_junk(dataset: Dataset, junk: Sequence[Junk]) -> Dataset:
    """The data set without what was left out; the same object if it has none of that."""
    rows = junk_rows(dataset, junk)
    if not rows.any():
        return dataset
    columns = {name: getattr(dataset.events, name)[~rows] for name in Events.__annotations__}
    place = np.arange(1, len(rows) + 1) if dataset.place is None else dataset.place
    since_ms = min(look.since_ms for look in junk)
    return replace(dataset, events=Events(**columns), place=place[~rows], screened_since_ms=since_ms)


def forgetting(junk: Iterable[Junk], digests: frozenset[str]) -> tuple[Junk, ...]:
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
