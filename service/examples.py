"""Requests and answers that the OpenAPI document shows."""

from typing import Any

REQUEST_EXAMPLES: dict[str, dict[str, Any]] = {
    "known_user": {"user_id": "42", "count": 10},
    "anonymous_session": {
        "user_id": "visitor-7f3a",
        "session": {"item_ids": ["50", "172"]},
        "return": {"reasons": True},
    },
    "everything": {
        "user_id": "42",
        "count": 5,
        "placement": "home",
        "session": {"id": "s-9", "item_ids": ["181"]},
        "context": {"device": "ios", "hour": 21, "temperature": 18.5, "signed_in": True},
        "exclude_item_ids": ["1"],
        "filter": {"categories": {"any": ["Comedy", "Drama"]}},
        "quotas": [{"category": "Drama", "max": 3}],
        "diversity": 0.3,
        "popularity_damping": 0.25,
        "return": {"metadata": True, "scores": True, "reasons": True, "explain": False},
        "deadline_ms": 80,
        "priority": "high",
        "validate_only": False,
    },
}
SIMILAR_EXAMPLES: dict[str, dict[str, Any]] = {
    "one_item": {"item_ids": ["50"]},
    "a_basket": {"item_ids": ["50", "172"], "count": 5, "filter": {"categories": {"any": ["Sci-Fi"]}}},
}
EVENTS_EXAMPLES: dict[str, dict[str, Any]] = {
    "a_click": {
        "events": [
            {
                "event_id": "7c1f",
                "type": "click",
                "user_id": "42",
                "item_id": "50",
                "ts": "2026-11-23T12:00:00Z",
                "recommendation_id": "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11",
                "position": 1,
            }
        ]
    },
}
EVENTS_ANSWER = {"accepted": 1, "refused": 0, "results": [{"event_id": "7c1f", "status": 202}]}
_LIST: dict[str, Any] = {
    "recommendation_id": "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11",
    "bundle": "20261123-5a4d0202f9b0",
    "variants": {"closer-things": "b"},
    "items": [
        {
            "item_id": "1210",
            "rank": 1,
            "score": 0.83,
            "sources": ["als", "transitions"],
            "metadata": {"title": "Star Wars: Episode VI - Return of the Jedi (1983)"},
        }
    ],
    "degraded": [],
    "filled": {"requested": 1, "returned": 1},
    "quality": 1.0,
    "unknown_ids": [],
    "timing_ms": {"total": 4.1, "features": 0.6, "retrieve": 1.2, "rank": 1.5},
}
RECOMMENDATION_ANSWER = {**_LIST, "placement": "home", "strategy": "personalized"}
SIMILAR_ANSWER = _LIST
RECORDED_ANSWER: dict[str, Any] = {
    "recommendation_id": "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11",
    "kind": "recommendations",
    "time": "2026-11-23T12:00:00.000Z",
    "bundle": "20261123-5a4d0202f9b0",
    "item_stats": "20261123-5a4d0202f9b0",
    "variants": {},
    "propensity": 1.0,
    "overridden": [],
    "query": {"user_id": "42", "count": 1},
    "diversity": 0.0,
    "user_state": {
        "bytes": 984,
        "interactions": 120,
        "positives": 88,
        "recent": [{"verb": "like", "time": "2026-11-23T11:58:03.000Z", "item_id": "50"}],
    },
    "items": [{"rank": 1, "item_id": "1210", "score": 0.83}],
    "removed": {"unavailable": 3, "category": 0, "seen": 120, "excluded": 0},
    "ranked": 200,
    "degraded": [],
    "timing_ms": {"total": 4.1, "features": 0.6, "retrieve": 1.2, "rank": 1.5},
}
_REMOVED = RECORDED_ANSWER["removed"]
REPLAY: dict[str, Any] = {
    "recommendation_id": "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11",
    "outcome": "different",
    "stage": "features",
    "features": ["cross_als"],
    "detail": "the candidates are the same, these features are not: cross_als; "
    "rank 1: '1210' with score 0.83 served, '1196' with score 0.85 now",
    "served": {"removed": _REMOVED, "ranked": 200, "place": {"rank": 1, "item_id": "1210", "score": 0.83}},
    "now": {"removed": _REMOVED, "ranked": 200, "place": {"rank": 1, "item_id": "1196", "score": 0.85}},
}

EXPLANATION: dict[str, Any] = {
    "base": 0.0043,
    "ranked": 200,
    "removed": _REMOVED,
    "tried": ["50", "172"],
    "rules": [{"rule": "diversity", "kept_off": ["1196"], "let_on": ["1210"], "moved": 3}],
    "items": [
        {
            "item_id": "1210",
            "rank": 1,
            "score": 0.83,
            "rank_by_score": 1,
            "because": [
                {
                    "code": "because_of_items",
                    "text": "because you liked Star Wars (1977)",
                    "item_ids": ["50"],
                },
                {"code": "demand", "text": "trending in Sci-Fi (number 3 these weeks)"},
            ],
            "contributions": [
                {"group": "last_interactions", "value": 0.6357, "features": {"cross_transitions": 0.6357}},
                {"group": "demand", "value": 0.19, "features": {"item_log_trend": 0.19}},
            ],
            "sources": {"als": 12, "transitions": 1},
            "counterfactuals": [{"without": "50", "from": 1, "to": 41}],
            "rank_of_unknown_user": None,
        }
    ],
}
RECORDED_EXPLANATION: dict[str, Any] = {
    "recommendation_id": "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11",
    "outcome": "identical",
    "explanation": EXPLANATION,
}
WHY_NOT_EXAMPLES: dict[str, dict[str, Any]] = {"an_item": {"item_id": "1196"}}
RECORDED_WHY_NOT: dict[str, Any] = {
    "recommendation_id": "019ab1f2-5c1e-7d0a-9b63-0f4f3a9d2c11",
    "outcome": "identical",
    "item_id": "1196",
    "why_not": {
        "verdict": "displaced",
        "text": "By its score it is number 4 for 20 places, but diversity kept it off: without, it is at rank 4.",
        "rank": 4,
        "ranked": 200,
        "displaced_by": ["diversity"],
        "without_rules": [{"rule": "diversity", "listed": True, "rank": 4}],
    },
}

ITEM_EXAMPLES: dict[str, dict[str, Any]] = {
    "a_new_item": {"title": "A new film (2026)", "categories": ["Drama", "Sci-Fi"]},
    "from_tomorrow_on": {"title": "A series", "categories": ["Drama"], "publish_at": "2026-11-24T06:00:00Z"},
}
ITEM_PATCH_EXAMPLES: dict[str, dict[str, Any]] = {
    "sold_out": {"available": False},
    "for_a_week": {"expires_at": "2026-11-30T23:59:59+01:00"},
}
ITEMS_EXAMPLES: dict[str, dict[str, Any]] = {
    "two": {
        "items": [{"item_id": "2001", "title": "One", "categories": ["Drama"]}, {"item_id": "50", "available": False}]
    }
}
ITEM_STATE: dict[str, Any] = {
    "item_id": "2001",
    "title": "A new film (2026)",
    "categories": ["Drama", "Sci-Fi"],
    "available": True,
    "publish_at": None,
    "expires_at": None,
    "deleted": False,
}
ERASURE: dict[str, Any] = {
    "receipt_id": "5b1f0c3a9d2e4f60b7a1c2d3e4f50617",
    "user": "9c1d6a7f0e2b4c8d93a5b6c7d8e9f001",
    "status": "done",
    "requested_at": "2026-11-23T12:00:00.000Z",
    "refused_until": "2026-12-23T12:00:00.000Z",
    "done_at": "2026-11-23T12:00:08.000Z",
    "removed": {"archived_events": 31, "events": 4, "archived_decisions": 12, "decisions": 12, "imported_events": 120},
}
MERGE_EXAMPLES: dict[str, dict[str, Any]] = {"after_logging_in": {"from_user_id": "session-8c1f"}}
MERGE: dict[str, Any] = {"user_id": "42", "from_user_id": "session-8c1f", "merged": 5, "unknown_items": 0}
EXPERIMENT_EXAMPLES: dict[str, dict[str, Any]] = {
    "a_setting": {
        "name": "closer",
        "variants": [{"name": "control", "share": 50}, {"name": "mixed", "share": 50, "diversity": 0.3}],
        "who": "ann@shop",
        "reason": "do mixed lists please?",
    },
    "two_bundles_in_one_list": {
        "name": "challenge",
        "kind": "interleaving",
        "variants": [{"name": "control", "share": 50}, {"name": "new", "share": 50, "bundle": "challenger"}],
        "share": 20,
        "placements": ["home"],
        "who": "ann@shop",
        "reason": "which one do people choose?",
    },
}
EXPERIMENT_CHANGE_EXAMPLES: dict[str, dict[str, Any]] = {"why": {"who": "ann@shop", "reason": "begin"}}
EXPERIMENT_STATE: dict[str, Any] = {
    "name": "challenge",
    "kind": "interleaving",
    "state": "running",
    "layer": "default",
    "share": 20.0,
    "placements": ["home"],
    "variants": [
        {"name": "control", "share": 50.0},
        {"name": "new", "share": 50.0, "bundle": "20261123-5a4d0202f9b0"},
    ],
    "started": "2026-11-23T12:00:00.000+00:00",
    "stopped": None,
    "version": 7,
}
EXPERIMENT_REPORT: dict[str, Any] = {
    "name": "challenge",
    "kind": "interleaving",
    "state": "running",
    "users": 812,
    "lists": 3120,
    "drawn": None,
    "sound": True,
    "variants": [],
    "effects": [],
    "preferences": [
        {
            "metric": "clicked",
            "credit": {"control": 402.0, "new": 497.0},
            "decided": 391,
            "difference": 0.0304,
            "low": 0.0061,
            "high": 0.0547,
            "fixed_low": 0.0148,
            "fixed_high": 0.046,
            "winner": "new",
        }
    ],
    "alone": {"control": 0, "new": 0},
}
