"""Who is asked for."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from loadtest.crowd import Crowd, known_users, newcomers
from recsys.errors import DatasetError

USERS = [f"user-{number}" for number in range(1000)]


# --- the crowd ---


def test_few_users_ask_most_and_some_are_strangers() -> None:
    asked = Counter(Crowd(USERS, seed=1, unknown_share=0.1).draw(20_000))
    known = Counter({user: times for user, times in asked.items() if user in set(USERS)})
    assert known.total() == pytest.approx(18_000, rel=0.03)
    assert sum(times for _, times in known.most_common(100)) > 0.5 * known.total()
    assert len(known) > 800
    assert known.most_common(1)[0][0] != USERS[0]  # the ranks are drawn, not the order of the file


def test_crowd_is_its_seed() -> None:
    first, again, other = (Crowd(USERS, seed=seed).draw(100) for seed in (1, 1, 2))
    assert first == again != other


def test_streams_of_a_seed_agree_on_who_is_popular_and_draw_each_its_own() -> None:
    crowds = [Crowd(USERS, seed=1, unknown_share=0.0, stream=stream) for stream in (0, 1, 2)]
    drawn = [list(islice(crowd, 5000)) for crowd in crowds]
    assert len({tuple(ids) for ids in drawn}) == 3
    assert len({Counter(ids).most_common(1)[0][0] for ids in drawn}) == 1


def test_newcomers_come_once_in_all_runs() -> None:
    first, second = (list(islice(newcomers(), 1000)) for _ in range(2))
    assert len({*first, *second}) == 2000


def test_user_ids_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.write_text("a\n\n b\u2028c\n", "utf-8")
    assert known_users(path) == ["a", " b\u2028c"]


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff"])
def test_file_without_user_ids_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ids"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"ids.*one"):
        known_users(path)
