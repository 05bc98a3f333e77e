"""The events behind a cell of a neighbour table give just the weight that is in the table."""

from itertools import pairwise

import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.training.evidence import Table, pair, positives_of
from recsys.training.fit import fit
from recsys.training.log import Log
from recsys.vocabulary import item_key
from tests import worlds


@pytest.mark.parametrize("table", ["transitions", "nearby", "similar"])
def test_weight_made_from_the_events_is_that_of_the_table(synthetic_dataset: Dataset, table: Table) -> None:
    log = Log.of(synthetic_dataset)
    bundle = fit(synthetic_dataset, log, worlds.SMALL, until_s=int(log.ts_s[-1]) + 1)
    neighbours, keys = getattr(bundle, table), bundle.vocabulary.key
    rng = np.random.default_rng(1)
    for _ in range(40):
        cause = int(rng.integers(len(keys)))
        place = int(rng.integers((neighbours.item[cause] >= 0).sum()))
        item = int(neighbours.item[cause, place])
        found = pair(log, table, int(keys[cause]), int(keys[item]))
        assert found.weight == pytest.approx(float(neighbours.weight[cause, place]), rel=1e-5)
        ones, others = found.rows.T
        assert set(log.key[ones]) == {keys[cause]}
        assert set(log.key[others]) == {keys[item]}
        assert (log.user[ones] == log.user[others]).all()
        assert log.positive[others].all()
        assert found.users == len(set(log.user[ones].tolist()))
        assert all(before <= after for before, after in pairwise(found.rows.max(axis=1).tolist()))


def test_items_that_nobody_met_together_have_no_evidence() -> None:
    log = Log.of(worlds.two_tastes())
    for table in ("transitions", "nearby", "similar"):
        found = pair(log, table, item_key("left-01"), item_key("right-01"))
        assert (found.weight, found.users, found.rows.shape) == (0, 0, (0, 2))
    assert len(positives_of(log, item_key(worlds.UNTOUCHED))) == 0


def test_positives_of_an_item_are_by_time_and_its_own() -> None:
    log = Log.of(worlds.two_tastes())
    rows = positives_of(log, item_key("left-01"))
    assert len(rows) > 5
    assert set(log.key[rows]) == {item_key("left-01")}
    assert (np.diff(log.ts_s[rows].astype(np.int64)) >= 0).all()
