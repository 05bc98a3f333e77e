"""From a user and a placement to what answers: a pure function of the traffic table."""

from typing import NamedTuple

from recsys.erased_users import user_digest
from recsys.experiments.buckets import BUCKETS, bucket, which
from service.traffic.document import CANARY, CONTROL, INTERLEAVED, Arm, Experiment, Traffic


class Side(NamedTuple):
    """One of the two that make an interleaved list: the variant's name, its bundle, its settings."""

    name: str
    bundle: str
    arm: Arm


class Assigned(NamedTuple):
    """What answers one request.

    Attributes:
        bundle: Its id. arm: Settings where they are not the service's.
        variants: Of each experiment, and of the rollout, that the user is in: its name and the variant.
        propensity: Probability of just these variants.
        overridden: Those of the names whose variant an override gave: nobody drew it, so their outcomes count nowhere.
        sides: Who drafts the list, the control first; none: `bundle` and `arm` alone, which are else the control's.
        interleaving: The experiment that they are of.
    """

    bundle: str
    arm: Arm
    variants: dict[str, str]
    propensity: float
    overridden: tuple[str, ...] = ()
    sides: tuple[Side, ...] = ()
    interleaving: str = ""


class Assignment:
    """Assigns by one version of the table. The same user gets the same in every process."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self._everybody = Assigned(traffic.champion, Arm(), {}, 1.0)
        self._rollout = traffic.rollout
        self._running = traffic.running()
        layers = dict.fromkeys(one.layer for one in self._running)
        self._layers = [(layer, [one for one in self._running if one.layer == layer]) for layer in layers]
        self._is_plain = not self._running and self._rollout is None

    def arms(self) -> set[tuple[str, int | None]]:
        """Every bundle and number of candidates that somebody may get, or that shadows."""
        traffic = self.traffic
        of = {(arm.bundle or traffic.champion, arm.candidates) for one in self._running for arm in one.arms()}
        # Bundles and candidates may come from experiments of different layers: then from both at once.
        bundles = {traffic.champion, *(bundle for bundle, _ in of)}
        bundles |= {one.bundle for one in (self._rollout, traffic.shadow) if one}
        return {(bundle, candidates) for bundle in bundles for candidates in {None, *(n for _, n in of)}}

    def of(self, user_id: str, placement: str) -> Assigned:
        """What answers a user. Cost: nothing where nothing is tried; else 1 us a draw."""
        if self._is_plain:
            return self._everybody
        traffic = self.traffic
        chosen = self._chosen(user_digest(user_id), placement) if traffic.overrides else {}
        if traffic.holdout and not chosen and bucket("holdout", user_id) < traffic.holdout:
            return self._everybody._replace(propensity=traffic.holdout / BUCKETS)
        fields: dict[str, object] = {}
        variants: dict[str, str] = {}
        propensity = 1 - traffic.holdout / BUCKETS
        rollout = self._rollout
        if rollout and (rollout.share or rollout.name in chosen):
            drawn = CANARY if bucket(rollout.name, user_id) < rollout.share else CONTROL
            variant = variants[rollout.name] = chosen.get(rollout.name, drawn)
            if rollout.name not in chosen:
                share = rollout.share / BUCKETS
                propensity *= share if variant == CANARY else 1 - share
            if variant == CANARY:
                fields["bundle"] = rollout.bundle
        drafting: Experiment | None = None
        for layer, experiments in self._layers:
            for one, place, probability in _drawn(layer, experiments, user_id, placement, chosen):
                propensity *= probability
                if place is None:  # one at most: the document sees to that
                    drafting, variants[one.name] = one, INTERLEAVED
                else:
                    fields |= _given(one.variants[place].arm)
                    variants[one.name] = one.variants[place].name
        overridden = tuple(name for name in variants if name in chosen)
        if drafting is None:
            return Assigned(*_answering(fields, traffic), variants, propensity, overridden)
        sides = [
            Side(one.name, *_answering(fields | _given(one.arm) | {"explore": 0.0}, traffic))
            for one in drafting.variants
        ]
        return Assigned(sides[0].bundle, sides[0].arm, variants, propensity, overridden, tuple(sides), drafting.name)

    def _chosen(self, user: str, placement: str) -> dict[str, str]:
        """By name, the variants of overrides that apply."""
        of = self.traffic.overrides.get(user)
        if not of:
            return {}
        here = {one.name for one in self._running if _counts(one, placement)}
        here |= {self._rollout.name} if self._rollout else set()
        return {name: variant for name, variant in of.items() if name in here}


def _given(arm: Arm) -> dict[str, object]:
    return {name: getattr(arm, name) for name in arm.changes()}


def _answering(fields: dict[str, object], traffic: Traffic) -> tuple[str, Arm]:
    return str(fields.get("bundle", traffic.champion)), Arm(**fields)  # type: ignore[arg-type]


def _drawn(
    layer: str, experiments: list[Experiment], user_id: str, placement: str, chosen: dict[str, str]
) -> list[tuple[Experiment, int | None, float]]:
    """The experiment of a layer that a user is in, the place of the variant and its probability; none or one.

    The place is None where the variants interleave; by an override a user gets one of them alone.
    """
    for one in experiments:
        if one.name in chosen:
            return [(one, [variant.name for variant in one.variants].index(chosen[one.name]), 1.0)]
    at = bucket(f"layer:{layer}", user_id)
    drawn = [one for one in experiments if any(begin <= at < end for begin, end in one.slots)]  # one at most
    if not drawn or not _counts(drawn[0], placement):
        return []
    one = drawn[0]
    if one.kind == "interleaving":
        return [(one, None, one.share / BUCKETS)]
    variant = which([variant.share for variant in one.variants], bucket(f"experiment:{one.name}", user_id))
    return [(one, variant, one.share / BUCKETS * one.variants[variant].share / BUCKETS)]


def _counts(one: Experiment, placement: str) -> bool:
    return not one.placements or placement in one.placements
