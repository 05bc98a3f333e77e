"""What a traffic table may say, and what is made of it."""

from typing import Any

import msgspec
import pytest

from service.errors import TrafficError
from service.traffic import changes
from service.traffic.document import Arm, Rollout, Shadow, Traffic, decode, encode
from tests.service.traffic.tables import A, B, C, experiment, table


def test_a_document_comes_back_from_its_bytes() -> None:
    one = table(
        previous=B,
        prepared=(C,),
        shadow=Shadow(C, 500),
        experiments=(experiment(placements=("home",)),),
        holdout=100,
        overrides={"digest": {"closer": "b"}},
    )
    assert decode(encode(one)) == one
    assert encode(decode(encode(one))) == encode(one)


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b'{"version": 1}', encode(table()).replace(b"{", b'{"surprise":1,', 1)],
    ids=["empty", "cut", "list", "less", "more"],
)
def test_bytes_that_are_no_document_are_refused(value: bytes) -> None:
    with pytest.raises(TrafficError, match="cannot be read"):
        decode(value)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two of a name": ({"experiments": (experiment(), experiment(layer="other"))}, "two experiments closer"),
    "a name": ({"experiments": (experiment("Closer"),)}, "'Closer' is no name"),
    "a layer's name": ({"experiments": (experiment(layer="-"),)}, "'-' is no name"),
    "one variant": ({"experiments": (experiment(shares=(10_000,)),)}, "two variants or more"),
    "99 percent": ({"experiments": (experiment(shares=(5000, 4900)),)}, "99 % of its users together"),
    "101 percent": ({"experiments": (experiment(shares=(5100, 5000)),)}, "101 % of its users together"),
    "nobody in a variant": ({"experiments": (experiment(shares=(10_000, 0)),)}, "is 0 %"),
    "nobody at all": ({"experiments": (experiment(share=0),)}, "is 0 %"),
    "alike": ({"experiments": (experiment(arms=[Arm(), Arm()]),)}, "control, b of 'closer' are alike"),
    "a layer given away twice": (
        {"experiments": (experiment(share=6000), experiment("other", share=4001))},
        "layer 'default' would give away 100.01 %",
    ),
    "users of two experiments": (
        {
            "experiments": (
                experiment(share=3000, slots=((0, 3000),)),
                experiment("other", share=3000, slots=((2999, 5999),)),
            )
        },
        "slots of the experiments in layer 'default' overlap",
    ),
    "slots the wrong way round": ({"experiments": (experiment(share=10, slots=((20, 10),)),)}, "overlap"),
    "slots of another share": ({"experiments": (experiment(share=3000, slots=((0, 10),)),)}, "are not its share"),
    "two that change the same": (
        {"experiments": (experiment(), experiment("other", layer="other"))},
        "'closer' and 'other' would both change diversity",
    ),
    "a rollout beside bundles": (
        {"experiments": (experiment(arms=[Arm(), Arm(bundle=B)]),), "rollout": Rollout("r1", C, 100)},
        "'closer' and rollout 'r1' would both choose the bundle",
    ),
    "an override of nothing": ({"overrides": {"digest": {"closer": "b"}}}, "no experiment 'closer'"),
    "an override without variant": (
        {"experiments": (experiment(),), "overrides": {"digest": {"closer": "x"}}},
        "has no variant 'x'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_at_odds_with_itself_is_refused_by_name(case: str) -> None:
    fields, said = REFUSED[case]
    with pytest.raises(TrafficError, match=said):
        table(**fields).check()


def test_layers_and_placements_keep_experiments_apart() -> None:
    table(experiments=(experiment(share=5000), experiment("other", share=5000))).check()
    apart = experiment("other", layer="other", placements=("cart",))
    table(experiments=(experiment(placements=("home",)), apart)).check()
    draft = experiment("other", layer="other", state="draft")
    table(experiments=(experiment(), draft)).check()
    table(experiments=(experiment(arms=[Arm(), Arm()], same=True),)).check()


def test_replicas_hold_all_that_anybody_may_get() -> None:
    arms = [Arm(), Arm(bundle=C)]
    assert table(previous=B, experiments=(experiment(arms=arms),)).bundles() == {A, B, C}
    assert table(experiments=(experiment(arms=arms, state="draft"),)).bundles() == {A}
    assert table(rollout=Rollout("r", B, 0), shadow=Shadow(C, 1)).bundles() == {A, B, C}


def test_promotion_keeps_the_champion_before_and_ends_its_rollout() -> None:
    after = changes.promoted(table(previous=C, prepared=(B,), rollout=Rollout("r", B, 5000)), B)
    assert (after.champion, after.previous, after.prepared, after.rollout) == (B, A, (), None)
    again = changes.promoted(after, B)
    assert (again.champion, again.previous) == (B, A)
    with pytest.raises(TrafficError, match="rollout 'r' of"):
        changes.promoted(table(rollout=Rollout("r", B, 1)), C)


def test_promotion_ends_experiments_on_bundles_and_lets_others_go_on() -> None:
    on_bundles = experiment("bundles", layer="bundles", arms=[Arm(), Arm(bundle=B)])
    before = table(experiments=(experiment(), on_bundles))
    after = changes.ended(changes.promoted(before, B), "2026-06-02T00:00:00+00:00")
    assert [(one.name, one.state, one.stopped) for one in after.experiments] == [
        ("closer", "running", None), ("bundles", "stopped", "2026-06-02T00:00:00+00:00")
    ]  # fmt: skip
    assert changes.promoted(before, A).experiments == before.experiments  # the champion is what it was


def test_rolling_back_ends_the_rollout_or_returns_to_the_champion_before_and_stops_experiments_on_bundles() -> None:
    rolling = table(previous=C, rollout=Rollout("r", B, 5000))
    assert changes.rolled_back(rolling) == msgspec.structs.replace(rolling, rollout=None)
    kept, stopped = experiment(), experiment("bundles", layer="bundles", arms=[Arm(), Arm(bundle=C)])
    back = changes.rolled_back(table(B, previous=A, experiments=(kept, stopped)))
    assert (back.champion, back.previous) == (A, B)
    assert [(one.name, one.state) for one in back.experiments] == [("closer", "running"), ("bundles", "stopped")]
    with pytest.raises(TrafficError, match=rf"gone back to already; {B} is what was left"):
        changes.rolled_back(back)  # who tries again must not get what was left
    assert changes.rolled_back(changes.promoted(back, C)).champion == A
    tried = changes.with_experiment(back, experiment("since", layer="since", arms=[Arm(), Arm(bundle=C)]))
    after = changes.rolled_back(tried)  # what was begun since may be what is wrong
    assert (after.champion, after.experiment("since").state) == (A, "stopped")
    assert changes.rolled_back(msgspec.structs.replace(back, rollout=Rollout("r", C, 1))).champion == A
    with pytest.raises(TrafficError, match="none to go back to"):
        changes.rolled_back(table())


def test_what_could_not_be_read_again_is_no_document() -> None:
    quotas = tuple((f"c{number}", 1) for number in range(51))
    arms = [Arm(diversity=1.5), Arm(quotas=quotas)]
    for one in (experiment(placements=("home page",)), *(experiment(arms=[Arm(), arm]) for arm in arms)):
        with pytest.raises(TrafficError, match="would be no traffic table"):
            changes.with_experiment(table(), one)


def test_rules_of_one_layer_are_none_of_lists_that_another_interleaves() -> None:
    rules = experiment("rules", arms=[Arm(), Arm(popularity_damping=0.5)])
    drafted = experiment("mix", layer="mix", kind="interleaving", arms=[Arm(), Arm(bundle=B)])
    with pytest.raises(TrafficError, match="would both change popularity_damping"):
        table(experiments=(rules, drafted)).check()


def test_a_rollout_and_an_experiment_of_one_name_would_mix_their_answers() -> None:
    rolling = table(rollout=Rollout("r1", B, 1))
    with pytest.raises(TrafficError, match="called 'r1', too"):
        changes.with_experiment(rolling, experiment("r1"))
    with pytest.raises(TrafficError, match="called 'r1', too"):
        changes.with_rollout(table(experiments=(experiment("r1", state="stopped"),)), Rollout("r1", B, 1, (1,)))


def test_what_is_held_anyway_need_not_be_prepared() -> None:
    now = table(previous=B)
    assert changes.prepared(now, B) is now
    assert changes.prepared(now, C).prepared == (C,)
    assert changes.released(changes.prepared(now, C), C) == now


@pytest.mark.parametrize(
    ("arm", "given"),
    [
        (Arm(diversity=0.05), "diversity 0.05"),
        (Arm(bundle=A), f"bundle {A}"),
        (Arm(candidates=200, explore=0.1), "candidates 200, explore 0.1"),
    ],
)
def test_a_variant_that_changes_nothing_is_refused(arm: Arm, given: str) -> None:
    usual = Arm(candidates=200, diversity=0.05, explore=0.1)
    one = experiment(arms=[Arm(), arm])
    with pytest.raises(TrafficError, match=f"'control' and 'b' of 'closer' would do the same: .*{given.split()[0]}"):
        changes.refuse_idle(table(), one, usual)
    changes.refuse_idle(table(), msgspec.structs.replace(one, same=True), usual)
    changes.refuse_idle(table(B), experiment(arms=[Arm(), Arm(bundle=A)]), usual)


def test_an_experiment_takes_the_place_of_that_of_its_name() -> None:
    first = changes.with_experiment(table(), experiment(state="draft"))
    both = changes.with_experiment(first, experiment("other", state="draft"))
    started = changes.with_experiment(both, experiment())
    assert [(one.name, one.state) for one in started.experiments] == [("other", "draft"), ("closer", "running")]
    assert started.experiment("closer").state == "running"
    with pytest.raises(TrafficError, match="no experiment 'third'; known: other, closer"):
        started.experiment("third")


def test_defaults_are_not_written() -> None:
    assert set(msgspec.json.decode(encode(table()))) == {"version", "time", "who", "reason", "champion"}
    assert isinstance(decode(encode(table())), Traffic)
