"""What verbs weigh."""

import numpy as np

from recsys.verbs import EVENT_TYPES, IS_POSITIVE, POSITIVE, WEIGHT, Verb, event_types, is_positive


def test_every_positive_of_the_service_weighs_as_much_as_a_like() -> None:
    assert {verb for verb in Verb if WEIGHT[verb] == 1} == POSITIVE
    assert {verb for verb in Verb if WEIGHT[verb] == 0} == {Verb.RATING, Verb.HIDE}


def test_a_verb_of_ones_own_is_stored_as_what_it_weighs() -> None:
    weights = [tenths / 10 for tenths in range(101)]
    types = event_types({f"verb_{place}": weight for place, weight in enumerate(weights)})
    stored = np.array([types[f"verb_{place}"] for place in range(101)], np.uint8)
    np.testing.assert_array_equal(WEIGHT[stored], np.array(weights, np.float32))
    assert is_positive(stored).tolist() == [False] + [True] * 100
    assert not set(stored.tolist()) & set(EVENT_TYPES.values())


def test_what_no_verb_is_weighs_nothing() -> None:
    known = {*Verb, *event_types({f"v{tenths}": tenths / 10 for tenths in range(101)}).values()}
    assert not any(IS_POSITIVE[byte] for byte in range(256) if byte not in known)
