"""A bundle on one page: what it is, what it learnt from, how it was judged, and where it is known to fall short.

Sections are those of Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. A card is made from what the bundle
holds whenever somebody asks, so it cannot say anything else than the bundle does.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys.datasets.checks.finding import moment
from recsys.errors import BundleError
from recsys.evaluation.report import Report, shown
from recsys.known_limits import Limit, known_limits
from recsys.manifest import Manifest, verify

CHECKS = "data_checks.json"
_OF_TREES = ("loss", "tree_seeds", "depth", "learning_rate")
_RANKER = ("linear", "loss", "trees", "tree_seeds", "depth", "learning_rate")
_USE = (
    "Orders the items of one catalogue for a user whose last interactions are known at the moment of asking, as "
    "`recommend()` of the commit above does.",
    "Scores order one list; they are no probabilities, and not to be compared between lists or people.",
    "Not for decisions about people: it was judged by which items users take next, and by nothing else.",
)


@dataclass(frozen=True)
class Card:
    """A model card.

    Attributes:
        details: Origin, recipe, sizes. data: What was learnt from, and on what terms. evaluation: How it was asked.
        features: Name -> share of the changes of the ranker's score, percent, and what the feature says.
        sources: Name -> share of the right answers that are no candidates without it; below 0 where there are more.
    """

    id: str
    details: dict[str, Any]
    data: dict[str, Any]
    evaluation: dict[str, Any]
    features: dict[str, dict[str, Any]]
    sources: dict[str, float]
    report: Report
    limits: list[Limit]

    @classmethod
    def read(cls, directory: Path) -> "Card":
        """The card of a bundle, every byte of which is as published; also of one of another feature schema.

        Raises:
            BundleError: it is damaged, or lacks what a trained bundle has.
        """
        manifest = verify(directory)
        try:
            checks = json.loads((directory / CHECKS).read_bytes()) if CHECKS in manifest.files else {}
            return cls.of(manifest, checks)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{directory} has no model card: its manifest lacks {error}; train it anew") from error

    @classmethod
    def of(cls, manifest: Manifest, checks: Mapping[str, Any]) -> "Card":
        """From a manifest and the findings of the data checks. Raises KeyError where the manifest lacks something."""
        fields = manifest.fields
        report, recipe, dataset = Report.from_json(fields["metrics"]), fields["recipe"], fields["dataset"]
        meaning = {one["name"]: one["meaning"] for one in fields.get("features", ()) if "meaning" in one}
        everything = fields["candidate_recall"].get("all")
        return cls(
            id=manifest.id,
            details={
                "created": fields["created"],
                "parent": fields["parent"],
                "code commit": fields["code_commit"],
                "feature schema": fields["feature_schema_hash"],
                "sources": ", ".join(recipe["sources"]),
                "factors": recipe["factors"],
                "ranker": ", ".join(
                    f"{name} {recipe[name]}"
                    for name in _RANKER
                    if name in recipe and (recipe.get("trees") or name not in _OF_TREES)
                ),
                "objective": recipe["objective"] or "a positive is worth 1",
                "seed": recipe["seed"],
                "files": len(manifest.files),
                "bytes": sum(one.size for one in manifest.files.values()),
            },
            data={
                "name": dataset["name"],
                "title": dataset["title"],
                "made by, and terms": dataset["attribution"] or "not stated",
                "invented": dataset["synthetic"],
                "window": dict(fields["data_window"]),
                "all of it": {k: dataset.get(k, "not recorded") for k in ("users", "items", "events", "impressions")},
                "learnt from": fields.get("learnt_from", "not recorded"),
                "left out as junk": _screened(dataset.get("screened_since_ms")),
                "source files (SHA-256)": dataset["fingerprint"],
                "content (SHA-256)": dataset.get("content_hash", "not recorded"),
            },
            evaluation={
                "protocol": report.protocol,
                "questions": report.questions,
                "users": report.users,
                "after": fields["data_window"]["split"],
            },
            features={
                name: {"percent": round(share, 2)} | ({"meaning": meaning[name]} if name in meaning else {})
                for name, share in sorted(fields["feature_importance"].items(), key=lambda one: -one[1])
            },
            sources={} if everything is None else _alone(fields["candidate_recall"], everything),
            report=report,
            limits=known_limits(fields, report, checks),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, all of the card."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "intended_use": list(_USE),
            "report": self.report.to_json(),
            "limits": [asdict(one) for one in self.limits],
        }

    def markdown(self) -> str:
        """The card as a page, in the order of the sections of the paper."""
        first = self.report.rows[0]
        beyond = ", ".join(f"{name} {value:.3f}" for name, value in first.beyond.items())
        lines = [f"# Model card of {self.id}", "", "## Model details", "", *_listed(self.details), ""]
        lines += ["## Intended use", "", *(f"- {one}" for one in _USE), ""]
        lines += ["## Factors", "", "Users by how much is known of them, items by how many liked them:", ""]
        lines += [*(f"- {name}: {_answers(one)}" for name, one in self.report.segments.items()), ""]
        lines += ["## Metrics", ""]
        lines += [f"- {name}: {shown(value)}" for name, value in first.metrics.items()]
        lines += ["", f"Means and 95 % bootstrap intervals over users. Of the lists of ten: {beyond}.", ""]
        lines += ["## Evaluation data", "", *_listed(self.evaluation), ""]
        lines += ["## Training data", "", *_listed(self.data), ""]
        lines += ["## Quantitative analyses", "", self.report.markdown().rstrip(), "", *self._inputs()]
        lines += ["## Ethical considerations", "", *(f"- {one}" for one in self._ethics()), ""]
        lines += ["## Caveats and recommendations", "", *(f"- {one.sentence}" for one in self.limits), ""]
        return "\n".join(lines)

    def _inputs(self) -> list[str]:
        lines = ["What the ranker's score changes with, percent:", ""]
        lines += [f"- {name} {one['percent']:.1f}" for name, one in list(self.features.items())[:10]]
        if self.sources:
            lines += ["", "Right answers among the candidates, as many as ever, without one source:", ""]
            lines += [f"- {name}: {0.0 - one:+.1%}" for name, one in self.sources.items()]
        return [*lines, ""]

    def _ethics(self) -> list[str]:
        beyond = self.report.rows[0].beyond
        said = ["It holds items, no user and nothing that one user did (decision 0016)."]
        said.append(f"Data: {self.data['made by, and terms']}")
        if "Gini" in beyond:
            said.append(f"How unequally lists share out attention among items, 0 to 1 (Gini): {beyond['Gini']:.3f}.")
        if "miscalibration" in beyond:
            said.append(
                "How far the categories of lists are from those of what users liked (Kullback-Leibler, 0: the same): "
                f"{beyond['miscalibration']:.3f}."
            )
        return said


def _screened(since_ms: int | None) -> str:
    return "nothing" if since_ms is None else f"what screening took for no person's, from {moment(since_ms)} on"


def _alone(recall: Mapping[str, float], everything: float) -> dict[str, float]:
    """What the right answers among the candidates lose without each source."""
    return {name.removeprefix("without "): everything - one for name, one in recall.items() if name != "all"}


def _listed(facts: Mapping[str, Any]) -> list[str]:
    return [f"- {name}: {_said(value)}" for name, value in facts.items()]


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else str(value)


def _answers(one: Mapping[str, float]) -> str:
    users = f" of {one['users']:,.0f} users" if "users" in one else ""
    return f"{one['answers']:,.0f} right answers{users}"
