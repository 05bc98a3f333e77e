"""From a served item back to the events that trained it, link by link: each is found, or says why it is missing.

decision -> bundle -> data -> sources (what the user's interactions add, and which training events tie them to the item)
-> item (its own training events) -> user (the events that made the state). A link that is missing takes only those with
it that need it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from recsys.ancestry import ancestry
from recsys.datasets.content import content_hash
from recsys.datasets.dataset import Dataset
from recsys.errors import RecsysError
from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from recsys.known_limits import TEMPORAL
from recsys.manifest import Manifest
from recsys.training.log import Log
from recsys.training.splits import PROTOCOLS
from recsys.types import World
from recsys.vocabulary import item_key
from service import causes
from service.causes import Learnt, rfc_3339, verb_name
from service.decisions import Decision, Erased
from service.errors import NotFound, ServiceError, Unknown
from service.replay import ERASED, places
from service.state_keys import shard
from service.state_parity import applied_until, compare_states
from service.user_history import UserHistory

GENERATIONS = 5  # bundles of the chain of parents


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the walk. missing: Why there is nothing in `found`; "" where it is found."""

    name: str
    found: dict[str, Any] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class Records:
    """Where the walk looks things up; each raises RecsysError or ServiceError where it is gone.

    Attributes:
        manifest_of: Of a bundle. world_of: That a record was made in.
        data_of: What a bundle was trained on, of its manifest, as far as it is still there.
        history_of: What the users of a shard did.
    """

    manifest_of: Callable[[str], Manifest]
    world_of: Callable[[Decision], World]
    data_of: Callable[[Manifest], Dataset]
    history_of: Callable[[int], UserHistory]


def lineage(record: Decision | Erased, item_id: str | None, records: Records, *, events: int) -> list[Link]:
    """Walk from an item of an answer to the events behind it.

    Args:
        item_id: The first of the list where none is named. events: Shown of each kind, at most, the newest.
    Raises:
        NotFound: the answer did not have the item.
    """
    if isinstance(record, Erased):
        return [Link("decision", missing=f"{record.id}: {ERASED}; what is left does not say which bundle made it")]
    item_id = _item(record, item_id)
    walk = _Walk(record, item_id, records, events)
    return [
        Link("decision", _decision(record, item_id)),
        _link("bundle", walk.bundle),
        _link("data", walk.data),
        _link("sources", walk.sources),
        _link("item", walk.item),
        _link("user", walk.user),
    ]


@dataclass
class _Walk:
    record: Decision
    item_id: str
    records: Records
    events: int
    _learnt: Learnt | None = None  # once the data are found

    def bundle(self) -> dict[str, Any]:
        chain = ancestry(self.record.bundle, self.records.manifest_of, most=GENERATIONS)
        return {"id": chain[0].id, **chain[0].facts, "chain": [msgspec.to_builtins(one) for one in chain]}

    def data(self) -> dict[str, Any]:
        manifest = self.records.manifest_of(self.record.bundle)
        dataset, fields = self.records.data_of(manifest), manifest.fields
        past = _past(Log.of(dataset), fields)
        self._learnt = Learnt(dataset, past)
        now, then = content_hash(dataset), fields["dataset"].get("content_hash")
        learnt, recorded = past.counts(), fields.get("learnt_from")
        return {
            "name": dataset.name,
            "attribution": dataset.attribution,
            "content_hash": now,
            "same_as_trained_on": None if then is None else now == then,
            "note": _note(now, then, learnt, recorded),
            "learnt_from": learnt,
            "archived": [list(one) for one in dataset.archived],
        }

    def sources(self) -> dict[str, Any]:
        world = self.records.world_of(self.record)
        return causes.sources_of(self.record, world, self.item_id, self._learnt, events=self.events)

    def item(self) -> dict[str, Any]:
        if self._learnt is None:
            raise Unknown("the data are missing, see there")
        return {"item_id": self.item_id} | causes.events_of(self._learnt, self.item_id, events=self.events)

    def user(self) -> dict[str, Any]:
        request = self.record.query
        user = request.get("user_id") if isinstance(request, dict) else None
        if not isinstance(user, str):
            raise Unknown(f"answers of kind {self.record.kind!r} are nobody's")
        session = (request.get("session") or {}).get("item_ids", [])
        if self.record.user_state is None:
            return {
                "user_id": user,
                "session": session,
                "events": 0,
                "newest": [],
                "same_state": None,
                "note": "no state",
            }
        states, problems = unpack([self.record.user_state], SCHEMA_HASH)
        if problems:
            raise Unknown(f"the recorded state does not decode: {problems[0]}")
        history = self.records.history_of(shard(user))
        mine = history.places(user)
        until = (int(states.event_id[0, 0]), int(states.event_id[0, 1]))
        mine = mine[: applied_until(history.events.event_id[mine], until)]
        if not len(mine):
            raise Unknown(f"no event of {user!r} is there any more, neither imported nor archived nor in the log")
        (compared,) = compare_states([self.record], states, history)
        same = compared.unequal is None
        return {
            "user_id": user,
            "session": session,
            "events": len(mine),
            "newest": [self._done(history, place) for place in mine[-self.events :][::-1].tolist()],
            "same_state": same,
            "note": "" if same else "these events do not give the recorded state; `riffle features verify` says where",
        }

    def _done(self, history: UserHistory, place: int) -> dict[str, Any]:
        events = history.events
        return {
            "item_id": self._name(int(events.item_key[place])),
            "verb": verb_name(int(events.verb[place])),
            "time": rfc_3339(int(events.ts_s[place])),
            "lies_in": history.lies_in(place),
            "position": events.event_id[place].tolist(),
        }

    def _name(self, key: int) -> str:
        known = self._learnt.dataset.item_id if self._learnt else []
        return next((one for one in known if item_key(one) == key), f"key {key:016x}")


def _link(name: str, find: Callable[[], dict[str, Any]]) -> Link:
    try:
        return Link(name, find())
    except (RecsysError, ServiceError, msgspec.ValidationError) as error:
        return Link(name, missing=str(error))
    except KeyError as error:
        return Link(name, missing=f"the bundle's manifest has no {error}: it is of another version, or was not trained")


def _past(log: Log, fields: Mapping[str, Any]) -> Log:
    """What was learnt from: by the recorded moment where one divided it, whatever has left the log since."""
    if fields["protocol"] in TEMPORAL:
        return log.until(int(datetime.fromisoformat(fields["data_window"]["split"]).timestamp()))
    return PROTOCOLS[fields["protocol"]](log, seed=fields["recipe"]["seed"]).past


def _item(record: Decision, item_id: str | None) -> str:
    if not record.items:
        raise NotFound(f"{record.id} had no items")
    if item_id is None:
        return record.items[0]
    if item_id not in record.items:
        raise NotFound(f"{item_id!r} is not in {record.id}; it had {', '.join(record.items[:10])}")
    return item_id


def _decision(record: Decision, item_id: str) -> dict[str, Any]:
    place = next(one for one in places(record) if one.item_id == item_id)
    return {
        "recommendation_id": record.id,
        "kind": record.kind,
        "time": rfc_3339(record.time_ms // 1000),
        "item_id": item_id,
        "rank": place.rank,
        "of": len(record.items),
        "score": place.score,
        "bundle": record.bundle,
        "item_stats": record.item_stats,
        "variants": record.variants,
        "degraded": record.degraded,
    }


def _note(now: str, then: str | None, learnt: dict[str, int], recorded: dict[str, int] | None) -> str:
    if then is None:
        return "its version did not record what the data held, so nobody can tell whether these are the same"
    if now == then:
        return ""
    gone = {name: recorded[name] - learnt[name] for name in learnt if recorded and recorded[name] != learnt[name]}
    said = ", ".join(
        f"{count:,} {name} less" if count > 0 else f"{-count:,} {name} more" for name, count in gone.items()
    )
    return f"not the data that it was trained on: {said or 'other values'}; forgotten users are left out since"
