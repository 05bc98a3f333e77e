"""What is up, for those who load it."""

from pathlib import Path

import msgspec

from service.errors import StackError
from service.settings import Settings
from service.stack import application

RESULTS = Path(__file__).with_name("results")
PATH = "/v1/recommendations"
COUNT = 20  # items of a list


class Deployed(msgspec.Struct, frozen=True):
    """What `riffle up` wrote down when it deployed: settings and bundle as they serve now."""

    settings: Settings
    redis_url: str
    bundle: str


def deployed(settings: Settings) -> Deployed:
    """What serves now.

    Raises:
        StackError: nothing of this home is up and ready.
    """
    record = settings.home_path / "run" / "application.json"
    serving = application.readiness(settings).get("bundle")
    try:
        found = msgspec.json.decode(record.read_bytes(), type=Deployed)
    except (OSError, msgspec.DecodeError):
        found = None
    if found is None or serving != found.bundle:
        raise StackError(f"no stack of {settings.home}/ answers at {application.url(settings)}; run `riffle up` first")
    return found
