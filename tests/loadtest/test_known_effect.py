"""What an experiment finds whose truth is known: the table and its figures."""

from loadtest.known_effect import EFFECTS, LOOKS, markdown, measure


def test_a_known_effect_is_found_and_none_where_there_is_none() -> None:
    found = measure(runs=3, seed=7)
    none, five, ten = (found["effects"][name] for name in EFFECTS)
    assert none["sure"] == 0
    assert five["of_better"] == five["sure"] == 3
    assert ten["users"]["50"] < five["users"]["50"] < LOOKS[-1]
    assert ten["one_look_users"] < five["one_look_users"] < five["users"]["50"] * 2
    table = markdown(found)
    assert "| clicks +5 % | 3 of 3, 3 of better |" in table
