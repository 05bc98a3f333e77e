"""What stands below a table on the terminal."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from recsys.training.train import Trained
from service.cli.console import report_table


@pytest.mark.parametrize(("users", "hint"), [(29, "Only 29 users: "), (30, "")])
def test_evaluation_over_few_users_says_so_below_its_table(trained: Trained, users: int, hint: str) -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(report_table(replace(trained.report, users=users), "Evaluation"))
    assert ("too narrow" in out.getvalue()) == bool(hint)
    assert hint in out.getvalue()
