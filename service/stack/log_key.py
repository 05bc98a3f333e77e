"""The key by which logs and traces name users: that of the settings, or one that this home makes once and keeps."""

import secrets
from pathlib import Path

from service.errors import StackError
from service.settings import Settings
from service.telemetry.pseudonyms import check_key


def log_key(settings: Settings) -> str:
    """The key; made where there is none.

    Raises:
        StackError: the one that is kept cannot be read, is empty or too short; the message names the file.
    """
    if settings.log_key:
        return settings.log_key
    path = key_file(settings)
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.touch(mode=0o600)
            temporary.write_text(secrets.token_hex(32), "ascii")
            temporary.replace(path)
        key = path.read_text("ascii").strip()
        check_key(key)
    except (OSError, ValueError) as error:
        raise StackError(f"{path} has no key for logs: {error}; remove it, and the next start makes one") from error
    if not key:
        raise StackError(f"{path} is empty; remove it, and the next start makes a key for logs")
    return key


def key_file(settings: Settings) -> Path:
    """Where this home keeps its key, readable by its owner alone."""
    return settings.home_path / "run" / "log-key"
