"""The traffic table: one immutable document; every change makes the next version of it.

What it says is whole or not at all: a replica takes a version when it holds every bundle that the version names.
"""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from recsys.experiments.buckets import BUCKETS, free_slots
from recsys.experiments.margin import MARGIN
from service.errors import TrafficError
from service.traffic.slots import Share, Slots, check_slots

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)
RULES = ("popularity_damping", "quotas")  # of an arm, for requests that give none
CONTROL = "control"
CANARY = "canary"
INTERLEAVED = "interleaved"  # the variant of who gets lists of both

Placement = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What answers: a bundle, settings where they are not the service's, RULES. None: as everybody's."""

    bundle: str | None = None
    candidates: Annotated[int, Meta(ge=10, le=2000)] | None = None
    diversity: Annotated[float, Meta(ge=0, le=1)] | None = None
    explore: Annotated[float, Meta(ge=0, le=1)] | None = None
    popularity_damping: Annotated[float, Meta(ge=0, le=1)] | None = None
    quotas: Annotated[tuple[tuple[str, Annotated[int, Meta(ge=1, le=500)]], ...], Meta(max_length=50)] | None = None

    def changes(self) -> set[str]:
        """Which of its fields are given."""
        return {name for name in self.__struct_fields__ if getattr(self, name) is not None}


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One side of an experiment. share: of the experiment's users, in 0.01 %."""

    name: str
    share: Share
    arm: Arm = Arm()


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Users are drawn into one experiment of a layer, then into one of its variants, by hashes of their own.

    Attributes:
        share: Of the layer's users, in 0.01 %. layer: Experiments of one layer share no user; those of different ones
            may, and so must not change the same thing.
        placements: Where it counts; none: everywhere.
        kind: "ab": each user gets one variant. "interleaving": each gets lists that both variants have drafted.
        same: Variants may be alike: a test of the test.
        state: "draft" until it is started; what is stopped is kept for its report.
        started, stopped: RFC 3339, UTC.
        slots: While it runs, the buckets of its layer whose users it has, as intervals [begin, end): whatever begins
            or ends beside it, they stay.
    """

    name: str
    variants: tuple[Variant, ...]
    share: Share = BUCKETS
    layer: str = "default"
    placements: tuple[Placement, ...] = ()
    kind: Literal["ab", "interleaving"] = "ab"
    same: bool = False
    state: Literal["draft", "running", "stopped"] = "draft"
    started: str | None = None
    stopped: str | None = None
    slots: Slots = ()

    def arms(self) -> list[Arm]:
        """Of its variants."""
        return [one.arm for one in self.variants]

    def meets(self, other: "Experiment") -> bool:
        """Whether a request can be in both: of different layers, with a placement in common."""
        common = not self.placements or not other.placements or bool({*self.placements} & {*other.placements})
        return self.layer != other.layer and common


class Rollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A bundle on its way to be champion.

    Attributes:
        name: Salts the draw, so that another rollout meets other users first.
        share: Of all users, in 0.01 %, that get it now.
        steps: The shares that it goes through; at the last it is promoted.
        hold_s, hold_users: How long a step lasts at least, and how many users of the bundle it must have seen.
        since_ms, began_ms: Since when this step counts, and when the first one began: UTC epoch milliseconds by the
            store's clock.
        paused: Nothing goes on by itself; what guards still looks.
        margin: How many fewer of the lists clicked are tolerated when it is promoted, as a share; 1: any number.
    """

    name: str
    bundle: str
    share: Share
    steps: tuple[Share, ...] = ()
    hold_s: float = 600.0
    hold_users: int = 100
    since_ms: int = 0
    began_ms: int = 0
    paused: bool = False
    margin: Annotated[float, Meta(gt=0, le=1)] = MARGIN

    def is_last(self) -> bool:
        """Whether this is the last step before it has all users, with somebody to compare them with."""
        return self.share < BUCKETS and self.next_share() in (None, BUCKETS)

    def next_share(self) -> int | None:
        """The share of the next step; None after the last."""
        return next((step for step in self.steps if step > self.share), None)


class Shadow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bundle that answers a share of the requests once more, in 0.01 %, for comparison only."""

    bundle: str
    share: Share


class Traffic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One version of the table.

    Attributes:
        version: One more than that before. time: RFC 3339, UTC. who, reason: Of this version.
        champion, previous: Bundles; the champion before is held loaded, so that the way back takes no time.
        prepared: Bundles to be held loaded, though nobody gets them yet.
        holdout: Share of users who are in no experiment and no rollout, in 0.01 %.
        overrides: By the digest of a user, the variant of experiments, or of the rollout, that they get, whatever the
            hash says: for tests by hand.
        unregistered: The registry does not know of this champion yet: it could not be reached.
        back: The champion is one that was gone back to: `previous` is what somebody did not want.
    """

    version: int
    time: str
    who: str
    reason: str
    champion: str
    previous: str | None = None
    prepared: tuple[str, ...] = ()
    rollout: Rollout | None = None
    shadow: Shadow | None = None
    experiments: tuple[Experiment, ...] = ()
    holdout: Share = 0
    overrides: dict[str, dict[str, str]] = {}
    unregistered: bool = False
    back: bool = False

    def running(self) -> list[Experiment]:
        """Experiments that draw users."""
        return [one for one in self.experiments if one.state == "running"]

    def stopped_now(self) -> list[str]:
        """Names of the experiments that ended with this version."""
        return [one.name for one in self.experiments if one.state == "stopped" and one.stopped == self.time]

    def bundles(self) -> set[str]:
        """All that a replica has to hold."""
        of = {self.champion, self.previous, *self.prepared}
        of |= {arm.bundle for one in self.running() for arm in one.arms()}
        of |= {one.bundle for one in (self.rollout, self.shadow) if one}
        return {one for one in of if one is not None}

    def named(self) -> set[str]:
        """All that it needs now or may need when an experiment that is described is started."""
        drafts = [one for one in self.experiments if one.state == "draft"]
        return self.bundles() | {arm.bundle for one in drafts for arm in one.arms() if arm.bundle is not None}

    def experiment(self, name: str) -> Experiment:
        """The experiment of a name. Raises TrafficError."""
        for one in self.experiments:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.experiments) or "there is none"
        raise TrafficError(f"no experiment {name!r}; known: {known}")

    def variants(self, name: str) -> list[str]:
        """What an experiment, or the rollout, of a name may give. Raises TrafficError."""
        if self.rollout and self.rollout.name == name:
            return [CONTROL, CANARY]
        return [one.name for one in self.experiment(name).variants]

    def check(self) -> "Traffic":
        """This document, if it can be obeyed.

        Raises:
            TrafficError: it cannot; the message says what is at odds with what.
        """
        try:  # structs are checked where they are decoded, not where they are made
            msgspec.convert(msgspec.to_builtins(self), Traffic)
        except msgspec.ValidationError as error:
            raise TrafficError(f"this would be no traffic table: {error}") from error
        names = [one.name for one in self.experiments]
        if self.rollout and self.rollout.name in names:
            raise TrafficError(f"the rollout under way is called {self.rollout.name!r}, too; answers would mix the two")
        if twice := {name for name in names if names.count(name) > 1}:
            raise TrafficError(f"there are two experiments {', '.join(sorted(twice))}; each needs a name of its own")
        for one in self.experiments:
            _check_alone(one)
        running = self.running()
        for layer in {one.layer for one in running}:
            taken = sum(one.share for one in running if one.layer == layer)
            if taken > BUCKETS:
                raise TrafficError(f"layer {layer!r} would give away {taken / 100:g} % of its users; lower a share")
            check_slots(
                layer, [(one.name, one.share, one.slots) for one in running if one.layer == layer and one.slots]
            )
        for place, one in enumerate(running):
            for other in running[:place]:
                if not one.meets(other):
                    continue
                if one.kind == other.kind == "interleaving":
                    raise TrafficError(
                        f"experiments {other.name!r} and {one.name!r} would both interleave the same lists; put them "
                        "into one layer, or on different placements"
                    )
                if both := changed_by(one) & changed_by(other):
                    raise TrafficError(
                        f"experiments {other.name!r} and {one.name!r} would both change {', '.join(sorted(both))} for "
                        "the same requests; put them into one layer, or on different placements"
                    )
            if self.rollout and "bundle" in changed_by(one):
                raise TrafficError(
                    f"experiment {one.name!r} and rollout {self.rollout.name!r} would both choose the bundle; stop one"
                )
        for user, of in self.overrides.items():
            for name, variant in of.items():
                if variant not in self.variants(name):
                    raise TrafficError(f"the override of user {user}: {name!r} has no variant {variant!r}")
        return self


def placed(experiments: tuple[Experiment, ...]) -> tuple[Experiment, ...]:
    """Each running experiment with slots of its layer that no other has; who has some keeps them, others have none."""
    found = [one if one.state == "running" else msgspec.structs.replace(one, slots=()) for one in experiments]
    for place, one in enumerate(found):
        if one.state == "running" and not one.slots:
            taken = [slot for other in found if other.layer == one.layer for slot in other.slots]
            found[place] = msgspec.structs.replace(one, slots=free_slots(taken, one.share))
    return tuple(found)


def decode(value: bytes) -> Traffic:
    """The document in these bytes.

    Raises:
        TrafficError: they hold none, or one that cannot be obeyed.
    """
    try:
        found = msgspec.json.decode(value, type=Traffic).check()
    except msgspec.DecodeError as error:
        raise TrafficError(
            f"the traffic table cannot be read: {error}; `riffle traffic history` has the versions before"
        ) from error
    return msgspec.structs.replace(found, experiments=placed(found.experiments))


def encode(traffic: Traffic) -> bytes:
    """The bytes of a document; the same for equal ones."""
    return msgspec.json.encode(traffic, order="deterministic")


def changed_by(one: Experiment) -> set[str]:
    """What its variants change, by the names of their fields; interleaved lists have no rules and no new item."""
    drafted = {"explore", *RULES} if one.kind == "interleaving" else set()
    return set().union(*(arm.changes() for arm in one.arms()), drafted)


def _check_alone(one: Experiment) -> None:
    for name in (one.name, one.layer, *(variant.name for variant in one.variants)):
        if not NAME.fullmatch(name):
            raise TrafficError(f"{name!r} is no name: up to 40 small letters, digits and hyphens, no hyphen first")
    names = [variant.name for variant in one.variants]
    if len(names) < 2 or len({*names}) < len(names):
        raise TrafficError(f"experiment {one.name!r} needs two variants or more, each with a name of its own")
    total = sum(variant.share for variant in one.variants)
    if total != BUCKETS:
        raise TrafficError(f"the variants of {one.name!r} get {total / 100:g} % of its users together; make it 100 %")
    if 0 in [one.share, *(variant.share for variant in one.variants)]:
        raise TrafficError(f"a share of {one.name!r} is 0 %: it would learn nothing")
    arms = one.arms()
    if one.kind == "interleaving":
        if [variant.share for variant in one.variants] != [BUCKETS // 2] * 2:
            raise TrafficError(f"{one.name!r} interleaves two variants that get 50 % each: a coin says who goes first")
        if INTERLEAVED in names or any(arm.changes() & {"explore", *RULES} for arm in arms):
            raise TrafficError(
                f"{one.name!r}: interleaved lists are drafted, and end with no new item by chance; so no variant has "
                f"explore=, popularity_damping= or quotas=, and none is called {INTERLEAVED!r}"
            )
    if not one.same and (alike := [a for place, a in enumerate(arms) if a in arms[:place]]):
        of = ", ".join(variant.name for variant in one.variants if variant.arm in alike)
        raise TrafficError(f"variants {of} of {one.name!r} are alike; --same makes that a test of the test")
