"""What logs and traces call a user: a keyed hash, which nobody without the key can turn back or even guess at.

HMAC-SHA-256 (RFC 2104), the first 64 bits. A plain hash of an id would be undone by hashing all ids. The same user has
the same name while the key is the same: change the key, and earlier logs cannot be tied to later ones.
"""

import hashlib
import hmac

KEY_CHARACTERS = 32


class Pseudonyms:
    """Names of users.

    Args:
        key: At least KEY_CHARACTERS; "" names nobody.
    Raises:
        ValueError: the key is too short to be one.
    """

    def __init__(self, key: str) -> None:
        check_key(key)
        self._key = key.encode()

    def of(self, user_id: str) -> str:
        """16 hexadecimal digits; "" without a key."""
        if not self._key:
            return ""
        return hmac.digest(self._key, user_id.encode(), hashlib.sha256)[:8].hex()


def check_key(key: str) -> None:
    """Raises ValueError where a key is given that is too short."""
    if key and len(key) < KEY_CHARACTERS:
        raise ValueError(f"log_key has {len(key)} characters; at least {KEY_CHARACTERS}: openssl rand -hex 32")
