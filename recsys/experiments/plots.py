"""What variants change, as a picture."""

from collections.abc import Mapping
from pathlib import Path

from recsys.experiments.effects import Effect


def plot_effects(effects: Mapping[tuple[str, str], Effect], names: Mapping[str, str], title: str, path: Path) -> None:
    """A line for each variant and metric: the relative change with its interval, and that of one look at the end.

    Args:
        effects: By variant and metric. names: Of the metrics, for people.
    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # here: the import takes .3 s that only pictures need wait for

    shown = [(f"{variant}: {names[metric]}", one) for (variant, metric), one in effects.items() if one.control]
    figure = Figure(figsize=(8, 1.2 + 0.45 * max(1, len(shown))), layout="constrained")
    axes = figure.subplots()
    for place, (_, one) in enumerate(reversed(shown)):
        middle, low, high = (100 * value for value in one.relative)
        fixed = [100 * value / one.control for value in (one.fixed_low, one.fixed_high)]
        axes.plot([max(low, -1e3), min(high, 1e3)], [place, place], color="#0072B2", linewidth=2)
        axes.plot(fixed, [place, place], color="#E69F00", linewidth=6, alpha=0.6)
        axes.plot([middle], [place], "o", color="#000000")
    axes.axvline(0, color="#999999", linewidth=1)
    axes.set_yticks(range(len(shown)), [name for name, _ in reversed(shown)])
    axes.set_xlabel("change in percent; thin: valid whenever one looks, thick: for one look at the end")
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})
