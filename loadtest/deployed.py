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
    """What `riffle up` wrote down when it deployed: settings as they serve now. bundle: The champion that answers."""

    settings: Settings
    redis_url: str
    bundle: str = ""


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
    if found is None or not serving or not (settings.home_path / "registry" / "bundles" / serving).is_dir():
        raise StackError(f"no stack of {settings.home}/ answers at {application.url(settings)}; run `riffle up` first")
    return msgspec.structs.replace(found, bundle=serving)
