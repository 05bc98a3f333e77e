"""Why a served item was a candidate: what its user's interactions add, and the training events that tie them to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from recsys.bundle import Bundle
from recsys.contributions import TABLE_OF, Contribution, contributions
from recsys.datasets.dataset import Dataset
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.recommend import retrieve
from recsys.retrieval.content import in_common
from recsys.training.evidence import pair, positives_of
from recsys.training.log import Log
from recsys.types import Source, World
from recsys.users import Users
from recsys.verbs import Verb
from recsys.vocabulary import item_key
from service.decisions import Decision
from service.encoding import SOURCE_NAMES
from service.errors import Unknown
from service.queries import batch_of
from service.record_schemas import Outcome
from service.replay import query_of, replay

CAUSES = 3  # interactions shown of each source


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A data set, and the log of the part of it that a bundle was fitted on."""

    dataset: Dataset
    past: Log


def sources_of(record: Decision, world: World, item_id: str, learnt: Learnt | None, *, events: int) -> dict[str, Any]:
    """The sources that found an item, when its list is made again; of each what the user did that speaks for it.

    Args:
        learnt: None where the data are gone: then no training events are beside them. events: Shown of each pair.
    Raises:
        Unknown: the list cannot be made again, or the item is no candidate then.
    """
    verdict = replay(record, lambda _: world)
    if verdict.outcome is Outcome.NOT_REPLAYABLE:
        raise Unknown(f"the list cannot be made again, and the record does not name sources: {verdict.detail}")
    states, _ = unpack([record.user_state], SCHEMA_HASH)
    batch = batch_of([query_of(record, world.bundle)], states)
    candidates, users = retrieve(world, batch).candidates, Users.of(world, batch)
    row = int(world.bundle.vocabulary.rows(np.array([item_key(item_id)], np.uint64))[0])
    cell = np.flatnonzero(candidates.item == row)
    if not len(cell):
        raise Unknown(f"{item_id!r} is no candidate when the list is made again: {verdict.detail}")
    bits = int(candidates.sources[cell[0]])
    return {
        "replay": verdict.outcome.value,
        "note": "" if verdict.outcome is Outcome.IDENTICAL else verdict.detail,
        "drawn_with": record.item_propensity if bits >> Source.NEW & 1 else None,
        "sources": [
            {
                "source": name,
                "score": float(candidates.source_score[source][cell[0]]),
                "because_of": [
                    _cause(world, one, source, item_id, learnt, events)
                    for one in contributions(world, users, 0, row, source)[:CAUSES]
                ],
            }
            for source, name in zip(_sources(bits), SOURCE_NAMES[bits], strict=True)
        ],
    }


def events_of(learnt: Learnt, item_id: str, *, events: int) -> dict[str, Any]:
    """The positives of an item that a bundle was fitted on: how many, of how many users, and the newest."""
    rows = positives_of(learnt.past, item_key(item_id))
    return {
        "positives": len(rows),
        "users": len(np.unique(learnt.past.user[rows])),
        "newest": [_event(learnt, place) for place in rows[-events:][::-1].tolist()],
    }


def verb_name(verb: int) -> str:
    """A verb for people."""
    return Verb(verb).name.lower() if verb in list(Verb) else f"verb {verb}"


def rfc_3339(epoch_s: int) -> str:
    """A moment in UTC."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat().replace("+00:00", "Z")


def _cause(
    world: World, one: Contribution, source: Source, item_id: str, learnt: Learnt | None, events: int
) -> dict[str, Any]:
    """One interaction of the user, and who of the training data tied it to the item.

    A cell of a table comes with the weight that its events give; that of descriptions, with what is in both. Vectors
    are made from all events at once: beside them stand the users who liked both, who come nearest to a reason.
    """
    cause_id = world.bundle.vocabulary.item_id[one.item]
    said: dict[str, Any] = {"item_id": cause_id, "adds": one.adds, "weight": one.weight}
    if source is Source.CONTENT:
        return said | {"evidence": None, "in_common": _in_common(world.bundle, one.item, item_id)}
    if learnt is None:
        return said | {"evidence": None}
    tied = pair(learnt.past, TABLE_OF.get(source, "similar"), item_key(cause_id), item_key(item_id))
    evidence = {
        "weight": None if one.weight is None else tied.weight,
        "same_weight": None if one.weight is None else bool(np.isclose(tied.weight, one.weight, rtol=1e-4)),
        "times": len(tied.rows),
        "users": tied.users,
        "newest": [
            {"of": _event(learnt, of), "to": _event(learnt, to)} for of, to in tied.rows[-events:][::-1].tolist()
        ],
    }
    return said | {"evidence": evidence}


def _in_common(bundle: Bundle, one: int, item_id: str) -> list[str]:
    other = int(bundle.vocabulary.rows(np.array([item_key(item_id)], np.uint64))[0])
    names = [[bundle.category_name[number] for number in bundle.item_category[row].tolist()] for row in (one, other)]
    return in_common((bundle.title[one], bundle.title[other]), (names[0], names[1]))


def _event(learnt: Learnt, place: int) -> dict[str, Any]:
    past = learnt.past
    return {
        "user_id": learnt.dataset.user_id[int(past.user[place])],
        "item_id": learnt.dataset.item_id[int(past.item[place])],
        "verb": verb_name(int(past.verb[place])),
        "time": rfc_3339(int(past.ts_s[place])),
    }


def _sources(bits: int) -> Sequence[Source]:
    return [source for source in Source if bits >> source & 1]
