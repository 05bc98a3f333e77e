"""Reads a Dockerfile as far as ours goes: stages of instructions, continued lines joined, comments left out."""

import json
import shlex
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """One instruction; `words` of its exec form or, split as a shell would, of its plain form."""

    name: str
    text: str
    words: list[str]


Stage = list[Instruction]


def stages(path: Path) -> list[Stage]:
    """The instructions of each stage, `FROM` first."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    found: list[Stage] = []
    for logical in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not logical.strip():
            continue
        name, text = logical.split(None, 1)
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, text, _words(text)))
    return found


def named(stage: Stage, name: str) -> list[Instruction]:
    """The instructions of one kind, in order."""
    return [instruction for instruction in stage if instruction.name == name]


def variables(stage: Stage) -> dict[str, str]:
    """What ENV sets."""
    return dict(word.split("=", 1) for instruction in named(stage, "ENV") for word in instruction.words)


def _words(text: str) -> list[str]:
    _, bracket, rest = text.partition("[")
    if bracket and rest.rstrip().endswith("]"):
        return json.loads("[" + rest)
    return shlex.split(text)
