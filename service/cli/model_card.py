"""`riffle bundles card`."""

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.markdown import Markdown

from recsys.model_card import Card
from service.cli.bundles import bundles
from service.cli.console import output
from service.settings import load
from service.world import registry


class Form(StrEnum):
    """How a card is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


def register(_: typer.Typer) -> None:
    """Add the command to its group."""
    bundles.command("card")(card)


def card(
    bundle: Annotated[str, typer.Argument(help="Id, unique prefix, name, or previous (the champion before).")] = (
        "champion"
    ),
    form: Annotated[Form, typer.Option("--format", help="For people, for a page, or for a program.")] = Form.TEXT,
) -> None:
    """What a bundle is, what it learnt from and on what terms, how it was judged, and its known limits.

    Made from the bundle's own files, after every byte was checked.
    """
    found = Card.read(registry(load()).path(bundle))
    if form is Form.TEXT:
        output.print(Markdown(found.markdown()))
    else:
        typer.echo(found.markdown() if form is Form.MARKDOWN else json.dumps(found.to_json(), indent=1))
