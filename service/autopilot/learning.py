"""What takes long in a run, and can be computed elsewhere: looking at its data, training, judging, making room."""

from recsys.datasets.checks.checks import check
from recsys.datasets.checks.finding import Finding
from recsys.datasets.screening import Screened
from recsys.errors import TrainingError
from recsys.evaluation.gate import Line
from service.autopilot import snapshots
from service.autopilot.run import Run
from service.gate import judge
from service.junk import junk_of
from service.retention import prune
from service.settings import Settings
from service.training import comparable_champion, published


def bundle_of(run: Run) -> str:
    """What came of its training. Raises TrainingError: nothing has."""
    if run.bundle is None:
        raise TrainingError(f"run {run.id} is at {run.step} and has no bundle")
    return run.bundle


def findings_of(settings: Settings, run: Run) -> tuple[list[Finding], int]:
    """What checks and screening say of a snapshot, without rows, which name users; and how many events are left."""
    found = _screened(settings, run)
    findings = [*check(found.dataset).findings, *found.findings]
    return [Finding(one.name, one.level, one.sentence) for one in findings], len(found.dataset.events)


def trained(settings: Settings, run: Run) -> tuple[str, str]:
    """The id of a new bundle, and how it did in its own evaluation."""
    found = _screened(settings, run)
    champion = comparable_champion(settings, found.dataset)
    report, bundle_id = published(settings, found.dataset, check(found.dataset), champion=champion, junk=found.junk)
    own = report.rows[0].metrics["NDCG@10"]
    said = f"{bundle_id}: NDCG@10 {own.mean:.4f} [{own.low:.4f}, {own.high:.4f}]"
    return bundle_id, f"{said} on questions held out of its own training; the judge asks others"


def lines_of(settings: Settings, run: Run) -> list[Line]:
    """The gate, on a snapshot."""
    return judge(settings, bundle_of(run), snapshots.asked(settings, str(run.snapshot)))


def _screened(settings: Settings, run: Run) -> Screened:
    before = junk_of(settings, run.trusted)
    return snapshots.screened(settings, str(run.snapshot), since_ms=run.trusted_ms, before=before)


def pruned(settings: Settings) -> list[str]:
    """The bundles that were removed: a service that trains by itself must not fill its disk by itself."""
    return prune(settings, keep=settings.autopilot_keep)
