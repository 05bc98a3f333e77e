"""A verdict about an item that is not on a list, in a sentence or two."""

from recsys.explanations.why_not import Verdict, WhyNot
from recsys.explanations.words import GROUP
from recsys.filtering import Reason

_FILTERED = {
    Reason.UNAVAILABLE: "it is not available",
    Reason.CATEGORY: "it has none of the categories asked for",
    Reason.SEEN: "the user has met it already",
    Reason.EXCLUDED: "the request excludes it",
}
_CAUSES = {  # of a lower score, by the group of the features
    "last_interactions": "what the user did last",
    "similar_items": "its ties to what the user met",
    "taste": "the user's taste as a whole",
    "content": "how it is described",
    "categories": "its categories",
    "demand": "how much it is asked for",
    "reception": "how it was received",
    "sources": "the sources that found it, and where",
    "user": "who asks",
}


def sentence(found: WhyNot) -> str:
    """What kept the item off, and what would be otherwise."""
    match found.verdict:
        case Verdict.NOT_IN_BUNDLE:
            return "The bundle of this answer does not have it: nothing could offer it."
        case Verdict.LISTED:
            return f"It is on the list, at rank {found.rank} of {found.count}."
        case Verdict.FILTERED:
            return f"Ruled out: {' and '.join(_FILTERED[one] for one in found.reasons)}. {_lifted(found)}"
        case Verdict.NOT_RETRIEVED:
            return _not_retrieved(found)
        case Verdict.DISPLACED:
            return _displaced(found)
    return _outranked(found)


def _lifted(found: WhyNot) -> str:
    other = found.otherwise
    if other is None:
        return ""
    if other.verdict is Verdict.LISTED:
        return f"Without that it would be at rank {other.rank}."
    return f"Without that it would still not be on the list. {sentence(other)}"


def _not_retrieved(found: WhyNot) -> str:
    if found.fused:
        return (
            f"Sources brought it, but together they put it at {found.fused}, and {found.ranked} are ranked. "
            f"{_nearest(found)}"
        )
    return f"No source brought it. {_nearest(found)}"


def _nearest(found: WhyNot) -> str:
    """The sources that came nearest to bringing it."""
    near = [(whole.place[0], held, whole) for held, whole in found.offered if whole.place[0]]
    if not near:
        return "None has any tie to it."
    near.sort(key=lambda one: int(one[0]) / max(one[1].length, 1))
    parts = [f"{held.source.name.lower()} has it at {place}, and brings {held.length}" for place, held, _ in near[:3]]
    return f"{'; '.join(parts)}."


def _displaced(found: WhyNot) -> str:
    names = " and ".join(one.replace("_", " ") for one in found.rules)
    key = "all" if "all" in found.without else str(found.rules[0])
    together = " together" if "all" in found.without else ""
    return (
        f"By its score it is number {found.rank} for {found.count} places, but {names} kept it off{together}: without, "
        f"it is at rank {found.without[key].rank}."
    )


def _outranked(found: WhyNot) -> str:
    causes = " and ".join(dict.fromkeys(_CAUSES[GROUP[name]] for name in found.costs))
    return (
        f"Ranked at {found.rank} of {found.ranked}, for {found.count} places; its score is {found.gap:.3g} below that "
        f"of the last place{f', most of it by {causes}' if causes else ''}."
    )
