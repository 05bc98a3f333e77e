"""Which bundle has which name, as a log of changes: numbered files, each created once and never written again.

The next number belongs to whoever creates its file first, so two writers at once cannot both believe that they changed
the same state: compare-and-swap without a lock. A file says what was changed, by whom and why, and what is so after it;
to know what is so now is to read the newest. Names are `champion`, `challenger`, `shadow`, and whatever else is wanted.
"""

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec

from recsys.change_files import ChangeFiles
from recsys.errors import Moved, RegistryError

CHAMPION = "champion"
PREVIOUS = "previous"  # the champion before, which is in the log and needs no name
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}", re.ASCII)  # no bundle id begins with a letter

_DIGITS = 8
_FILE = re.compile(rf"\d{{{_DIGITS}}}\.json", re.ASCII)
_AT_ONCE = 8  # files read: an object store takes its time for each
_TRIES = 100  # of one change, by as many others that came first


class Change(msgspec.Struct, frozen=True, rename={"from_id": "from", "to_id": "to"}):
    """One name that was given to another bundle.

    Attributes:
        number: From 1. time: RFC 3339, UTC. who: As the writer says.
        from_id, to_id: The bundles before and after; None: none has the name.
        names: The bundle of each name after the change.
        token: Random, so that a writer knows its own change from an equal one that came first.
    """

    number: int
    time: str
    who: str
    name: str
    from_id: str | None
    to_id: str | None
    reason: str
    names: dict[str, str]
    token: str = ""


class Changes:
    """The log in one place. Readers take no locks: a file is whole from its first moment."""

    def __init__(self, files: ChangeFiles) -> None:
        self._log = files

    def names(self) -> dict[str, str]:
        """The bundle of each name now.

        Raises:
            RegistryError: the newest file does not decode.
        """
        newest = self._newest()
        return newest.names if newest else {}

    def all(self) -> list[Change]:
        """All changes, oldest first.

        Raises:
            RegistryError: a file does not decode.
        """
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(self._read, self._files()))

    def previous(self) -> str | None:
        """The champion before the one that is; None where there was none."""
        champion = self.names().get(CHAMPION)
        for file in reversed(self._files()):
            one = self._read(file)
            if one.name == CHAMPION and one.to_id == champion and one.from_id not in (None, champion):
                return one.from_id
        return None

    def give(
        self,
        name: str,
        to: str | None,
        *,
        who: str,
        reason: str,
        expected: str | None = None,
    ) -> Change:
        """Give a name to a bundle, or take it away.

        Args:
            expected: The bundle that has the name, as far as the caller knows; None: whichever.
        Raises:
            Moved: it is not as expected.
            RegistryError: no such name can be given, no reason or nobody is named, the log is damaged or not writable.
        """
        if not NAME.fullmatch(name) or name == PREVIOUS:
            raise RegistryError(
                f"{name!r} is no name for a bundle: up to 40 small letters, digits and hyphens, a letter first, "
                f"not {PREVIOUS}"
            )
        if not reason.strip() or not who.strip():
            raise RegistryError(f"giving the name {name!r} needs a reason and somebody who gives it; both are kept")
        for _ in range(_TRIES):
            before = self._newest()
            names = dict(before.names) if before else {}
            holder = names.get(name)
            if expected not in (None, holder):
                raise Moved(f"{name} is {holder or 'no bundle'} by now, not {expected}; look again, then decide")
            names.pop(name, None)
            names |= {} if to is None else {name: to}
            number = before.number + 1 if before else 1
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            change = Change(number, now, who, name, holder, to, reason, names, uuid.uuid4().hex)
            if self._log.create(f"{number:0{_DIGITS}}.json", msgspec.json.format(msgspec.json.encode(change)) + b"\n"):
                return change
        raise RegistryError(f"{_TRIES} other changes came first; try again")

    def _newest(self) -> Change | None:
        files = self._files()
        return self._read(files[-1]) if files else None

    def _files(self) -> list[str]:
        return sorted(name for name in self._log.names() if _FILE.fullmatch(name))

    def _read(self, file: str) -> Change:
        place = self._log.place(file)
        try:
            change = msgspec.json.decode(self._log.read(file), type=Change)
        except (ValueError, RecursionError, OSError) as error:
            raise RegistryError(
                f"{place} cannot be used: {error}; restore it, or remove it, if it is the newest, to go back to the "
                "last"
            ) from error
        if f"{change.number:0{_DIGITS}}.json" != file:
            raise RegistryError(f"{place} holds change {change.number}; restore it, or remove it")
        return change
