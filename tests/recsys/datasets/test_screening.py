"""Floods and blind picks are found among the newest interactions, people are left in peace."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.datasets.content import content_hash
from recsys.datasets.dataset import Dataset, Events
from recsys.datasets.junk import Junk, without_junk
from recsys.datasets.screening import CHANCE, Screened, screen
from recsys.datasets.synthetic import synthetic
from recsys.erased_users import user_digest
from recsys.verbs import Verb

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return synthetic(7)


def since_of(dataset: Dataset) -> int:
    return int(np.quantile(dataset.events.ts_ms, 0.8))


def with_events(dataset: Dataset, users: list[str], item: np.ndarray, ts_ms: np.ndarray) -> Dataset:
    """The data set with clicks of these users, one each row."""
    names = [*dataset.user_id, *sorted({*users} - {*dataset.user_id})]
    number = {one: place for place, one in enumerate(names)}
    n = len(users)
    added = Events(
        user=np.array([number[one] for one in users], np.int32),
        item=item.astype(np.int32),
        ts_ms=ts_ms.astype(np.int64),
        verb=np.full(n, Verb.CLICK, np.uint8),
        value=np.full(n, np.nan, np.float32),
        position=np.zeros(n, np.int32),
    )
    columns = {
        name: np.concatenate([getattr(dataset.events, name), getattr(added, name)]) for name in Events.__annotations__
    }
    order = np.argsort(columns["ts_ms"], kind="stable")
    events = Events(**{name: column[order] for name, column in columns.items()})
    return replace(dataset, user_id=names, events=events, place=None)


def with_junk(dataset: Dataset, share: float, *, bots: bool, seed: int = 1) -> Dataset:
    """So much of the newest interactions is with items drawn from the catalogue, by bots of 40 each or by anybody."""
    rng = np.random.default_rng(seed)
    new = np.flatnonzero(dataset.events.ts_ms >= since_of(dataset))
    n = int(share / (1 - share) * len(new))
    people = [dataset.user_id[one] for one in rng.choice(dataset.events.user[new], n).tolist()]
    users = [f"bot-{one // 40}" for one in range(n)] if bots else people
    return with_events(
        dataset, users, rng.integers(0, len(dataset.item_id), n), rng.choice(dataset.events.ts_ms[new], n)
    )


def screened(dataset: Dataset, since_ms: int) -> Screened:
    return screen(dataset, since_ms=since_ms, seed=7)


def levels(found: Screened) -> dict[str, str]:
    return {one.name: one.level for one in found.findings}


def test_people_are_left_in_peace(shop: Dataset) -> None:
    found = screened(shop, since_of(shop))
    new = shop.events.user[shop.events.ts_ms >= since_of(shop)]
    assert len(found.blind) <= max(1, 5 * CHANCE * len(np.unique(new)))
    assert found.flooding == ()
    assert len(found.dataset.events) > 0.999 * len(shop.events)
    assert "failure" not in levels(found).values()


def test_bots_that_pick_blindly_are_left_out_and_their_history_before_stays(shop: Dataset) -> None:
    poisoned = with_junk(shop, 0.1, bots=True)
    found = screened(poisoned, since_of(shop))
    bots = {one for one in poisoned.user_id if one.startswith("bot-")}
    assert len(bots & {*found.blind}) > 0.9 * len(bots)
    assert levels(found)["blind users"] == "warning"
    assert levels(found)["blind interactions"] == "ok"
    assert not np.isin(found.dataset.events.user, [poisoned.user_id.index(one) for one in found.blind]).all()
    shown = next(one for one in found.findings if one.name == "blind users")
    assert all(one.user_id in found.blind for one in shown.rows)
    assert not any(one in shown.sentence for one in found.blind)


@pytest.mark.parametrize("seed", range(3))
def test_noise_under_the_names_of_people_is_measured_and_named(shop: Dataset, seed: int) -> None:
    found = screened(with_junk(shop, 0.1, bots=False, seed=seed), since_of(shop))
    mixed = next(one for one in found.findings if one.name == "blind interactions")
    assert mixed.level == "warning"
    assert 0.05 < mixed.numbers["low"] < 0.1  # people of the newest fifth are more like each other than those before
    assert "look drawn from the catalogue" in mixed.sentence


def turned(dataset: Dataset) -> Dataset:
    """Seven in ten items come to appeal to others: from the newest fifth on they take each other's places."""
    rng = np.random.default_rng(5)
    items = rng.permutation(len(dataset.item_id))[: round(0.7 * len(dataset.item_id))]
    takes = np.arange(len(dataset.item_id))
    takes[items] = np.roll(items, 1)
    item = np.where(dataset.events.ts_ms >= since_of(dataset), takes[dataset.events.item], dataset.events.item)
    return replace(dataset, events=replace(dataset.events, item=item.astype(np.int32)), place=None)


def test_items_that_appeal_to_others_than_before_are_not_taken_for_noise(shop: Dataset) -> None:
    found = screened(turned(shop), since_of(shop))
    mixed = next(one for one in found.findings if one.name == "blind interactions")
    assert mixed.numbers["high"] < 0.25
    assert len(found.blind) <= 3


def test_noise_is_found_also_where_items_appeal_to_others_than_before(shop: Dataset) -> None:
    assert levels(screened(with_junk(turned(shop), 0.5, bots=False), since_of(shop)))["blind interactions"] == "failure"
    poisoned = with_junk(turned(shop), 0.1, bots=True)
    bots = {one for one in poisoned.user_id if one.startswith("bot-")}
    assert len(bots & {*screened(poisoned, since_of(shop)).blind}) > 0.8 * len(bots)


@pytest.mark.parametrize("users", [1, 2, 3])
@pytest.mark.parametrize("seed", [1, 7])
def test_few_users_who_made_all_that_is_new_teach_nobody_and_are_judged_all_the_same(users: int, seed: int) -> None:
    shop = synthetic(7, users=100, items=100, sessions=6)
    since_ms, rng = int(shop.events.ts_ms[-1]) + 1, np.random.default_rng(seed)
    names = [f"new-{one}" for one in rng.integers(0, users, 600).tolist()]
    found = screen(
        with_events(shop, names, rng.integers(0, 100, 600), since_ms + rng.integers(0, DAY_MS, 600)),
        since_ms=since_ms,
        seed=seed,
    )
    assert {*found.blind} <= {*names}
    assert {*levels(found)} == {"floods", "blind users", "blind interactions"}


def test_log_of_one_user_is_not_judged() -> None:
    shop = synthetic(7, users=100, items=100, sessions=6)
    one = replace(shop, events=replace(shop.events, user=np.zeros_like(shop.events.user)))
    assert screened(one, since_of(one)).blind == ()


def test_data_that_are_mostly_noise_are_refused(shop: Dataset) -> None:
    found = screened(with_junk(shop, 0.5, bots=False), since_of(shop))
    assert levels(found)["blind interactions"] == "failure"


def test_a_user_with_a_million_clicks_is_left_out_whatever_was_clicked(shop: Dataset) -> None:
    since_ms, n = since_of(shop), 1_000_000
    rng = np.random.default_rng(3)
    flooded = with_events(shop, ["flood"] * n, rng.integers(0, 5, n), since_ms + rng.integers(0, DAY_MS // 2, n))
    found = screened(flooded, since_ms)
    assert found.flooding == ("flood",)
    assert len(found.dataset.events) == len(shop.events)
    assert levels(found)["floods"] == "warning"
    assert "1 users made more than 2,000" in found.findings[0].sentence


def test_what_one_look_left_out_stays_out_and_is_no_measure_for_the_next(shop: Dataset) -> None:
    """A flood of 5,000 in a day would let one of 14,000 pass as three times what anybody made before."""
    first_ms, since_ms, n = int(np.quantile(shop.events.ts_ms, 0.6)), since_of(shop), 14_000
    rng = np.random.default_rng(3)
    old = first_ms + rng.integers(0, DAY_MS // 2, 5_000)
    new = since_ms + rng.integers(0, DAY_MS // 2, n)
    users = ["old"] * 5_000 + ["new"] * n
    flooded = with_events(shop, users, rng.integers(0, 5, 5_000 + n), np.concatenate([old, new]))
    first = screened(before(flooded, since_ms), first_ms)
    assert first.flooding == ("old",)
    assert screened(flooded, since_ms).flooding == ()
    found = screen(flooded, since_ms=since_ms, seed=7, before=first.junk)
    assert found.flooding == ("new",)
    assert levels(found)["left out before"] == "ok"
    assert content_hash(found.dataset) == content_hash(without_junk(flooded, found.junk))
    assert len(found.dataset.events) == len(shop.events)


def test_what_was_left_out_and_is_looked_at_once_more_counts_beside_what_came_since(shop: Dataset) -> None:
    """A look begins event_late_s before what is known ends: 1,900 clicks after 3,000 of the same day are a flood."""
    since_ms, rng = int(shop.events.ts_ms[-1]) // DAY_MS * DAY_MS, np.random.default_rng(3)
    first = since_ms + rng.integers(0, DAY_MS // 4, 3_000)
    later = since_ms + rng.integers(DAY_MS // 2, DAY_MS, 1_900)
    flooded = with_events(shop, ["robot"] * 4_900, rng.integers(0, 5, 4_900), np.concatenate([first, later]))
    morning = screened(before(flooded, since_ms + DAY_MS // 4), since_ms)
    assert morning.flooding == ("robot",)
    found = screen(flooded, since_ms=since_ms, seed=7, before=morning.junk)
    assert found.flooding == ("robot",)
    assert len(found.dataset.events) == len(shop.events)


def test_what_was_left_out_stays_out_where_nothing_can_be_judged(shop: Dataset) -> None:
    junk = [Junk(0, 2**50, flooding=(user_digest(shop.user_id[0]),))]
    found = screen(shop, since_ms=2**50, seed=7, before=junk)
    assert len(found.dataset.events) == (shop.events.user != 0).sum()
    assert found.junk == tuple(junk)


def before(dataset: Dataset, ts_ms: int) -> Dataset:
    old = dataset.events.ts_ms < ts_ms
    return replace(dataset, events=Events(*(getattr(dataset.events, name)[old] for name in Events.__annotations__)))


@pytest.mark.parametrize("since_ms", [0, 2**50])
def test_where_there_is_nothing_to_compare_with_nothing_is_judged(shop: Dataset, since_ms: int) -> None:
    found = screened(shop, since_ms)
    assert found.dataset is shop
    assert [one.level for one in found.findings] == ["ok"]
    assert "nothing before" in found.findings[0].sentence


def test_data_whose_times_mean_nothing_are_not_judged(shop: Dataset) -> None:
    assert screened(replace(shop, timing="order"), since_of(shop)).blind == ()


def test_where_more_is_new_than_known_the_share_of_blind_picks_is_not_judged(shop: Dataset) -> None:
    found = screened(shop, int(np.quantile(shop.events.ts_ms, 0.4)))
    assert next(one for one in found.findings if one.name == "blind interactions").sentence.startswith("not looked for")


def test_few_earlier_interactions_say_nothing_of_people(shop: Dataset) -> None:
    found = screened(shop, int(shop.events.ts_ms[100]))
    assert [one.name for one in found.findings] == ["floods", "blind users"]
