"""Data sets without some users: what they did is gone, what others did is as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.datasets.dataset import Dataset, load, save
from recsys.datasets.impressions import Impressions
from recsys.datasets.leave_out import rewrite_without, without_users
from recsys.errors import DatasetError
from tests import worlds


def done(dataset: Dataset) -> list[tuple[str, str, int, int]]:
    """Who did what when, in order."""
    events = dataset.events
    return [
        (dataset.user_id[user], dataset.item_id[item], ts_ms, verb)
        for user, item, ts_ms, verb in zip(
            events.user.tolist(), events.item.tolist(), events.ts_ms.tolist(), events.verb.tolist(), strict=True
        )
    ]


TASTES = worlds.two_tastes()
DONE = done(TASTES)


@given(gone=st.sets(st.sampled_from(TASTES.user_id)))
def test_what_the_others_did_stays_in_order(gone: set[str]) -> None:
    kept = without_users(TASTES, gone)
    assert done(kept) == [one for one in DONE if one[0] not in gone]
    assert kept.user_id == [user for user in TASTES.user_id if user not in gone]
    assert kept.events.user.dtype == TASTES.events.user.dtype
    assert kept is TASTES or [DONE[place - 1] for place in kept.place] == done(kept)
    assert (kept.fingerprint, kept.item_id) == (TASTES.fingerprint, TASTES.item_id)


def test_a_data_set_that_has_none_of_them_is_the_same_object() -> None:
    dataset = worlds.two_tastes()
    assert without_users(dataset, {"nobody"}) is dataset


def test_what_they_were_shown_is_gone_as_well() -> None:
    users = np.arange(60, dtype=np.int32)
    shown = Impressions(users, users % 40, users.astype(np.int64), np.ones(60, np.int32))
    kept = without_users(replace(TASTES, impressions=shown), {TASTES.user_id[0], TASTES.user_id[7]})
    assert kept.impressions is not None
    stays = [one for one in range(60) if one not in (0, 7)]
    assert [kept.user_id[user] for user in kept.impressions.user] == [TASTES.user_id[one] for one in stays]
    assert kept.impressions.ts_ms.tolist() == stays
    assert kept.impressions.user.dtype == np.int32


def test_every_data_set_of_a_folder_is_written_again_and_one_without_them_is_not(tmp_path: Path) -> None:
    gone = worlds.two_tastes().user_id[:1]
    save(worlds.two_tastes(), tmp_path / "tastes")
    save(worlds.chain(), tmp_path / "chain")
    (tmp_path / "current.json").write_text("{}")
    before = (tmp_path / "chain" / "users.parquet").stat().st_ino
    rewrite_without(tmp_path, lambda dataset: gone if len(dataset.user_id) == len(worlds.two_tastes().user_id) else [])
    assert load(tmp_path / "tastes").user_id == worlds.two_tastes().user_id[1:]
    assert (tmp_path / "chain" / "users.parquet").stat().st_ino == before
    rewrite_without(tmp_path / "not there", lambda _: gone)


def test_what_a_death_has_left_is_put_back_or_removed(tmp_path: Path) -> None:
    dataset = worlds.two_tastes()
    save(dataset, tmp_path / "tastes")
    (tmp_path / "tastes").rename(tmp_path / ".tastes.replaced")  # died between the two renames
    rewrite_without(tmp_path, lambda _: dataset.user_id[:1])
    assert load(tmp_path / "tastes").user_id == dataset.user_id[1:]
    save(dataset, tmp_path / ".tastes.replaced")  # died after them
    rewrite_without(tmp_path, lambda _: dataset.user_id[:1])
    assert [one.name for one in tmp_path.iterdir()] == ["tastes"]


def test_a_damaged_data_set_is_named(tmp_path: Path) -> None:
    save(worlds.chain(), tmp_path / "chain")
    (tmp_path / "chain" / "events.parquet").write_bytes(b"rubbish")
    with pytest.raises(DatasetError, match=r"events\.parquet"):
        rewrite_without(tmp_path, lambda _: [])


def test_places_stay_those_of_the_import_when_others_go_later(tmp_path: Path) -> None:
    dataset = worlds.two_tastes()
    first, second, *_ = dataset.user_id
    save(without_users(dataset, {first}), tmp_path / "tastes")
    kept = without_users(load(tmp_path / "tastes"), {second})
    assert kept.place is not None
    assert [done(dataset)[place - 1] for place in kept.place] == done(kept)
    assert kept.place.tolist() == without_users(dataset, {first, second}).place.tolist()
