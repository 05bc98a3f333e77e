"""Continuous integration of models: data checks, training, gate, signature, card, and what a change costs and brings.

Usage: python deploy/model_ci.py [--data PATH] [--base REF] [--key FILE] [--to FOLDER]. `make ml-ci` runs it, and the
workflows run that. Every step is a `riffle` command in a home of its own; without --data on a small invented world.
With --base that commit trains on the same data with its own code, in a work tree of its own, and both are set side by
side.
"""

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recsys.datasets.synthetic import synthetic
from recsys.signature import private_key
from recsys.verbs import Verb

ROOT = Path(__file__).resolve().parents[1]
SUMMARY = "summary.md"
INVENTED = {"users": 250, "items": 600}  # half a minute of training on two cores
INVENTED_BY = "Invented by Riffle; nobody's data."
UNMEASURED = "no `riffle bundles measure` in it"
_KB = 1 << (20 if sys.platform == "darwin" else 10)  # ru_maxrss: bytes on macOS, kilobytes on Linux


class StepFailed(Exception):
    """A step did not end with 0; what it said is on the terminal."""


@dataclass
class Run:
    """One version of the code in a home of its own.

    Attributes:
        code: The root of its source tree. home: Its home, where it is run. took: Seconds of each step.
    """

    code: Path
    home: Path
    python: str = sys.executable
    terms: str = ""  # who made the data, as far as is known
    settings: dict[str, str] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)

    def riffle(self, *arguments: str, allowed: Sequence[int] = (0,)) -> tuple[int, dict[str, float]]:
        """Run a command; returns its exit code and what it took."""
        self.home.mkdir(parents=True, exist_ok=True)
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RIFFLE_")}
        settings = {f"RIFFLE_{name.upper()}": value for name, value in ({"home": "state"} | self.settings).items()}
        print(f"--- {self.code.name}: riffle {' '.join(arguments)}", flush=True)
        began = time.monotonic()
        process = subprocess.Popen(
            [self.python, "-m", "service", *arguments],
            cwd=self.home,
            env={**plain, **settings, "PYTHONPATH": str(self.code), "COLUMNS": "120"},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - began
        self.took[" ".join(arguments[:2])] = round(wall_s, 1)
        if code not in allowed:
            raise StepFailed(f"riffle {' '.join(arguments)} ended with {code}")
        cost = {"wall_s": wall_s, "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss * _KB / 2**20}
        return code, {name: round(value, 1) for name, value in cost.items()}

    def train(self, data: Path) -> tuple[str, dict[str, float]]:
        """Import and train; the bundle's id, and what training took."""
        self.riffle("import", str(data), *(("--attribution", self.terms) if self.terms else ()))
        self.riffle("check", "--report", "checks")
        _, cost = self.riffle("train", "--no-promote")
        (bundle,) = (self.home / "state" / "registry" / "bundles").iterdir()
        return bundle.name, cost

    def measure(self, bundle_id: str, cost: dict[str, float]) -> Path:
        """What it reaches and costs, as a file; what training took is put into it."""
        path = self.home / "measurement.json"
        self.riffle("bundles", "measure", bundle_id, "--to", path.name)
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"training": cost}), "utf-8")
        return path


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parsed(arguments)
    to = given.to.resolve()
    if to.exists() and any(to.iterdir()) and not (to / SUMMARY).exists():
        print(f"ml-ci: {to} holds what no earlier run has written; give an empty or a new folder", file=sys.stderr)
        return 1
    if given.data and given.data.resolve().is_relative_to(to):
        print(f"ml-ci: {given.data} lies in {to}, which is emptied first", file=sys.stderr)
        return 1
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    (to / SUMMARY).write_text("under way\n", "utf-8")  # so that the folder of a run that died is known for one
    data, terms = (given.data.resolve(), "") if given.data else (_invented(to / "invented"), INVENTED_BY)
    try:
        head, said = _head(data, terms, to, given.key)
        passed = True
        if given.base and given.base.strip("0"):  # all zeros is what a push names that begins a branch
            passed, compared = _beside_base(given.base, data, terms, to, head)
            said += compared
    except (StepFailed, subprocess.CalledProcessError) as error:
        (to / SUMMARY).write_text(f"**Failed:** {error}\n", "utf-8")
        print(f"ml-ci: {error}", file=sys.stderr)
        return 1
    (to / SUMMARY).write_text("\n".join(said), "utf-8")
    print(f"Written to {to}: {SUMMARY}, bundle, card.md, checks")
    return 0 if passed else 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="as for `riffle import`; none: a small invented world")
    parser.add_argument("--base", help="a commit to be compared with")
    parser.add_argument("--key", type=Path, help="a private Ed25519 key in PEM; none: one of this run alone")
    parser.add_argument("--to", type=Path, default=ROOT / ".riffle-ci", help="a folder, emptied first")
    return parser.parse_args(arguments)


def _head(data: Path, terms: str, to: Path, key: Path | None) -> tuple[Path, list[str]]:
    """All steps of this code; its measurement, and what to say of it."""
    signing, trusted = _keys(to, key)
    settings = {"signing_key": str(signing), "trusted_keys": str(trusted)}
    run = Run(ROOT, to / "head", terms=terms, settings=settings)
    bundle_id, cost = run.train(data)
    run.riffle("bundles", "gate", bundle_id)
    run.riffle("bundles", "verify", bundle_id)
    measurement = run.measure(bundle_id, cost)
    published = run.home / "state" / "registry" / "bundles" / bundle_id
    shutil.copytree(published, to / "bundle" / bundle_id)
    shutil.copytree(run.home / "checks", to / "checks")
    _card(run, bundle_id, to / "card.md")
    steps = ", ".join(f"{name} {seconds:g} s" for name, seconds in run.took.items())
    whose = "the key given" if key else "a key of this run alone"
    return measurement, [f"# {bundle_id}", "", f"Passed the gate, signed with {whose}. {steps}.", ""]


def _beside_base(reference: str, data: Path, terms: str, to: Path, head: Path) -> tuple[bool, list[str]]:
    """Train and measure the base with its own code; whether the head may follow it, and the table."""
    with _work_tree(reference) as (code, commit):
        if not (code / "service" / "cli" / "measurement.py").exists():
            return True, [f"Not compared with {commit}: {UNMEASURED}.", ""]
        run = Run(code, to / "base", python=_python_of(code), terms=terms)
        base = run.measure(*run.train(data))
    table = to / "comparison.md"
    ended, _ = Run(ROOT, to / "head").riffle(
        "bundles", "compare", str(base), str(head), "--to", str(table), allowed=(0, 1)
    )
    if not table.exists():
        raise StepFailed("the two could not be compared")
    return ended == 0, [table.read_text("utf-8")]


@contextmanager
def _work_tree(reference: str) -> Iterator[tuple[Path, str]]:
    """A checkout of where HEAD left a commit's branch, and the short name of that commit."""
    base = _git("merge-base", "HEAD", reference)
    folder = Path(tempfile.mkdtemp(prefix="riffle-base-"))
    try:
        _git("worktree", "add", "--detach", str(folder / "base"), base)
        yield folder / "base", base[:12]
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder / "base")], cwd=ROOT, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _python_of(code: Path) -> str:
    """This interpreter where the locked packages are the same; else that of an environment of its own."""
    lock = "requirements.lock"
    if (code / lock).read_bytes() == (ROOT / lock).read_bytes():
        return sys.executable
    subprocess.run(["make", ".venv/.runtime", f"PYTHON={sys.executable}"], cwd=code, check=True)
    return str(code / ".venv" / "bin" / "python")


def _keys(to: Path, key: Path | None) -> tuple[Path, Path]:
    """The private key and the file of its public half, which alone goes into what is kept."""
    if key is None:
        key = to / "head" / "key-of-this-run.pem"
        key.parent.mkdir(parents=True)
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key.touch(mode=0o600)
        key.write_bytes(pem)
    public = private_key(key).public_key()
    trusted = to / "trusted.pem"
    trusted.write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return key.resolve(), trusted


def _card(run: Run, bundle_id: str, path: Path) -> None:
    command = [run.python, "-m", "service", "bundles", "card", bundle_id, "--format", "markdown"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RIFFLE_")}
    env = {**plain, "RIFFLE_HOME": str(run.home / "state"), "PYTHONPATH": str(run.code)}
    path.write_bytes(subprocess.run(command, env=env, check=True, capture_output=True, cwd=run.home).stdout)


def _invented(folder: Path) -> Path:
    """A small invented world as files, so that both versions read the same."""
    world = synthetic(7, **INVENTED)
    folder.mkdir()
    with (folder / "interactions.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp", "verb", "value"])
        events = world.events
        columns = (events.user, events.item, events.ts_ms, events.verb, events.value)
        for user, item, ts_ms, verb, value in zip(*(one.tolist() for one in columns), strict=True):
            plain = "" if math.isnan(value) else value
            rows.writerow([world.user_id[user], world.item_id[item], ts_ms, Verb(verb).name.lower(), plain])
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title", "categories"])
        bounds = world.item_category_indptr
        for row, (item_id, title) in enumerate(zip(world.item_id, world.item_title, strict=True)):
            of = [world.categories[one] for one in world.item_category[bounds[row] : bounds[row + 1]]]
            rows.writerow([item_id, title, "|".join(of)])
    return folder


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
