"""A trial is judged on a part of the past; what is held out for the report is out of its reach."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from recsys.datasets.dataset import Dataset
from recsys.datasets.impressions import Impressions
from recsys.errors import TrainingError
from recsys.training.log import Log
from recsys.training.search import Validation, trial, winner
from recsys.training.search_space import SPACE
from recsys.training.splits import PROTOCOLS, temporal_next
from tests import worlds
from tests.recsys.training.test_train import with_other_future

SEED = worlds.SMALL.seed


def validation_of(dataset: Dataset, protocol: str | None = None) -> Validation:
    return Validation.of(dataset, candidates=100, seed=SEED, protocol=protocol)


def test_search_looks_at_no_more_of_the_past_than_training_with_the_same_share_held_out(
    synthetic_dataset: Dataset,
) -> None:
    log = Log.of(synthetic_dataset)
    for share in (0.05, 0.2):
        searched = Validation.of(synthetic_dataset, candidates=100, seed=SEED, held_out=share)
        past = temporal_next(temporal_next(log, seed=SEED, held_out=share).past, seed=SEED).past
        assert len(searched.past) == len(past)


@pytest.fixture(scope="module")
def validation(synthetic_dataset: Dataset) -> Validation:
    return validation_of(synthetic_dataset)


def test_held_out_part_is_never_looked_at(validation: Validation, synthetic_dataset: Dataset) -> None:
    """With another future behind the split nothing that a trial gets is different, and so is no answer."""
    split_s = temporal_next(Log.of(synthetic_dataset), seed=SEED).until_s
    other = validation_of(with_other_future(synthetic_dataset, split_s, seed=5))
    assert other.key(worlds.SMALL, SPACE) == validation.key(worlds.SMALL, SPACE)
    assert trial(other, worlds.SMALL).tobytes() == trial(validation, worlds.SMALL).tobytes()


def test_trial_gets_no_event_from_the_split_on(validation: Validation, synthetic_dataset: Dataset) -> None:
    split_s = temporal_next(Log.of(synthetic_dataset), seed=SEED).until_s
    assert len(validation.dataset.events) == 0
    assert validation.past.ts_s.max() < validation.questions.now_s.min()
    assert validation.questions.now_s.max() < split_s


def test_trial_gets_no_impression_from_the_split_on(synthetic_dataset: Dataset) -> None:
    events = synthetic_dataset.events
    shown = Impressions(events.user, events.item, events.ts_ms, np.ones(len(events), np.int32))
    split_s = temporal_next(Log.of(synthetic_dataset), seed=SEED).until_s
    kept = validation_of(replace(synthetic_dataset, impressions=shown)).dataset.impressions
    assert kept is not None
    assert 0 < len(kept) < len(shown)
    assert kept.ts_ms.max() < split_s * 1000


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_no_protocol_asks_in_validation_what_it_holds_out(protocol: str, synthetic_dataset: Dataset) -> None:
    outer = PROTOCOLS[protocol](Log.of(synthetic_dataset), seed=SEED)
    inner = validation_of(synthetic_dataset, protocol)

    def pairs(user: np.ndarray, key: np.ndarray) -> set[tuple[int, int]]:
        return set(zip(user.tolist(), key.tolist(), strict=True))

    held_out = pairs(outer.questions.user[outer.questions.wanted.rows()], outer.questions.wanted.values)
    asked = pairs(inner.questions.user[inner.questions.wanted.rows()], inner.questions.wanted.values)
    assert asked
    assert not asked & held_out
    assert not pairs(inner.past.user, inner.past.key) & asked


def test_another_past_recipe_or_number_of_candidates_is_another_search(validation: Validation) -> None:
    key = validation.key(worlds.SMALL, SPACE)
    verb = validation.past.verb.copy()
    verb[0] += 1
    others = [
        replace(validation, past=replace(validation.past, verb=verb)).key(worlds.SMALL, SPACE),
        replace(validation, candidates=50).key(worlds.SMALL, SPACE),
        validation.key(msgspec.structs.replace(worlds.SMALL, als_iterations=6), SPACE),
        validation.key(worlds.SMALL, SPACE[1:]),
    ]
    assert len({key, *others}) == 5
    assert all(one.startswith(f"{validation.dataset.fingerprint[:12]}-temporal-next-") for one in (key, *others))


def test_trial_gives_the_same_bits_whatever_the_number_of_threads(validation: Validation) -> None:
    one, three = (trial(validation, worlds.SMALL, threads=threads) for threads in (1, 3))
    assert one.tobytes() == three.tobytes()
    assert one.shape == (len(validation.questions),)


def test_worse_recipe_is_told_from_the_default(validation: Validation) -> None:
    good = trial(validation, worlds.SMALL)
    bad = trial(validation, msgspec.structs.replace(worlds.SMALL, trees=1, depth=1))
    found = winner({"trees": 200}, good, bad, validation.questions.user, seed=1)
    assert found.better
    assert found.value - found.default == pytest.approx(found.difference.mean)
    assert not winner({"trees": 1}, bad, good, validation.questions.user, seed=1).better
    assert not winner({"trees": 1}, good, good, validation.questions.user, seed=1).better


def test_past_that_cannot_be_divided_is_refused_in_a_sentence() -> None:
    events = [(f"u{i}", "a", worlds.Verb.LIKE, worlds.START_S) for i in range(20)]
    with pytest.raises(TrainingError, match=r"too few positives to search with: .* or train without --budget"):
        validation_of(worlds.dataset_of(events, {"a": []}))
