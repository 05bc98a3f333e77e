"""Under which conditions a command measured something."""

import os
from typing import Any

from service.settings import Settings
from service.training import commit


def conditions(settings: Settings) -> dict[str, Any]:
    """What a figure is beside: the code, the machine and the seed."""
    return {
        "commit": commit(),
        "machine": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores",
        "seed": settings.seed,
    }
