"""The `riffle` command."""

import sys
from functools import cache
from importlib import import_module
from typing import Any

import typer
from rich.markup import escape

from recsys.errors import RecsysError
from service.cli.console import errors
from service.errors import ServiceError

MODULES = (
    "stack",
    "traffic",
    "shadow",
    "rollouts",
    "autopilot",
    "experiments",
    "data",
    "checks",
    "model",
    "bundles",
    "model_card",
    "measurement",
    "evaluation",
    "ablation",
    "decisions",
    "explanations",
    "features",
    "lineage",
    "drift",
    "capacity",
)
ALONE = {"traffic": "traffic", "rollback": "traffic"}  # who asks for these is in a hurry: all others take a second more


@cache
def commands(*modules: str) -> typer.Typer:
    """The command with what these modules add."""
    made = typer.Typer(
        name="riffle",
        help="Real-time recommendations. `riffle up` brings everything up; `riffle doctor` says what is in the way.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name in modules:
        import_module(f"service.cli.{name}").register(made)
    return made


def __getattr__(name: str) -> Any:
    if name == "app":
        return commands(*MODULES)
    raise AttributeError(name)


def main() -> None:
    """Run the command; an error that we raise on purpose is one sentence on stderr and exit code 1."""
    try:
        alone = ALONE.get(sys.argv[1]) if len(sys.argv) > 1 else None
        commands(*([alone] if alone else MODULES))(prog_name="riffle")
    except (RecsysError, ServiceError) as error:
        errors.print(f"[bold red]riffle:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("[bold red]riffle:[/] interrupted; `riffle up` goes on where it stopped")
        sys.exit(130)
