"""What is made of a traffic table: pure functions, each from one document to the next that can be obeyed."""

from typing import Any

import msgspec

from recsys.experiments.buckets import BUCKETS
from service.errors import TrafficError
from service.traffic.document import Arm, Experiment, Rollout, Traffic, changed_by, placed


def promoted(traffic: Traffic, bundle: str) -> Traffic:
    """With another champion; a rollout of it has come to its end, and so have experiments on bundles: both sides of
    them may be others now.

    Raises:
        TrafficError: a rollout of another bundle is under way.
    """
    if traffic.rollout and traffic.rollout.bundle != bundle:
        raise TrafficError(
            f"rollout {traffic.rollout.name!r} of {traffic.rollout.bundle} is under way; `riffle rollout abort` ends it"
        )
    previous = traffic.champion if traffic.champion != bundle else traffic.previous
    prepared = _less(traffic.prepared, bundle)
    experiments = traffic.experiments if traffic.champion == bundle else _calm(traffic)
    back = traffic.back and traffic.champion == bundle
    changed = {"champion": bundle, "previous": previous, "rollout": None, "prepared": prepared, "back": back}
    return _with(traffic, **changed, experiments=experiments)


def rolled_back(traffic: Traffic) -> Traffic:
    """Back to what was before: without the rollout that is under way, else with the champion before.

    Experiments on bundles end as well: whatever is wrong may be theirs.

    Raises:
        TrafficError: there is nothing to go back to, or somebody has gone back already: once more would be forth.
    """
    if traffic.rollout:
        return _with(traffic, rollout=None, experiments=_calm(traffic))
    if traffic.previous is None:
        raise TrafficError(
            f"{traffic.champion} is the first champion that served here; there is none to go back to, but `riffle "
            "bundles promote` takes any bundle"
        )
    if traffic.back and (calm := _calm(traffic)) != traffic.experiments:
        return _with(traffic, experiments=calm)
    if traffic.back:
        raise TrafficError(
            f"{traffic.champion} is what was gone back to already; {traffic.previous} is what was left, and "
            f"`riffle bundles promote {traffic.previous}` goes there"
        )
    return _with(traffic, champion=traffic.previous, previous=traffic.champion, experiments=_calm(traffic), back=True)


def with_rollout(traffic: Traffic, rollout: Rollout) -> Traffic:
    """With a rollout, where none is under way, or another state of the one that is.

    Raises:
        TrafficError: another is under way, its bundle serves already, or its steps do not rise.
    """
    if traffic.rollout and (traffic.rollout.name, traffic.rollout.bundle) != (rollout.name, rollout.bundle):
        raise TrafficError(
            f"rollout {traffic.rollout.name!r} of {traffic.rollout.bundle} is under way; `riffle rollout abort` ends it"
        )
    if rollout.bundle == traffic.champion:
        raise TrafficError(f"{rollout.bundle} is the champion already; everybody gets it")
    if list(rollout.steps) != sorted({*rollout.steps}) or not rollout.steps or rollout.steps[0] == 0:
        raise TrafficError("the steps of a rollout have to rise, from more than 0 %")
    return _with(traffic, rollout=rollout, prepared=_less(traffic.prepared, rollout.bundle))


def without_rollout(traffic: Traffic) -> Traffic:
    """Without the rollout that is under way, if there is one: everybody gets the champion."""
    return _with(traffic, rollout=None)


def prepared(traffic: Traffic, bundle: str) -> Traffic:
    """With one more bundle that replicas hold."""
    if bundle in traffic.bundles():
        return traffic
    return _with(traffic, prepared=(*traffic.prepared, bundle))


def released(traffic: Traffic, bundle: str) -> Traffic:
    """Without a bundle that was prepared."""
    return _with(traffic, prepared=_less(traffic.prepared, bundle))


def refuse_idle(traffic: Traffic, experiment: Experiment, usual: Arm) -> None:
    """Refuse an experiment that nobody would be in, or of which two variants would do the same, unless that is wanted.

    Args:
        usual: What answers where an arm says nothing, besides the champion.
    Raises:
        TrafficError: it names the variants, and what was given without effect.
    """
    if traffic.holdout == BUCKETS:
        raise TrafficError(f"nobody would be in {experiment.name!r}: the holdout is 100 % of all users")
    if experiment.same:
        return
    usual = msgspec.structs.replace(usual, bundle=traffic.champion)
    done: dict[Arm, str] = {}
    for one in experiment.variants:
        given = {name: getattr(one.arm, name) for name in one.arm.changes()}
        if (other := done.setdefault(msgspec.structs.replace(usual, **given), one.name)) != one.name:
            raise TrafficError(
                f"variants {other!r} and {one.name!r} of {experiment.name!r} would do the same: "
                f"{', '.join(f'{name} {value}' for name, value in given.items()) or 'nothing'} is what answers anyway"
            )


def with_experiment(traffic: Traffic, experiment: Experiment) -> Traffic:
    """With an experiment, new or in place of that of its name."""
    others = tuple(one for one in traffic.experiments if one.name != experiment.name)
    return _with(traffic, experiments=(*others, experiment))


def without(traffic: Traffic, experiment: Experiment) -> Traffic:
    """Without an experiment, if it is still just so."""
    return _with(traffic, experiments=tuple(one for one in traffic.experiments if one != experiment))


def stopped(traffic: Traffic, name: str, at: str) -> Traffic:
    """With an experiment that draws nobody any more, or never will.

    Args:
        at: This moment, RFC 3339, UTC.
    Raises:
        TrafficError: there is none of this name, or it is stopped already.
    """
    one = traffic.experiment(name)
    if one.state == "stopped":
        raise TrafficError(f"experiment {name!r} is stopped already")
    return with_experiment(traffic, msgspec.structs.replace(one, state="stopped", stopped=at))


def ended(traffic: Traffic, at: str) -> Traffic:
    """With a moment of the end, RFC 3339, UTC, for experiments that have just been stopped without one."""
    experiments = tuple(
        msgspec.structs.replace(one, stopped=at) if one.state == "stopped" and one.stopped is None else one
        for one in traffic.experiments
    )
    return msgspec.structs.replace(traffic, experiments=experiments)


def _calm(traffic: Traffic) -> tuple[Experiment, ...]:
    return tuple(
        msgspec.structs.replace(one, state="stopped") if one.state == "running" and "bundle" in changed_by(one) else one
        for one in traffic.experiments
    )


def _with(traffic: Traffic, **changes: Any) -> Traffic:
    after = msgspec.structs.replace(traffic, **changes)
    if traffic.rollout and after.rollout is None:  # nobody can be given a side of it any more
        left = {user: _less_one(of, traffic.rollout.name) for user, of in after.overrides.items()}
        after = msgspec.structs.replace(after, overrides={user: of for user, of in left.items() if of})
    return msgspec.structs.replace(after, experiments=placed(after.check().experiments))


def _less_one(of: dict[str, str], name: str) -> dict[str, str]:
    return {one: variant for one, variant in of.items() if one != name}


def _less(bundles: tuple[str, ...], bundle: str) -> tuple[str, ...]:
    return tuple(one for one in bundles if one != bundle)
