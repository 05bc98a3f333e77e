"""The page that a run leaves, in Markdown: trigger, data, metrics, decision, and where each thing is."""

from service.autopilot.run import Run

_HEADS = {
    "checks": ("level", "check", "found"),
    "gate": ("passed", "line", "found", "wanted"),
}
_TITLES = {"checks": "What checks found in the data", "gate": "The gate"}


def page(run: Run) -> str:
    """All that is known of a run; it names no user."""
    lines = [
        f"# Autopilot run {run.id}",
        "",
        f"**{run.outcome or f'under way, at {run.step}'}**" + (f": {run.reason}" if run.reason else ""),
        "",
        "| | |",
        "|---|---|",
        *(_row([name, value]) for name, value in _facts(run)),
        "",
        "## What was done",
        "",
        "| time (UTC) | step | |",
        "|---|---|---|",
        *(_row([one.time[:19], one.step, one.text]) for one in run.said),
    ]
    for name, rows in run.report.items():
        lines += ["", f"## {_TITLES[name]}", "", _row(_HEADS[name]), "|" + "---|" * len(_HEADS[name])]
        lines += [_row(cells) for cells in rows]
    return "\n".join(lines) + "\n"


def _facts(run: Run) -> list[tuple[str, str]]:
    facts = [("trigger", f"{run.trigger}: {run.detail}")]
    if run.snapshot:
        facts.append(("data", f"{run.events:,} interactions, snapshot `{run.snapshot[:12]}`"))
    if run.bundle:
        facts.append(("challenger", f"`{run.bundle}` (`riffle bundles card {run.bundle}`)"))
    if run.champion:
        facts.append(("champion then", f"`{run.champion}` (`riffle drift report --bundle {run.champion}`)"))
    if run.canary:
        facts.append(("canary", f"{run.canary} (`riffle traffic history`)"))
    return facts


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").splitlines()) for cell in cells) + " |"
