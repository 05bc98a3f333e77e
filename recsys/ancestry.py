"""From a bundle to the one that it was trained beside, and so on, with what changed from each to the next."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recsys.errors import BundleError, RegistryError
from recsys.features.schema import difference
from recsys.manifest import Manifest

HEADLINE = "NDCG@10"


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One bundle of a chain.

    Attributes:
        changed: What is other than in its parent, a sentence each.
        gone: Why the chain ends here; "" where it goes on.
    """

    id: str
    facts: dict[str, Any]
    changed: list[str]
    gone: str = ""


def ancestry(bundle_id: str, manifest_of: Callable[[str], Manifest], *, most: int) -> list[Ancestor]:
    """At most so many, the bundle itself first; the last one says so where its parent is gone.

    Args:
        manifest_of: Raises RegistryError, BundleError.
    """
    chain: list[Ancestor] = []
    manifest = manifest_of(bundle_id)
    while len(chain) < most:
        fields, parent_id = manifest.fields, manifest.fields.get("parent")
        if not parent_id:
            chain.append(
                Ancestor(manifest.id, facts(fields), [], "it has no parent: nothing served when it was trained")
            )
            break
        try:
            parent = manifest_of(parent_id)
        except (RegistryError, BundleError) as error:
            chain.append(Ancestor(manifest.id, facts(fields), [], f"its parent {parent_id} is gone: {error}"))
            break
        chain.append(Ancestor(manifest.id, facts(fields), changes(parent.fields, fields)))
        manifest = parent
    return chain


def facts(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Where a bundle comes from, of the fields of its manifest; None for what its version did not record."""
    dataset = fields.get("dataset", {})
    return {
        "created": fields["created"],
        "code_commit": fields.get("code_commit"),
        "protocol": fields.get("protocol"),
        "data": dataset.get("name"),
        "data_window": fields.get("data_window"),
        "fingerprint": dataset.get("fingerprint"),
        "content_hash": dataset.get("content_hash"),
        "attribution": dataset.get("attribution"),
        "learnt_from": fields.get("learnt_from"),
        "feature_schema_hash": fields.get("feature_schema_hash"),
        HEADLINE: _headline(fields),
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is other in a bundle than in its parent; from the fields of their manifests."""
    old, new = facts(before), facts(after)
    said = []
    for name in ("code_commit", "protocol", "data", "attribution"):
        if old[name] != new[name]:
            said.append(f"{name}: {old[name]} -> {new[name]}")
    if old["content_hash"] != new["content_hash"] or old["fingerprint"] != new["fingerprint"]:
        events = [of.get("dataset", {}).get("events", "?") for of in (before, after)]
        said.append(f"data are others: {events[0]} -> {events[1]} events")
    for name in ("first", "split", "last"):
        was, now = ((one["data_window"] or {}).get(name) for one in (old, new))
        if was != now:
            said.append(f"data window, {name}: {was} -> {now}")
    said += [f"feature {one}" for one in difference(before.get("features", ()), after.get("features", ()))]
    recipes = before.get("recipe", {}), after.get("recipe", {})
    for name in sorted({*recipes[0], *recipes[1]}):
        was, now = (one.get(name) for one in recipes)
        if was != now:
            said.append(f"recipe, {name}: {was} -> {now}")
    said.append(f"{HEADLINE}, each on its own questions: {_shown(old[HEADLINE])} -> {_shown(new[HEADLINE])}")
    if over := after.get("metrics", {}).get("differences", {}).get(f"{HEADLINE} over champion"):
        said.append(
            f"{HEADLINE} over the parent on the same questions: {over['mean']:+.4f} "
            f"[{over['low']:+.4f}, {over['high']:+.4f}]"
        )
    return said


def _headline(fields: Mapping[str, Any]) -> float | None:
    rows = fields.get("metrics", {}).get("rows", ())
    return rows[0]["metrics"][HEADLINE]["mean"] if rows else None


def _shown(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"
