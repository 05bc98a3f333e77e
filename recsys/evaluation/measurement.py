"""What one version of the code and its bundle reach and cost, question by question, to be set beside another version's.

A bundle can only be loaded by code of its own feature schema. So each version measures its own, in its own process, and
what it writes is compared afterwards: the questions carry names that do not depend on the version.
"""

from typing import Any, Literal

import msgspec
import numpy as np

from recsys.errors import DatasetError
from recsys.evaluation.answers import ask
from recsys.evaluation.compare import METRICS, Asked, beyond_accuracy
from recsys.evaluation.gate import BATCH, cpu_s
from recsys.training.questions import Questions
from recsys.types import World
from recsys.vocabulary import item_key, item_keys

VERSION: Literal[1] = 1
ROUNDS = 15
BATCHES = 4


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of them; plain JSON.

    Attributes:
        bundle, commit: Of what was measured. protocol: How it was asked.
        question: A name of each question, of user, moment and right answers. user: uint64, a number of its user.
        values: Metric -> value of each question. beyond: What lists of ten are like beyond accuracy.
        cpu_ms: CPU of a request in batches of 16, the least of ROUNDS. size_bytes: Of all files.
        training: What training took: "wall_s", "cpu_s", "peak_mb"; empty where nobody measured it.
    """

    version: Literal[1]
    bundle: str
    commit: str
    protocol: str
    question: list[str]
    user: list[int]
    values: dict[str, list[float]]
    beyond: dict[str, float]
    cpu_ms: float
    size_bytes: int
    training: dict[str, float] = {}

    @classmethod
    def read(cls, content: bytes, name: str) -> "Measurement":
        """From JSON. Raises DatasetError where it is none of this version."""
        try:
            found = msgspec.json.decode(content, type=cls)
        except msgspec.DecodeError as error:
            raise DatasetError(
                f"{name} is no measurement of this version ({error}); `riffle bundles measure` makes one"
            ) from error
        lengths = {len(found.question), len(found.user), *(len(one) for one in found.values.values())}
        if len(lengths) != 1 or not found.question or not found.values:
            raise DatasetError(f"{name} is damaged: it does not have every value of every question; measure again")
        return found


def measure(
    world: World, asked: Asked, users: list[str], *, protocol: str, commit: str, size_bytes: int, seed: int
) -> Measurement:
    """Ask a bundle and time it.

    Args:
        users: Ids by number of the questions' users; only hashes of them are kept.
    """
    questions = asked.questions
    answers = ask(world, questions, asked.known, seed=seed)
    number = item_keys(users)
    return Measurement(
        version=VERSION,
        bundle=world.bundle.id,
        commit=commit,
        protocol=protocol,
        question=names_of(questions, users),
        user=number[questions.user].tolist(),
        values={name: of(answers).tolist() for name, of in METRICS.items()},
        beyond=beyond_accuracy(world, answers, asked.known),
        cpu_ms=_cpu_ms(world, asked),
        size_bytes=size_bytes,
    )


def names_of(questions: Questions, users: list[str]) -> list[str]:
    """A name for each question, the same wherever it is asked: a hash of who, when and what is right."""
    named: list[Any] = []
    for row, (user, now_s) in enumerate(zip(questions.user.tolist(), questions.now_s.tolist(), strict=True)):
        wanted = " ".join(f"{key:016x}" for key in sorted(questions.wanted[row].tolist()))
        named.append(f"{item_key(f'{users[user]} {now_s} {wanted}'):016x}")
    return named


def _cpu_ms(world: World, asked: Asked) -> float:
    questions = asked.questions
    every = np.arange(len(questions))
    batches = [every[start : start + BATCH] for start in range(0, min(len(every), BATCH * BATCHES), BATCH)]
    least = [
        min(cpu_s(world, questions.batch(asked.known, rows, count=20, seed=1)) for _ in range(ROUNDS)) / len(rows)
        for rows in batches
    ]
    return float(np.mean(least)) * 1e3
