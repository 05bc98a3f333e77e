"""Who gets what: sticky, in the shares that were asked for, in one experiment of a layer at most."""

from collections import Counter

import msgspec
import pytest

from recsys.erased_users import user_digest
from service.errors import TrafficError
from service.traffic import changes
from service.traffic.assignment import Assignment
from service.traffic.document import Arm, Rollout, Traffic, decode, encode
from tests.service.traffic.tables import A, B, C, experiment, table

USERS = [f"user-{number}" for number in range(20_000)]


def shares_of(assignment: Assignment, placement: str = "home") -> Counter[tuple[tuple[str, str], ...]]:
    return Counter(tuple(sorted(assignment.of(user, placement).variants.items())) for user in USERS)


def test_where_nothing_is_tried_everybody_gets_the_champion() -> None:
    one = Assignment(table(B)).of("ann", "home")
    assert (one.bundle, one.arm, one.variants, one.propensity) == (B, Arm(), {}, 1.0)


def test_shares_are_as_asked_for_within_chance() -> None:
    counted = shares_of(Assignment(table(experiments=(experiment(shares=(7000, 2500, 500), share=8000),))))
    found = {of[0][1] if of else "none": n / len(USERS) for of, n in counted.items()}
    wanted = {"none": 0.2, "control": 0.56, "b": 0.2, "c": 0.04}
    assert found.keys() == wanted.keys()
    for name, share in wanted.items():
        assert abs(found[name] - share) < 4 * (share * (1 - share) / len(USERS)) ** 0.5


def test_experiments_of_one_layer_share_no_user() -> None:
    both = Assignment(table(experiments=(experiment(share=5000), experiment("other", share=5000))))
    assert all(len(of) == 1 for of in shares_of(both))


def test_who_is_in_an_experiment_stays_in_it_whatever_ends_or_begins_beside_it() -> None:
    one, other = experiment("one", share=5000), experiment("other", share=4000)
    both = table(experiments=(one, other))

    def users(traffic: Traffic, name: str) -> set[str]:
        of = Assignment(traffic)
        return {user for user in USERS if name in of.of(user, "home").variants}

    began = users(both, "other")
    assert 0.3 * len(USERS) < len(began) < 0.5 * len(USERS)
    alone = changes.stopped(both, "one", "2026-06-02T00:00:00+00:00")
    assert users(alone, "other") == began
    assert alone.experiment("one").slots == ()
    third = changes.with_experiment(alone, experiment("third", share=6000))
    assert users(third, "other") == began
    assert not users(third, "third") & began
    assert users(third, "third") == set(USERS) - began
    assert decode(encode(third)) == third


def test_experiments_of_different_layers_meet_and_their_changes_add_up() -> None:
    both = (experiment(), experiment("wider", layer="width", arms=[Arm(), Arm(candidates=400, bundle=B)]))
    assignment = Assignment(table(experiments=both))
    met = [assignment.of(user, "home") for user in USERS[:200]]
    assert {tuple(one.variants.values()) for one in met} == {(a, b) for a in ("control", "b") for b in ("control", "b")}
    one = next(one for one in met if one.variants == {"closer": "b", "wider": "b"})
    assert (one.bundle, one.arm, one.propensity) == (B, Arm(bundle=B, candidates=400, diversity=0.1), 0.25)
    assert {(one.bundle, one.arm.candidates) for one in met} <= assignment.arms()


def test_an_experiment_is_on_its_placements_only() -> None:
    assignment = Assignment(table(experiments=(experiment(placements=("home", "cart")),)))
    assert sum(shares_of(assignment, "cart").values()) == len(USERS)
    assert () not in shares_of(assignment, "cart")
    assert list(shares_of(assignment, "search")) == [()]


def test_a_canary_keeps_its_users_while_its_share_grows() -> None:
    had: set[str] = set()
    for share in (100, 500, 2500, 10_000):
        assignment = Assignment(table(rollout=Rollout("r1", B, share)))
        now = {user for user in USERS if assignment.of(user, "home").bundle == B}
        assert had < now
        assert abs(len(now) / len(USERS) - share / 10_000) < 0.01
        had = now
    of_another = Assignment(table(rollout=Rollout("r2", B, 5000)))
    overlap = sum(of_another.of(user, "home").bundle == B for user in USERS[:4000]) / 4000
    assert 0.45 < overlap < 0.55


def test_a_rollout_that_has_not_begun_touches_nobody() -> None:
    assert Assignment(table(rollout=Rollout("r1", B, 0))).of("ann", "home").variants == {}


def test_the_holdout_is_in_nothing() -> None:
    everything = table(holdout=2000, rollout=Rollout("r1", B, 5000), experiments=(experiment(),))
    assignment = Assignment(everything)
    out = [assignment.of(user, "home") for user in USERS if not assignment.of(user, "home").variants]
    assert 0.19 < len(out) / len(USERS) < 0.21
    assert {(one.bundle, one.arm, one.propensity) for one in out} == {(A, Arm(), 0.2)}


def test_an_override_beats_the_hash_and_the_holdout() -> None:
    chosen = {user_digest(user): {"closer": "c"} for user in USERS[:50]}
    one = experiment(shares=(5000, 4999, 1), share=1)
    assignment = Assignment(table(experiments=(one,), overrides=chosen, holdout=9000))
    assert {assignment.of(user, "home").variants.get("closer") for user in USERS[:50]} == {"c"}
    assert {assignment.of(user, "home").arm.diversity for user in USERS[:50]} == {0.2}
    assert assignment.of(USERS[0], "home").propensity > 0
    assert {assignment.of(user, "home").overridden for user in USERS[:50]} == {("closer",)}
    assert {assignment.of(user, "home").overridden for user in USERS[50:1000]} == {()}


def test_an_override_that_does_not_apply_lifts_no_holdout() -> None:
    chosen = {user_digest(user): {"closer": "b"} for user in USERS[:200]}
    home = experiment(placements=("home",))
    stopped = msgspec.structs.replace(experiment(), state="stopped")
    for one, placement in ((home, "other"), (stopped, "home")):
        assignment = Assignment(table(experiments=(one,), overrides=chosen, holdout=10_000))
        assert {assignment.of(user, placement).overridden for user in USERS[:200]} == {()}
        assert {assignment.of(user, placement).propensity for user in USERS[:200]} == {1.0}
    assert Assignment(table(experiments=(home,), overrides=chosen, holdout=10_000)).of(USERS[0], "home").overridden


def test_an_override_gives_a_side_of_a_rollout_also_before_it_begins_and_ends_with_it() -> None:
    chosen = {user_digest("ann"): {"r1": "canary", "closer": "b"}, user_digest("bob"): {"r1": "control"}}
    for share in (0, 9999):
        now = table(rollout=Rollout("r1", B, share), experiments=(experiment(),), overrides=chosen).check()
        ann, bob = (Assignment(now).of(user, "home") for user in ("ann", "bob"))
        assert (ann.bundle, ann.variants["r1"], ann.overridden) == (B, "canary", ("r1", "closer"))
        assert (bob.bundle, bob.variants["r1"], bob.overridden) == (A, "control", ("r1",))
        for ended in (changes.without_rollout(now), changes.promoted(now, B), changes.rolled_back(now)):
            assert ended.overrides == {user_digest("ann"): {"closer": "b"}}
    with pytest.raises(TrafficError, match="no experiment 'r1'"):
        table(overrides=chosen).check()
    with pytest.raises(TrafficError, match="'r1' has no variant 'b'"):
        table(rollout=Rollout("r1", B, 0), overrides={user_digest("ann"): {"r1": "b"}}).check()


@pytest.mark.parametrize("bundle", [A, B, C])
def test_what_may_be_got_is_known_beforehand(bundle: str) -> None:
    arms = [Arm(), Arm(bundle=C, candidates=50), Arm(candidates=400)]
    assignment = Assignment(table(experiments=(experiment(shares=(2000, 4000, 4000), arms=arms),), holdout=100))
    got = {(one.bundle, one.arm.candidates) for one in (assignment.of(user, "home") for user in USERS[:2000])}
    assert got <= assignment.arms()
    assert ((bundle, None) in assignment.arms()) == (bundle in (A, C))
