"""What logs and traces call a user."""

import hashlib
import hmac

import pytest

from service.telemetry.pseudonyms import Pseudonyms

KEY, OTHER = "k" * 32, "o" * 32


def test_name_is_the_keyed_hash_of_the_id() -> None:
    expected = hmac.new(KEY.encode(), "zoë".encode(), hashlib.sha256).hexdigest()[:16]
    assert Pseudonyms(KEY).of("zoë") == expected


def test_name_says_nothing_without_the_key() -> None:
    assert Pseudonyms(KEY).of("u1") != Pseudonyms(OTHER).of("u1")
    assert hashlib.sha256(b"u1").hexdigest()[:16] != Pseudonyms(KEY).of("u1")


def test_nobody_is_named_without_a_key() -> None:
    assert Pseudonyms("").of("u1") == ""


@pytest.mark.parametrize("key", ["x", "x" * 31])
def test_short_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="at least 32"):
        Pseudonyms(key)
