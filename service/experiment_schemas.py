"""The JSON bodies about experiments; the command line reads and prints the same."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from service.schemas import Placement, Quota, Request

Percent = Annotated[float, Meta(ge=0, le=100, description="In steps of 0.01.")]
_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"  # what is kept is shown in terminals: no control characters
Who = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=_LINE, description="Who changes it; kept in the history.")
]
Why = Annotated[str, Meta(min_length=1, max_length=1000, pattern=_LINE, description="Kept in the history.")]


class VariantRequest(Request, frozen=True, kw_only=True):
    """One side of an experiment: what is other than usual; the first one is the control."""

    name: str
    share: Percent
    bundle: Annotated[str | None, Meta(description="Id, unique prefix or name.")] = None
    candidates: int | None = None
    diversity: float | None = None
    explore: float | None = None
    popularity_damping: Annotated[float | None, Meta(description="Where a request gives none, or 0.")] = None
    quotas: Annotated[list[Quota] | None, Meta(description="Where a request gives none; 50 at most.")] = None


class ExperimentRequest(Request, frozen=True, kw_only=True):
    """An experiment to be described. Nobody is in it before it is started."""

    name: Annotated[str, Meta(description="Up to 40 small letters, digits and hyphens.")]
    variants: Annotated[list[VariantRequest], Meta(min_length=2, max_length=20)]
    who: Who
    reason: Why
    share: Percent = 100.0
    layer: Annotated[str, Meta(description="Experiments of one layer share no user.")] = "default"
    placements: Annotated[
        tuple[Placement, ...], Meta(max_length=50, description="Where it counts; none: everywhere.")
    ] = ()
    kind: Annotated[
        Literal["ab", "interleaving"],
        Meta(description="ab: each user gets one variant. interleaving: lists that two variants drafted together."),
    ] = "ab"
    same: Annotated[bool, Meta(description="Variants may be alike: a test of the test.")] = False


class ExperimentChange(Request, frozen=True, kw_only=True):
    """Who starts or stops an experiment, and why."""

    who: Who
    reason: Why


class VariantState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One side of an experiment, its settings where they are not the service's."""

    name: str
    share: Percent
    bundle: str | None = None
    candidates: int | None = None
    diversity: float | None = None
    explore: float | None = None
    popularity_damping: float | None = None
    quotas: list[Quota] | None = None


class ExperimentState(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment as the traffic table has it."""

    name: str
    kind: Literal["ab", "interleaving"]
    state: Literal["draft", "running", "stopped"]
    layer: str
    share: Percent
    placements: list[str]
    variants: list[VariantState]
    started: Annotated[str | None, Meta(description="RFC 3339, UTC.")]
    stopped: str | None
    version: Annotated[int, Meta(description="Of the traffic table that says so.")]


class ExperimentsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """All experiments, the one that was changed last at the end."""

    experiments: list[ExperimentState]


class VariantOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one variant's lists."""

    name: str
    users: int
    lists: int
    rates: Annotated[dict[str, float | None], Meta(description="By metric: per list, or per user; null without any.")]
    items: Annotated[float | None, Meta(description="Different items, beside those of the control: 1 is as many.")]


class EffectOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant does to a metric, beside the control. Null: no bound can be given yet."""

    variant: str
    metric: str
    users: int
    control: float | None
    treatment: float | None
    difference: float | None
    low: Annotated[float | None, Meta(description="With `high` it holds the truth at all times together.")]
    high: float | None
    fixed_low: Annotated[float | None, Meta(description="With `fixed_high` for who had fixed this moment before.")]
    fixed_high: float | None
    relative: Annotated[float | None, Meta(description="The difference as a share of the control's rate.")]
    explained: Annotated[float, Meta(description="Share of the variance that the time before explains.")]


class PreferenceOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Which side of interleaved lists users chose, by one metric."""

    metric: str
    credit: Annotated[dict[str, float], Meta(description="By side: items that tell them apart, and were chosen.")]
    decided: Annotated[int, Meta(description="Users who chose more of one side than of the other.")]
    difference: Annotated[float | None, Meta(description="Credit a list of the second side less that of the first.")]
    low: Annotated[float | None, Meta(description="With `high` it holds the truth at all times together.")]
    high: float | None
    fixed_low: float | None
    fixed_high: float | None
    winner: Annotated[str | None, Meta(description="The side that surely wins; null: nobody can be sure yet.")]


class ExperimentReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an experiment so far."""

    name: str
    kind: Literal["ab", "interleaving"]
    state: Literal["draft", "running", "stopped"]
    users: int
    lists: int
    drawn: Annotated[float | None, Meta(description="Probability of such numbers of users; null where none are drawn.")]
    sound: Annotated[bool, Meta(description="False: users were not drawn as they should be; believe no figure.")]
    variants: list[VariantOutcome]
    effects: list[EffectOutcome]
    preferences: list[PreferenceOutcome]
    alone: Annotated[dict[str, int], Meta(description="Lists of one side alone, as the other failed; none counts.")]
