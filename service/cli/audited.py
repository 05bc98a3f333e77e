"""Who changes something, and what came with a change."""

import getpass
import socket
from collections.abc import Sequence

from service.cli.console import output


def whoami() -> str:
    """Who changes something, for the audit: the account and the machine."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # an account without a name
        return f"somebody@{socket.gethostname()}"


def say_of_switch(stopped: Sequence[str], untold: str | None) -> None:
    """What came with another champion. stopped: Experiments. untold: Why the registry does not know; None: it does."""
    if stopped:
        output.print(f"Experiments on bundles ended with it: {', '.join(stopped)}", markup=False)
    if untold is not None:
        output.print(f"The registry could not be told, and will be: {untold}", style="yellow", markup=False)
