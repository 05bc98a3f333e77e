"""Whose an entry is: by its event or record, by a value in what is neither, by its bytes where nothing decodes."""

import msgspec
import pytest

from service.entry_users import decision_user, event_user, mentioned
from service.state_keys import shard
from tests.service.test_decisions import decision
from tests.service.test_updater import some_events

USERS = ["ann", "4"]
encode = msgspec.msgpack.encode


def entry(raw: bytes, name: bytes = b"e") -> tuple[bytes, list[bytes]]:
    return b"1-1", [name, raw]


@pytest.mark.parametrize(("user", "found"), [("ann", "ann"), ("bob", None), ("44", None)])
def test_an_event_and_a_record_are_their_users(user: str, found: str | None) -> None:
    event = msgspec.structs.replace(some_events(1, seed=1)[0], user_id=user, properties={"friend": "ann"})
    assert event_user(entry(encode(event)), number=shard(user), users=USERS) == found
    record = decision(0, query={"user_id": user, "context": {"friend": "ann"}})
    assert decision_user(entry(encode(record), b"d"), USERS) == found


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (encode(["x", {"y": [1, "ann"]}]), "ann"),
        (encode({"4": None}), "4"),
        (encode(["annie", 4, "44"]), None),
        (b"\xc1 of ann", "ann"),
        (b"\xc1 of bob", None),
        (b"\x91" * 100_000 + encode("ann"), "ann"),  # nested without end
        (b"", None),
    ],
)
def test_what_is_neither_belongs_to_whom_it_mentions(raw: bytes, found: str | None) -> None:
    assert mentioned(entry(raw), b"e", USERS) == found
    assert event_user(entry(raw), number=0, users=USERS) == found
    assert decision_user(entry(raw, b"d"), USERS) == found


def test_an_entry_that_was_just_deleted_is_nobodys() -> None:
    assert event_user((b"1-1", None), number=0, users=USERS) is None
