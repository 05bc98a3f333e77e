"""The `riffle` command."""

import sys

import typer
from rich.markup import escape

from recsys.errors import RecsysError
from service.cli import (
    ablation,
    autopilot,
    bundles,
    capacity,
    checks,
    data,
    decisions,
    drift,
    evaluation,
    experiments,
    explanations,
    features,
    lineage,
    measurement,
    model,
    model_card,
    rollouts,
    shadow,
    stack,
    traffic,
)
from service.cli.console import errors
from service.errors import ServiceError

app = typer.Typer(
    name="riffle",
    help="Real-time recommendations. `riffle up` brings everything up; `riffle doctor` says what is in the way.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
stack.register(app)
traffic.register(app)
shadow.register(app)
rollouts.register(app)
autopilot.register(app)
experiments.register(app)
data.register(app)
checks.register(app)
model.register(app)
bundles.register(app)
model_card.register(app)
measurement.register(app)
evaluation.register(app)
ablation.register(app)
decisions.register(app)
explanations.register(app)
features.register(app)
lineage.register(app)
drift.register(app)
capacity.register(app)


def main() -> None:
    """Run the command; an error that we raise on purpose is one sentence on stderr and exit code 1."""
    try:
        app(prog_name="riffle")
    except (RecsysError, ServiceError) as error:
        errors.print(f"[bold red]riffle:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("[bold red]riffle:[/] interrupted; `riffle up` goes on where it stopped")
        sys.exit(130)
