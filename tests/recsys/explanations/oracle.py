"""What became of an item, read off the full trace by definition: slow, and with none of the code that is tested."""

from dataclasses import dataclass, field, replace

import numpy as np

from recsys.explanations.why_not import Verdict
from recsys.filtering import Reason
from recsys.recommend import rank, recommend, retrieve
from recsys.types import Source, World
from recsys.users import with_session
from tests.worlds import Ask, batch_of

RULES = {
    "diversity": {"diversity": 0.0},
    "popularity_damping": {"popularity_damping": 0.0},
    "quotas": {"quotas": ()},
    "exploration": {"explore": 0.0},
}
EVERY: dict[str, object] = {name: value for fields in RULES.values() for name, value in fields.items()}


@dataclass(frozen=True)
class Stages:
    """All stages of one request."""

    world: World
    ask: Ask
    listed: list[int]
    candidates: list[int]
    score: dict[int, float]
    worth: dict[int, float]
    explored: int
    otherwise: dict[str, "Stages"] = field(default_factory=dict)

    @classmethod
    def of(cls, world: World, ask: Ask) -> "Stages":
        batch = batch_of(world, [ask])
        retrieved = retrieve(world, batch)
        score = rank(world, batch, retrieved).score.tolist()
        candidates = retrieved.candidates.item.tolist()
        by_chance = (retrieved.candidates.sources == 1 << Source.NEW).tolist()
        worth = [-np.inf if chance else one for one, chance in zip(score, by_chance, strict=True)]
        return cls(
            world,
            ask,
            recommend(world, batch).item.tolist(),
            candidates,
            dict(zip(candidates, score, strict=True)),
            dict(zip(candidates, worth, strict=True)),
            int(retrieved.explored[0]),
        )

    @property
    def by_score(self) -> list[int]:
        """Candidates, best first; equal ones in their order."""
        return sorted(self.candidates, key=lambda item: -self.worth[item])

    def reasons(self, item: int) -> list[Reason]:
        """All that rule an item out."""
        states = with_session(batch_of(self.world, [self.ask]))
        key = int(self.world.bundle.vocabulary.key[item])
        number = self.world.bundle.category_number
        wanted = {number[name] for name in self.ask.categories}
        excluded = batch_of(self.world, [self.ask]).excluded.values.tolist()
        ring = states.item_key[0, : states.length[0]].tolist()
        found = []
        if not self.world.item_stats.available[item]:
            found.append(Reason.UNAVAILABLE)
        if wanted and not wanted & set(self.world.bundle.item_category[item].tolist()):
            found.append(Reason.CATEGORY)
        if key in ring or key >> 32 in states.seen[0, : states.seen_count[0]].tolist():
            found.append(Reason.SEEN)
        if key in excluded:
            found.append(Reason.EXCLUDED)
        return found

    def verdict(self, item: int) -> Verdict:
        """What became of an item of the bundle."""
        if item in self.listed:
            return Verdict.LISTED
        if self.reasons(item):
            return Verdict.FILTERED
        if item not in self.candidates:
            return Verdict.NOT_RETRIEVED
        return Verdict.DISPLACED if self.displaced_by(item) else Verdict.OUTRANKED

    def displaced_by(self, item: int) -> list[str]:
        """Rules without which it is listed: each alone, or all together."""
        active = self._in_force()
        alone = [name for name in active if item in self.without(name).listed]
        return alone or (active if len(active) > 1 and item in self.without("all").listed else [])

    def _in_force(self) -> list[str]:
        ask = self.ask
        given = (ask.diversity > 0, ask.popularity_damping > 0, len(ask.quotas) > 0, self.explored >= 0)
        return [name for name, is_given in zip(RULES, given, strict=True) if is_given]

    def without(self, rule: str) -> "Stages":
        """The stages of a request that never had a rule, or any ("all")."""
        if rule not in self.otherwise:
            fields = EVERY if rule == "all" else RULES[rule]
            self.otherwise[rule] = Stages.of(self.world, replace(self.ask, **fields))  # type: ignore[arg-type]
        return self.otherwise[rule]
