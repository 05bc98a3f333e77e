"""Experiments described, begun, ended and reported: what the command line and HTTP do alike."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import msgspec

from recsys.errors import RegistryError
from recsys.experiments.effects import Effect
from recsys.experiments.guards import LOPSIDED
from recsys.experiments.outcomes import METRICS, Outcomes
from recsys.experiments.preferences import CREDITS, Preferences
from recsys.experiments.spread import coverage
from service.errors import TrafficError
from service.experiment_schemas import (
    EffectOutcome,
    ExperimentReport,
    ExperimentRequest,
    ExperimentState,
    PreferenceOutcome,
    VariantOutcome,
    VariantRequest,
    VariantState,
)
from service.outcomes import WINDOW_S, OutcomeReader
from service.schemas import Quota
from service.settings import Settings
from service.traffic import changes, switching
from service.traffic.document import Arm, Experiment, Traffic, Variant
from service.traffic.table import TrafficTable

PLANNED = 5_000  # users at which intervals are tightest, where nobody says how many are expected
ALPHA = 0.05

Resolve = Callable[[str], str]  # of the registry: the id of a bundle that is meant
Rehearse = Callable[[Traffic, Experiment], Awaitable[None]]


async def create(table: TrafficTable, settings: Settings, resolve: Resolve, asked: ExperimentRequest) -> Traffic:
    """Describe an experiment; the first variant is the control.

    Args:
        resolve: Reads files, so it is called in a thread.
    Raises:
        TrafficError: it cannot be; the message says why. RegistryError: there is no such bundle, or it was pruned this
            moment. Nothing is described then.
    """
    wanted = sorted({one.bundle for one in asked.variants if one.bundle is not None})
    ids = {one: await asyncio.to_thread(resolve, one) for one in wanted}
    made = Experiment(
        asked.name,
        tuple(_variant(one, ids) for one in asked.variants),
        basis_points(asked.share),
        asked.layer,
        asked.placements,
        asked.kind,
        asked.same,
    )

    def created(now: Traffic) -> Traffic:
        if any(one.name == made.name and (one.started or one.state == "draft") for one in now.experiments):
            raise TrafficError(f"there is an experiment {made.name!r} already; its report would mix the two")
        changes.refuse_idle(now, made, usual(settings))
        return changes.with_experiment(now, made)

    after = await table.change(created, who=asked.who, reason=asked.reason)
    try:  # from now on nobody prunes them: were they there then?
        for bundle_id in ids.values():
            await asyncio.to_thread(resolve, bundle_id)
    except RegistryError:
        reason = f"a bundle of {made.name} is gone"
        await table.change(lambda now: changes.without(now, made), who=asked.who, reason=reason)
        raise
    return after


async def start(
    table: TrafficTable, settings: Settings, rehearse: Rehearse, name: str, *, who: str, reason: str
) -> tuple[Traffic, float]:
    """Draw users into its variants, once every replica holds their bundles; the table and the seconds that it took.

    Args:
        rehearse: Refuses what would have no effect, as `Rehearsal.demand_difference`.
    Raises:
        TrafficError: there is none of this name, it has begun before, two variants make the same lists, or a replica
            does not follow. Else as `rehearse`.
    """
    one = (await table.demand()).experiment(name)
    at = await _moment(table)

    def started(now: Traffic) -> Traffic:
        one = now.experiment(name)
        if one.state != "draft":
            raise TrafficError(f"experiment {name!r} is {one.state}; create another one")
        changes.refuse_idle(now, one, usual(settings))
        return changes.with_experiment(now, msgspec.structs.replace(one, state="running", started=at))

    now = await table.demand()
    started(now)  # refused before anything is loaded
    await rehearse(now, one)
    bundles = [arm.bundle for arm in one.arms() if arm.bundle]
    return await switching.load_and_switch(table, bundles, started, who=who, reason=reason)


async def stop(table: TrafficTable, name: str, *, who: str, reason: str) -> Traffic:
    """Draw nobody any more; the report stays. Raises TrafficError: it does not run, or a replica does not follow."""
    at = await _moment(table)
    return (await switching.switch(table, lambda now: changes.stopped(now, name, at), who=who, reason=reason))[0]


def state_of(traffic: Traffic, name: str) -> ExperimentState:
    """An experiment as it is. Raises TrafficError: there is none of this name."""
    one = traffic.experiment(name)
    return ExperimentState(
        name=one.name,
        kind=one.kind,
        state=one.state,
        layer=one.layer,
        share=one.share / 100,
        placements=list(one.placements),
        variants=[
            VariantState(
                name=of.name,
                share=of.share / 100,
                **msgspec.structs.asdict(of.arm)
                | {"quotas": None if of.arm.quotas is None else [Quota(category=c, max=n) for c, n in of.arm.quotas]},
            )
            for of in one.variants
        ],
        started=one.started,
        stopped=one.stopped,
        version=traffic.version,
    )


async def report(
    traffic: Traffic, reader: OutcomeReader, name: str, *, window_s: float = WINDOW_S, planned: int = PLANNED
) -> ExperimentReport:
    """What came of an experiment.

    Raises:
        TrafficError: there is none of this name, or it has not been started. Else as `OutcomeReader.read`.
    """
    one = traffic.experiment(name)
    if one.started is None:
        raise TrafficError(f"experiment {name!r} has not been started")
    since_ms = started_ms(one)
    names = tuple(variant.name for variant in one.variants)
    if one.kind == "interleaving":
        sides = names[0], names[1]
        found = await reader.preferences(name, sides, since_ms=since_ms, window_s=window_s)
        return _of_preferences(one, found, planned)
    return _of_outcomes(one, await reader.read(name, names, since_ms=since_ms, window_s=window_s), planned)


def started_ms(one: Experiment) -> int:
    """When a running or stopped experiment began, UTC epoch milliseconds."""
    return int(datetime.fromisoformat(one.started or "").timestamp() * 1000)


def basis_points(percent: float) -> int:
    """A percentage in 0.01 %. Raises TrafficError."""
    if not 0 <= percent <= 100 or abs(100 * percent - round(100 * percent)) > 1e-6:
        raise TrafficError(f"{percent:g} % is not 0 to 100 in steps of 0.01")
    return round(100 * percent)


def usual(settings: Settings) -> Arm:
    """What answers where an arm says nothing."""
    return Arm(None, settings.candidates, settings.diversity, settings.explore, popularity_damping=0.0, quotas=())


def _variant(asked: VariantRequest, ids: Mapping[str, str]) -> Variant:
    fields = {name: getattr(asked, name) for name in Arm.__struct_fields__}
    if asked.quotas is not None:
        fields["quotas"] = [(one.category, one.max) for one in asked.quotas]
    if asked.bundle is not None:
        fields["bundle"] = ids[asked.bundle]
    try:
        return Variant(asked.name, basis_points(asked.share), msgspec.convert(fields, Arm))
    except msgspec.ValidationError as error:
        raise TrafficError(f"variant {asked.name!r}: {error}") from error


async def _moment(table: TrafficTable) -> str:
    return datetime.fromtimestamp(await table.now_ms() / 1000, UTC).isoformat(timespec="milliseconds")


def _of_outcomes(one: Experiment, found: Outcomes, planned: int) -> ExperimentReport:
    alpha = ALPHA / (len(METRICS) * (len(found.names) - 1))
    drawn = found.mismatch([variant.share / 10_000 for variant in one.variants])
    return ExperimentReport(
        name=one.name,
        kind=one.kind,
        state=one.state,
        users=sum(found.users()),
        lists=sum(found.shown()),
        drawn=drawn,
        sound=drawn >= LOPSIDED,
        variants=[
            VariantOutcome(
                name=name,
                users=found.users()[place],
                lists=found.shown()[place],
                rates={metric: _finite(found.side(place, metric).rate()) for metric in METRICS},
                items=_finite(coverage(found, place, alpha=alpha).ratio),
            )
            for place, name in enumerate(found.names)
        ],
        effects=[
            _effect(name, metric, found.effect(metric, place, planned=planned, alpha=alpha))
            for place, name in enumerate(found.names)
            if place
            for metric in METRICS
        ],
        preferences=[],
        alone={},
    )


def _effect(variant: str, metric: str, found: Effect) -> EffectOutcome:
    return EffectOutcome(
        variant=variant,
        metric=metric,
        users=found.users,
        control=_finite(found.control),
        treatment=_finite(found.treatment),
        difference=_finite(found.difference),
        low=_finite(found.low),
        high=_finite(found.high),
        fixed_low=_finite(found.fixed_low),
        fixed_high=_finite(found.fixed_high),
        relative=_finite(found.relative[0]),
        explained=found.explained,
    )


def _of_preferences(one: Experiment, found: Preferences, planned: int) -> ExperimentReport:
    preferences = []
    for metric in CREDITS:
        of = found.preference(metric, planned=planned, alpha=ALPHA / len(CREDITS))
        preferences.append(
            PreferenceOutcome(
                metric=metric,
                credit=dict(zip(found.names, of.credit, strict=True)),
                decided=of.decided,
                difference=_finite(of.difference),
                low=_finite(of.low),
                high=_finite(of.high),
                fixed_low=_finite(of.fixed_low),
                fixed_high=_finite(of.fixed_high),
                winner=None if of.winner is None else found.names[of.winner],
            )
        )
    return ExperimentReport(
        name=one.name,
        kind=one.kind,
        state=one.state,
        users=len(found.lists),
        lists=int(found.lists.sum()),
        drawn=None,
        sound=True,
        variants=[],
        effects=[],
        preferences=preferences,
        alone=dict(zip(found.names, found.alone, strict=True)),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
