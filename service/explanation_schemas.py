"""The JSON of explanations: why the items of a list are on it, and why another one is not."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from recsys.explanations.rules import Rule
from recsys.explanations.why_not import Verdict

Rank = Annotated[int, Meta(ge=1)]
Features = Annotated[dict[str, float], Meta(description="By feature; those that add nothing are left out.")]


class Because(msgspec.Struct, frozen=True, kw_only=True):
    """One reason, in words. Items that the user met are named only where the list was made without each of them."""

    code: Annotated[str, Meta(description="`because_of_items`, `new`, or the group that speaks for the item.")]
    text: str
    item_ids: list[str] | UnsetType = UNSET


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """What a group of features adds to a score. With `base` all groups add up to it."""

    group: str
    value: float
    features: Features


class Counterfactual(msgspec.Struct, frozen=True, kw_only=True):
    """The rank of an item in the list that was made as if the user had never met another one."""

    without: Annotated[str, Meta(description="The item never met.")]
    from_: Rank = msgspec.field(name="from")
    to: Annotated[
        int | None,
        Meta(description="null: behind the first 50 and the list, or no source finds it any more."),
    ]


class ItemExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why one item is where it is."""

    item_id: str
    rank: Rank
    score: float
    rank_by_score: Annotated[int, Meta(ge=1, description="Another one than `rank` where rules moved it.")]
    because: list[Because]
    contributions: list[Contribution]
    sources: Annotated[dict[str, int], Meta(description="Who found it, and its place in the list of each.")]
    counterfactuals: Annotated[
        list[Counterfactual],
        Meta(description="The deepest falls; none where no one item is. The item left out is still not offered."),
    ]
    rank_of_unknown_user: Annotated[
        int | None, Meta(description="Where nothing but what is not to be offered again was known; null as in `to`.")
    ]


class RuleEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule did to the list: it was made without it."""

    rule: Rule
    kept_off: Annotated[list[str], Meta(description="Items that are on the list without the rule.")]
    let_on: Annotated[list[str], Meta(description="Items that are not.")]
    moved: Annotated[int, Meta(description="Items of both whose rank is another one.")]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a list is as it is."""

    base: Annotated[float, Meta(description="Mean of the trees, and share at mean log-odds, over all candidates.")]
    ranked: Annotated[int, Meta(description="Candidates that the list was chosen from.")]
    removed: Annotated[dict[str, int], Meta(description="Items of the bundle that were ruled out, by reason.")]
    tried: Annotated[list[str], Meta(description="Items that the user met without which the list was made again.")]
    rules: Annotated[list[RuleEffect], Meta(description="Those in force besides the scores.")]
    items: list[ItemExplanation]


class SourcePlace(msgspec.Struct, frozen=True, kw_only=True):
    """One source and an item."""

    source: str
    place: Annotated[int | None, Meta(description="In what it brought; null: not in it.")]
    brought: int
    would_be: Annotated[int | None, Meta(description="In all that it could bring; null: it has no tie to the item.")]
    of: int


class WithoutRule(msgspec.Struct, frozen=True, kw_only=True):
    """What the list came to without a rule, or without all of them."""

    rule: Annotated[str, Meta(description="Or `all`.")]
    listed: bool
    rank: Annotated[int | None, Meta(description="In that list, else by score; null: no candidate.")]


class WhyNot(msgspec.Struct, frozen=True, kw_only=True):
    """Why an item is not on a list. What a verdict has nothing to say about is absent."""

    verdict: Verdict
    text: str
    rank: Annotated[int, Meta(ge=1, description="By score alone; of what is listed, in the list.")] | UnsetType = UNSET
    ranked: int | UnsetType = UNSET
    filters: Annotated[list[str], Meta(description="All that rule it out.")] | UnsetType = UNSET
    without_filters: Annotated["WhyNot", Meta(description="The verdict where they do not.")] | UnsetType = UNSET
    sources: list[SourcePlace] | UnsetType = UNSET
    fused_place: (
        Annotated[int, Meta(description="Where all sources together put it, if any brought it.")] | UnsetType
    ) = UNSET
    gap: Annotated[float, Meta(description="To the score of the last place.")] | UnsetType = UNSET
    costs: Annotated[dict[str, float], Meta(description="The features that cost it most of that.")] | UnsetType = UNSET
    displaced_by: list[Rule] | UnsetType = UNSET
    without_rules: list[WithoutRule] | UnsetType = UNSET
