"""One run of the autopilot, and the folder that keeps them all: whatever dies, a run goes on from its last step."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident
from typing import Any, Literal

import msgspec

from recsys.durable import sync
from service.errors import AutopilotError

Step = Literal["snapshot", "check", "train", "judge", "shadow", "canary", "done"]
STEPS: tuple[Step, ...] = ("snapshot", "check", "train", "judge", "shadow", "canary", "done")
Outcome = Literal["promoted", "no better", "refused", "rolled back", "failed", "stopped"]


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a step had to say. time: RFC 3339, UTC."""

    time: str
    step: Step
    text: str


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known of a run.

    Attributes:
        id: The moment it began, UTC, as `20261128T001500Z`. trigger, detail: Why it began.
        step: What is to be done next. tries: How often that was begun. not_before_s: UTC epoch seconds.
        snapshot: The data it learns from, by their hash. events: How many interactions they hold.
        trusted: The bundle whose training looked at what is older; what was left out of it is left out again.
        trusted_ms: What is older than this is trusted, UTC epoch milliseconds.
        bundle, champion: What came of it, and what it was compared with.
        shadow_s: When its shadow was begun, UTC epoch seconds; 0: not yet. canary: The name of its rollout.
        report: For the page: findings of checks and lines of the gate, as tables of text.
        outcome, reason: When it is done. said: All of it, the oldest first.
    """

    id: str
    trigger: str
    detail: str
    step: Step = "snapshot"
    tries: int = 0
    not_before_s: float = 0.0
    snapshot: str | None = None
    events: int = 0
    trusted: str | None = None
    trusted_ms: int = 0
    bundle: str | None = None
    champion: str | None = None
    shadow_s: float = 0.0
    canary: str | None = None
    report: dict[str, list[list[str]]] = {}
    outcome: Outcome | None = None
    reason: str = ""
    said: tuple[Said, ...] = ()

    @property
    def began_s(self) -> float:
        """UTC epoch seconds."""
        return datetime.strptime(self.id, "%Y%m%dT%H%M%S%z").timestamp()

    def after(self, text: str, **fields: Any) -> "Run":
        """At its next step, with what this one said."""
        following = STEPS[STEPS.index(self.step) + 1]
        return self.saying(text, step=following, tries=0, not_before_s=0.0, **fields)

    def ended(self, outcome: Outcome, reason: str, **fields: Any) -> "Run":
        """Done, whatever was left to do."""
        return self.saying(reason, step="done", outcome=outcome, reason=reason, **fields)

    def saying(self, text: str, **fields: Any) -> "Run":
        """The same with one more sentence, under the step it is at."""
        said = Said(datetime.now(UTC).isoformat(timespec="seconds"), self.step, text)
        return msgspec.structs.replace(self, said=(*self.said, said), **fields)


class Pause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That nothing is to be done until somebody says so. time: RFC 3339, UTC."""

    time: str
    who: str
    reason: str


class Runs:
    """The runs of a home: `runs/ID.json` and a page beside each; `paused.json`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._runs, self._paused = root / "runs", root / "paused.json"
        self._leader: int | None = None  # the thread of this process that leads

    def ids(self) -> list[str]:
        """Of every run, the oldest first."""
        return sorted(path.stem for path in self._runs.glob("*.json"))

    def all(self) -> list[Run]:
        """Every run, the oldest first. Raises AutopilotError: one cannot be read."""
        return [self._read(one) for one in self.ids()]

    def newest(self) -> Run | None:
        """The run under way, or the last one. Raises AutopilotError."""
        ids = self.ids()
        return self._read(ids[-1]) if ids else None

    def find(self, run_id: str) -> Run:
        """A run by its id or the beginning of it. Raises AutopilotError: none, several, or it cannot be read."""
        found = [one for one in self.ids() if run_id and one.startswith(run_id)]
        if len(found) != 1:
            known = ", ".join(self.ids()[-5:]) or "there is none yet"
            raise AutopilotError(f"{'no' if not found else 'more than one'} run {run_id!r}; the newest: {known}")
        return self._read(found[0])

    def save(self, run: Run) -> None:
        """Keep a run as it is now. Raises AutopilotError: the disk refuses."""
        self._write(self._runs / f"{run.id}.json", msgspec.json.format(msgspec.json.encode(run), indent=1))

    def page(self, run: Run) -> Path:
        """Where its page is, or will be."""
        return self._runs / f"{run.id}.md"

    def save_page(self, run: Run, text: str) -> None:
        """Keep its page. Raises AutopilotError."""
        self._write(self.page(run), text.encode())

    def paused(self) -> Pause | None:
        """Who paused everything, if anybody did; what cannot be read pauses as well."""
        try:
            return msgspec.json.decode(self._paused.read_bytes(), type=Pause)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            return Pause("nobody knows when", "nobody knows whom", f"{self._paused} cannot be read: {error}")

    def pause(self, *, who: str, reason: str) -> None:
        """Do nothing from now on. Raises AutopilotError: no reason, or it is paused already."""
        if not reason.strip():
            raise AutopilotError("say why it is paused: --reason TEXT")
        if already := self.paused():
            raise AutopilotError(
                f"paused already by {already.who}: {already.reason}; `riffle autopilot resume` ends that"
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(self._paused, msgspec.json.encode(Pause(now, who, reason)))

    def resume(self) -> bool:
        """Go on; False where nothing was paused."""
        if self.paused() is None:
            return False
        self._paused.unlink(missing_ok=True)
        return True

    @contextmanager
    def led(self) -> Iterator[bool]:
        """Whether this process leads: at most one does, and where it dies the system lets another.

        The thread that leads already goes on to lead. Raises AutopilotError: the disk refuses.
        """
        if self._leader == get_ident():
            yield True
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            held = (self.root / "lead.lock").open("ab")
        except OSError as error:
            raise AutopilotError(f"{self.root} cannot be written to: {error.strerror}") from error
        with held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            self._leader = get_ident()
            try:
                yield True
            finally:
                self._leader = None

    def _read(self, run_id: str) -> Run:
        path = self._runs / f"{run_id}.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Run)
        except (OSError, msgspec.DecodeError) as error:
            raise AutopilotError(
                f"{path} cannot be read: {error}; move it away, and the autopilot goes on with a new run"
            ) from error

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            writing = path.with_name(f".{path.name}.{os.getpid()}")
            writing.write_bytes(data)
            sync(writing)
            writing.rename(path)
            sync(path.parent)
        except OSError as error:
            raise AutopilotError(f"{path} cannot be written: {error}; nothing is done until it can") from error


def new_id(now: datetime) -> str:
    """The id of a run that begins now."""
    return now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
