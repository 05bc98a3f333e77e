"""Whose lists are asked for: a few users much more often than the rest, and now and then a stranger."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recsys.errors import DatasetError
from recsys.simulation.visits import zipf_shares
from service.imports import imported
from service.settings import load

EXPONENT = 0.9  # of Zipf's law: of 943 users a tenth sends 61 % of the requests
UNKNOWN_SHARE = 0.02
_DRAWN = 256  # ids at a time; one at a time would cost more than the request


class Crowd:
    """An endless seeded stream of user ids.

    Args:
        user_ids: The known users; their ranks in Zipf's law are drawn from the seed.
        unknown_share: Share of ids that belong to nobody, `stranger-<n>`.
        stream: Of one seed, each draws other ids from the same ranks.
    """

    def __init__(
        self, user_ids: list[str], *, seed: int, unknown_share: float = UNKNOWN_SHARE, stream: int = 0
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._ranked = self._rng.permutation(np.array(user_ids, dtype=object))
        if stream:
            self._rng = np.random.default_rng([seed, stream])
        self._cumulative = np.cumsum(zipf_shares(len(user_ids), EXPONENT))
        self._unknown_share = unknown_share

    def draw(self, n: int) -> list[str]:
        """The next `n` ids."""
        rank = np.searchsorted(self._cumulative, self._rng.random(n), side="right")
        known = self._ranked[np.minimum(rank, len(self._ranked) - 1)]
        stranger = self._rng.random(n) < self._unknown_share
        number = self._rng.integers(0, 10**9, n)
        return [f"stranger-{number[i]}" if stranger[i] else known[i] for i in range(n)]

    def __iter__(self) -> Iterator[str]:
        """One id after the other, without end."""
        while True:
            yield from self.draw(_DRAWN)


def newcomers() -> Iterator[str]:
    """Ids that nobody has met, in no run before this one either: who clicks is known from then on."""
    run, number = uuid.uuid4().hex, 0
    while True:
        yield f"new-{run}-{number}"
        number += 1


def known_users(path: Path | None = None) -> list[str]:
    """User ids from a file, one a line, or of the imported data set.

    Raises:
        DatasetError: unreadable or empty file, or nothing is imported.
    """
    if path is None:
        return imported(load()).user_id
    try:
        user_ids = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read user ids from {path}: {error}; give a UTF-8 file, one id a line") from error
    user_ids = [user_id for user_id in user_ids if user_id]
    if not user_ids:
        raise DatasetError(f"{path} holds no user id; give one a line")
    return user_ids
