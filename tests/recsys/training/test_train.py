"""Training repeats itself, never looks ahead, and says in a sentence what data it lacks."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recsys.bundle import Bundle, Recipe
from recsys.bundle_files import load
from recsys.datasets.content import content_hash
from recsys.datasets.dataset import Dataset, Events, Timing
from recsys.errors import TrainingError
from recsys.features.item_counts import RATE_PRIOR
from recsys.features.matrix import NAMES, SCHEMA_HASH
from recsys.manifest import read_manifest
from recsys.ranking.fit import fit_ranker
from recsys.recommend import features, recommend, retrieve
from recsys.retrieval.fold_in import fold_in
from recsys.training.examples import Examples, examples
from recsys.training.fit import fit
from recsys.training.log import Log
from recsys.training.splits import HELD_OUT, Split, after, temporal_static
from recsys.training.train import Trained, train, write
from recsys.types import World
from recsys.verbs import POSITIVE, WEIGHT, Verb, event_types
from recsys.vocabulary import item_keys
from tests import worlds
from tests.conftest import train_small, world_of
from tests.worlds import START_S, batch_of, dataset_of, random_asks

REPORTS = {"report.json", "report.md", "reference.json"}  # measured on what comes after the split


def window(log: Log, *, per_user: int) -> Split:
    """Questions from where 60 % of the events have happened."""
    return after(log, log.moment(0.6), per_user=per_user, seed=1)


def hashes(trained: Trained, dataset: Dataset, directory: Path) -> dict[str, str]:
    write(trained, dataset, directory, code_commit="abc", parent=None)
    return {name: entry.sha256 for name, entry in read_manifest(directory).files.items()}


def fit_until(dataset: Dataset, until_s: int) -> World:
    bundle = fit(dataset, Log.of(dataset).until(until_s), worlds.SMALL, until_s=until_s)
    return World(bundle, bundle.item_stats)


def assert_same_scores(one: World, other: World) -> None:
    batch = batch_of(one, random_asks(one, np.random.default_rng(1), 20))
    first, second = recommend(one, batch), recommend(other, batch)
    assert first.item.tobytes() == second.item.tobytes()
    assert first.score.tobytes() == second.score.tobytes()


def with_other_future(dataset: Dataset, from_s: int, seed: int) -> Dataset:
    """The same number of events at the same times, but from a moment on by others, of others, in other ways."""
    events, rng = dataset.events, np.random.default_rng(seed)
    later = events.ts_ms >= from_s * 1000
    changed = {
        "user": rng.integers(0, len(dataset.user_id), size=len(events)).astype(np.int32),
        "item": rng.integers(0, len(dataset.item_id), size=len(events)).astype(np.int32),
        "verb": rng.integers(1, len(Verb) + 1, size=len(events)).astype(np.uint8),
    }
    columns = {name: np.where(later, value, getattr(events, name)) for name, value in changed.items()}
    return replace(dataset, events=replace(events, **columns))


def test_same_data_and_seed_give_the_same_files_and_scores(
    trained: Trained, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    again = train_small(synthetic_dataset)
    first = hashes(trained, synthetic_dataset, tmp_path / "first")
    assert hashes(again, synthetic_dataset, tmp_path / "again") == first
    assert_same_scores(world_of(trained), world_of(again))
    assert again.learnt.found == trained.learnt.found


def test_bundle_does_not_change_when_the_events_after_the_split_do(
    trained: Trained, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    other = with_other_future(synthetic_dataset, trained.window[1], seed=5)
    retrained = train_small(other)
    assert retrained.window == trained.window
    before, after = (
        hashes(one, synthetic_dataset, tmp_path / name) for one, name in ((trained, "before"), (retrained, "after"))
    )
    assert {name for name in before if before[name] != after[name]} == REPORTS
    assert_same_scores(world_of(trained), world_of(retrained))


def test_models_know_nothing_of_the_moment_they_end_at_or_later(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    until_s = log.moment(0.6)
    one = fit_until(synthetic_dataset, until_s).bundle
    other = fit_until(with_other_future(synthetic_dataset, until_s, seed=6), until_s).bundle
    for name in ("factors", "gram"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for table in ("transitions", "similar"):
        for part in ("item", "weight"):
            np.testing.assert_array_equal(getattr(getattr(one, table), part), getattr(getattr(other, table), part))
    for part in ("popularity", "trend", "positive_rate", "order"):
        np.testing.assert_array_equal(getattr(one.item_stats, part), getattr(other.item_stats, part), err_msg=part)


def test_question_whose_answer_is_known_is_rejected(synthetic_dataset: Dataset) -> None:
    """A planted leak from the future: a state that reaches one event further has seen the answer, and no example
    can find it."""
    log = Log.of(synthetic_dataset)
    split = window(log, per_user=5)
    world = fit_until(synthetic_dataset, split.until_s)
    asked = split.questions
    leaking = replace(asked, place=asked.place + 1)
    found = [
        examples(world, questions, questions.known(log), negatives=60, seed=1, progress=lambda _: None).found
        for questions in (asked, leaking)
    ]
    assert found[0] > 0.8 * len(asked)
    assert found[1] == 0


def test_examples_are_the_features_that_serving_computes(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    split = window(log, per_user=2)
    world, asked = fit_until(synthetic_dataset, split.until_s), split.questions
    known = asked.known(log)
    told: list[int] = []
    made = examples(world, asked, known, negatives=10**9, seed=1, progress=told.append)
    assert sum(told) == made.asked == len(asked)
    assert len(np.unique(made.group)) == made.found
    assert (np.bincount(made.group, weights=made.label)[np.unique(made.group)] == 1).all()
    for question in np.unique(made.group)[[0, 70, -1]]:
        batch = asked.batch(known, np.array([question]), count=1, seed=1)
        retrieved = retrieve(world, batch)
        mine = made.group == question
        assert made.features[mine].tobytes() == features(world, batch, retrieved).tobytes(order="C")
        answer = world.bundle.vocabulary.key[retrieved.candidates.item[made.label[mine] == 1]]
        assert answer.tolist() == asked.wanted[question].tolist()


def test_negatives_are_a_sample_and_every_answer_is_kept(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    split = window(log, per_user=3)
    world, asked = fit_until(synthetic_dataset, split.until_s), split.questions
    made = examples(world, asked, asked.known(log), negatives=20, seed=1, progress=lambda _: None)
    assert made.label.sum() == made.found
    assert (made.label == 0).sum() / made.found == pytest.approx(20, rel=0.1)


def test_answer_and_the_others_of_its_question_weigh_what_the_answer_is_worth(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    log = replace(log, worth=np.where(log.verb == Verb.PURCHASE, 3, np.where(log.verb == Verb.VIEW, 0, 1)).astype("f4"))
    split = window(log, per_user=3)
    world, asked = fit_until(synthetic_dataset, split.until_s), split.questions
    known = asked.known(log)
    made = examples(world, asked, known, negatives=20, seed=1, progress=lambda _: None)
    assert made.weight.tolist() == log.worth[asked.place[made.group]].tolist()
    assert set(made.weight.tolist()) == {1, 3}
    alike = examples(world, replace(asked, worth=None), known, negatives=20, seed=1, progress=lambda _: None)
    assert alike.found == made.found  # an answer that is worth nothing was found all the same
    assert set(alike.weight.tolist()) == {1}
    kept = np.isin(alike.group, made.group)
    assert made.features.tobytes() == alike.features[kept].tobytes()


def test_answers_of_one_question_weigh_their_own_and_the_others_the_mean(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    log = replace(log, worth=np.where(log.verb == Verb.PURCHASE, 4, 1).astype("f4"))
    split = temporal_static(log, seed=1)
    world, asked = fit_until(synthetic_dataset, split.until_s), split.questions
    made = examples(world, asked, split.known(), negatives=20, seed=1, progress=lambda _: None)
    mixed = 0
    for question in np.unique(made.group):
        mine = made.group == question
        answers = made.weight[mine & (made.label == 1)]
        mixed += len(set(answers.tolist())) == 2
        np.testing.assert_allclose(made.weight[mine & (made.label == 0)], answers.mean(), rtol=1e-6)
    assert mixed > 10


def test_examples_of_several_windows_keep_their_groups_apart(synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    split = window(log, per_user=1)
    world, asked = fit_until(synthetic_dataset, split.until_s), split.questions
    made = examples(world, asked, asked.known(log), negatives=5, seed=1, progress=lambda _: None)
    both = Examples.concatenate([made, made])
    assert len(np.unique(both.group)) == 2 * len(np.unique(made.group))
    assert len(both.weight) == len(both.label)
    assert (both.asked, both.found, len(both.label)) == (2 * made.asked, 2 * made.found, 2 * len(made.label))


def test_window_split_and_shares_are_those_of_the_log(trained: Trained, synthetic_dataset: Dataset) -> None:
    log = Log.of(synthetic_dataset)
    assert trained.protocol == "temporal-next"
    assert trained.window == (int(log.ts_s[0]), log.moment(1 - HELD_OUT), int(log.ts_s[-1]))
    assert np.mean(log.ts_s >= trained.window[1]) == pytest.approx(HELD_OUT, abs=0.001)
    assert set(trained.learnt.seconds) == {"models", "sources", "examples", "ranker", "evaluation", "reference"}
    assert 0.5 < trained.learnt.found <= 1


def test_a_bundle_that_holds_out_less_has_learnt_from_what_is_newer_and_its_questions_are_after_that(
    trained: Trained, synthetic_dataset: Dataset
) -> None:
    log = Log.of(synthetic_dataset)
    newer = train(synthetic_dataset, msgspec.structs.replace(worlds.SMALL, held_out=0.05))
    assert newer.window[1] == log.moment(0.95) > trained.window[1]
    assert newer.learnt_from["events"] == len(log.until(newer.window[1])) > trained.learnt_from["events"]
    assert 0 < newer.report.questions < trained.report.questions
    assert newer.bundle.recipe.held_out == 0.05


@pytest.mark.parametrize(("timing", "protocol"), [("order", "leave-one-out"), ("none", "held-out-items")])
def test_data_without_times_are_divided_by_what_they_have(timing: Timing, protocol: str) -> None:
    trained = train_small(replace(worlds.two_tastes(), timing=timing))
    assert trained.protocol == protocol
    assert trained.report.questions == 60


def test_champion_is_asked_the_same(trained: Trained, synthetic_dataset: Dataset) -> None:
    again = train(synthetic_dataset, worlds.SMALL, champion=world_of(trained))
    two_stage, champion = again.report.rows[0], again.report.rows[-1]
    assert champion.name == "champion"
    assert champion.metrics == two_stage.metrics
    assert again.report.differences["NDCG@10 over champion"].mean == 0


def test_manifest_says_where_the_bundle_comes_from(
    trained: Trained, synthetic_dataset: Dataset, tmp_path: Path
) -> None:
    write(trained, synthetic_dataset, tmp_path, code_commit="abc", parent="20250101-0123456789ab")
    fields = load(tmp_path)[1].fields
    assert (fields["parent"], fields["code_commit"]) == ("20250101-0123456789ab", "abc")
    assert fields["dataset"]["fingerprint"] == synthetic_dataset.fingerprint
    assert fields["dataset"]["synthetic"] is True
    assert fields["dataset"]["content_hash"] == content_hash(synthetic_dataset)
    assert (fields["dataset"]["users"], fields["dataset"]["items"]) == (120, 400)
    assert fields["dataset"]["events"] == len(synthetic_dataset.events) > fields["learnt_from"]["events"]
    past = Log.of(synthetic_dataset).until(trained.window[1])
    assert fields["learnt_from"] == {
        "events": len(past),
        "positives": int(past.positive.sum()),
        "users": len(set(past.user.tolist())),
        "liked_items": len(set(past.item[past.positive].tolist())),
    }
    assert fields["feature_schema_hash"] == SCHEMA_HASH
    assert fields["vocabulary_hash"] == trained.bundle.vocabulary.content_hash()
    assert fields["recipe"]["factors"] == worlds.SMALL.factors
    assert (fields["recipe"]["objective"], fields["position_bias"]) == ({}, None)
    assert fields["metrics"] == trained.report.to_json()
    assert set(fields["feature_importance"]) == set(NAMES)
    assert sum(fields["feature_importance"].values()) == pytest.approx(100)
    window = fields["data_window"]
    assert window["first"] < window["split"] < window["last"]
    assert window["split"].endswith("+00:00")


def test_item_stats_are_counted_as_of_their_moment() -> None:
    day_s = 86_400
    events = [
        ("u", "a", Verb.LIKE, START_S),
        ("u", "b", Verb.LIKE, START_S + 30 * day_s),
        ("v", "b", Verb.HIDE, START_S + 30 * day_s),
        ("v", "c", Verb.LIKE, START_S + 60 * day_s),
    ]
    bundle = fit_until(dataset_of(events, {item: [] for item in "abcd"}), START_S + 60 * day_s).bundle
    a, b, c, d = bundle.vocabulary.rows_of(list("abcd"))
    stats = bundle.item_stats
    assert stats.popularity[[a, b, c, d]].tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(stats.trend[[a, b, c, d]], [0.25, 0.5, 0, 0], rtol=1e-6)
    mean = 2 / 3
    expected = [(1 + RATE_PRIOR * mean) / (1 + RATE_PRIOR), (1 + RATE_PRIOR * mean) / (2 + RATE_PRIOR), mean, mean]
    np.testing.assert_allclose(stats.positive_rate[[a, b, c, d]], expected, rtol=1e-6)
    assert stats.order.tolist() == [b, a, *sorted([c, d])]
    assert stats.available.all()
    assert stats.version == f"bundle-{START_S + 60 * day_s}"


def test_no_interactions_are_refused_in_a_sentence() -> None:
    with pytest.raises(TrainingError, match="there are no interactions to train on"):
        train_small(dataset_of([], {"a": []}))


def test_too_few_positives_for_a_part_are_refused_with_their_numbers() -> None:
    events = [(f"u{i}", "a", Verb.LIKE, START_S) for i in range(20)]  # all in one second: nothing lies before
    with pytest.raises(TrainingError, match="too few positives to teach the ranker: no question is left in its part"):
        train_small(dataset_of(events, {"a": []}))


def test_only_negative_ratings_are_refused_in_a_sentence() -> None:
    dataset = worlds.two_tastes()
    low = replace(dataset.events, verb=np.full(len(dataset.events), Verb.RATING, np.uint8))
    found = r"0 questions of 0 users \(2 are needed\); import more interactions"
    with pytest.raises(TrainingError, match=f"too few positives to evaluate: {found}"):
        train_small(replace(dataset, events=low))


def test_models_without_a_positive_before_their_end_are_refused() -> None:
    dataset = worlds.two_tastes()
    with pytest.raises(TrainingError, match="no positive interaction lies before the split; import more data"):
        fit_until(dataset, START_S)


def test_positives_that_begin_only_in_the_ranker_window_are_refused_in_a_sentence() -> None:
    dataset = worlds.two_tastes()
    verb = dataset.events.verb.copy()
    verb[: int(0.64 * len(verb)) + 1] = Verb.RATING
    assert set(verb) & {*POSITIVE}
    with pytest.raises(TrainingError, match="no positive interaction lies before the split"):
        train_small(replace(dataset, events=replace(dataset.events, verb=verb)))


def test_holdout_of_one_user_is_refused_in_a_sentence() -> None:
    """One user gives no interval; that is a property of the data, not a fault of the program."""
    items = [f"i{n:02d}" for n in range(40)]
    events = [("only", item, Verb.LIKE, START_S + 60 * n) for n, item in enumerate(items)]
    with pytest.raises(TrainingError, match=r"too few positives to evaluate: 8 questions of 1 users \(2 are needed"):
        train_small(dataset_of(events, {item: [] for item in items}))


@pytest.mark.parametrize("label", [[], [0, 0]], ids=["no row", "no positive"])
def test_ranker_without_a_found_answer_is_refused_in_a_sentence(label: list[int]) -> None:
    rows = len(label)
    with pytest.raises(TrainingError, match="no training request has its next positive among its candidates"):
        fit_ranker(
            np.zeros((rows, 2), np.float32),
            np.array(label, np.float32),
            np.zeros(rows, np.int64),
            names=("a", "b"),
            recipe=Recipe(trees=2, seed=1),
        )


def test_training_tells_its_progress() -> None:
    told: dict[str, list[int]] = {}
    totals: dict[str, int] = {}

    class Recorded:
        def __init__(self, name: str, total: int) -> None:
            self.name = name
            totals[name] = total

        def __enter__(self) -> Callable[[int], None]:
            return told.setdefault(self.name, []).append

        def __exit__(self, *_: object) -> None:
            pass

    train(worlds.two_tastes(), worlds.SMALL, step=Recorded)
    assert {name: sum(done) for name, done in told.items()} == totals
    assert len(totals) == 5


def test_training_prints_no_warning_whatever_the_number_of_blas_threads() -> None:
    """In a process of its own: `implicit` looks at the BLAS threads once, when its first model is made."""
    code = """
from tests import worlds
from recsys.training.fit import fit
from recsys.training.log import Log
dataset = worlds.chain()
fit(dataset, Log.of(dataset), worlds.SMALL, until_s=worlds.START_S + 10 * worlds.DAY_S)
"""
    environment = {"OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr.splitlines()[-1]


def test_items_weigh_in_training_as_much_as_the_most_that_each_user_did_to_them() -> None:
    """What weighs more is fitted better; a light verb beside a heavy one of the same user and item changes nothing."""
    data, end_s = worlds.two_tastes(), START_S + 365 * worlds.DAY_S
    own = event_types({"save": 10, "glance": 0.1})
    verb = np.where(data.events.item % 2 == 0, own["save"], own["glance"]).astype(np.uint8)

    def bundle(verbs: np.ndarray, times: int = 1) -> Bundle:
        columns = {name: np.repeat(getattr(data.events, name), times) for name in Events.__annotations__}
        return fit_until(replace(data, events=Events(**columns | {"verb": verbs})), end_s).bundle

    def errors(found: Bundle, verbs: np.ndarray) -> np.ndarray:
        """How far the model is from 1 for each thing that a user did."""
        row = found.vocabulary.rows(item_keys(data.item_id))[data.events.item]
        user, item, weight = data.events.user, np.full((60, 12), -1, np.int32), np.zeros((60, 12), np.float32)
        place = np.array([int((user[:event] == user[event]).sum()) for event in range(len(user))])
        item[user, place], weight[user, place] = row, WEIGHT[verbs]
        vector = fold_in(found.factors, found.gram, item, weight, alpha=found.recipe.als_alpha)
        return np.abs(1 - (vector[user] * found.factors[row]).sum(axis=1))

    heavy, saved, likes = bundle(verb), verb == own["save"], np.full_like(verb, Verb.LIKE)
    of_heavy, of_plain = errors(heavy, verb), errors(bundle(likes), likes)
    assert of_heavy[~saved].mean() > 3 * of_heavy[saved].mean()
    assert of_plain[~saved].mean() < 1.5 * of_plain[saved].mean()
    twice = np.stack([verb, np.full_like(verb, own["glance"])], axis=1).ravel()
    np.testing.assert_array_equal(bundle(twice, times=2).factors, heavy.factors)
