"""A bundle trained on data of this home, and published."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from recsys.bundle import Recipe
from recsys.datasets.checks.checks import Checks
from recsys.datasets.dataset import Dataset
from recsys.datasets.junk import Junk
from recsys.errors import BundleError
from recsys.evaluation.report import Report
from recsys.known_limits import TEMPORAL
from recsys.manifest import read_manifest
from recsys.signature import private_key
from recsys.training.learn import Step, quiet
from recsys.training.log import Log
from recsys.training.search_report import Search
from recsys.training.train import BY_TIMING, train, write
from recsys.types import World
from service.junk import keep_junk
from service.settings import Settings
from service.world import load_world, registry


def base_recipe(settings: Settings) -> Recipe:
    """What training starts from; it chooses the rest by itself."""
    return Recipe(seed=settings.seed, objective=settings.objective, held_out=settings.held_out)


def published(
    settings: Settings,
    dataset: Dataset,
    checks: Checks,
    *,
    champion: World | None = None,
    search: Search | None = None,
    junk: Sequence[Junk] = (),
    step: Step = quiet,
) -> tuple[Report, str]:
    """Train, publish and, where there is a key, sign; the report and the bundle's id.

    Args:
        checks: Of this data set; what failed was refused before. champion: As of `train`.
        search: What found the recipe, where it was searched for. junk: What was left out of the data.
    Raises:
        TrainingError: the data cannot train a bundle. RegistryError: it cannot be published. DatasetError: what was
            left out cannot be kept. ArchiveError: the list of who was forgotten is damaged.
        SignatureError: the key cannot be used; before anything is trained.
    """
    key = private_key(Path(settings.signing_key)) if settings.signing_key else None
    trained = train(
        dataset,
        base_recipe(settings) if search is None else search.recipe,
        candidates=settings.candidates,
        diversity=settings.diversity,
        champion=champion,
        step=step,
    )
    bundles = registry(settings)
    settings.home_path.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bundle-", dir=settings.home_path))
    try:
        parent = bundles.champion()
        written = write(trained, dataset, folder, code_commit=commit(), parent=parent, checks=checks, search=search)
        keep_junk(settings, written, junk)  # first: nobody may promote it before this is known
        bundle_id = bundles.publish(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if key is not None:
        bundles.sign(bundle_id, key)
    return trained.report, bundle_id


def comparable_champion(settings: Settings, dataset: Dataset) -> World | None:
    """The champion, where it learnt from nothing that a new bundle of this import is asked, and can be loaded."""
    found = registry(settings)
    champion = found.champion()
    if champion is None:
        return None
    try:
        fields = read_manifest(found.path(champion)).fields
        if fields["dataset"]["fingerprint"] != dataset.fingerprint or fields["protocol"] != BY_TIMING[dataset.timing]:
            return None
        learnt_until = datetime.fromisoformat(fields["data_window"]["split"]).timestamp()
        if fields["protocol"] in TEMPORAL and learnt_until > Log.of(dataset).moment(1 - settings.held_out):
            return None  # it held out less, and would be asked what it knows
        return load_world(settings)
    except (BundleError, KeyError):
        return None


def commit() -> str:
    """The commit of the code, with `-dirty` where files differ from it; "unknown" outside a repository."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"
