"""Before a user is forgotten: what they did to items is kept without them, to make answers of others again."""

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from recsys.withdrawn_events import LOG
from service.archives import erased_users, event_archive, withdrawn_beside
from service.imports import current_dataset
from service.item_events import ARCHIVED, of_archive, of_import
from service.settings import Settings


def withdraw(settings: Settings, users: Collection[str], now_ms: int) -> None:
    """Note what some users have in import and archive as taken now. Doing it twice is safe.

    Raises:
        ArchiveError, DatasetError: a file is damaged, or the disk refuses.
    """
    archive, dataset = event_archive(settings), current_dataset(settings)
    logged = of_archive(archive.read(columns=ARCHIVED, where=[("user_id", "in", list(users))]))
    taken = [logged.rows(LOG)]
    if dataset is not None:
        theirs = [row for row, user in enumerate(dataset.user_id) if user in users]
        taken.append(of_import(dataset, np.array(theirs, np.int64)).rows(dataset.fingerprint))
    withdrawn_beside(archive).add(pa.concat_tables(taken), now_ms, before=erased_users(settings).read())


def let_go(settings: Settings, now_ms: int) -> None:
    """Remove what was kept for as long as it may be. Raises ArchiveError."""
    withdrawn_beside(event_archive(settings)).expire(now_ms - settings.withdrawn_kept_s * 1000)
