"""The steps of a run in a home: data, training, gate, shadow, canary; each asks what is before it does anything."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow.compute as pc

from recsys.evaluation.gate import CHANGED
from recsys.experiments.buckets import rising_shares
from recsys.manifest import read_manifest
from recsys.retraining.triggers import Policy, Seen
from recsys.retraining.worth import worth
from service.archives import event_archive
from service.autopilot import snapshots
from service.autopilot.learning import bundle_of, findings_of, lines_of, pruned, trained
from service.autopilot.pilot import Stop
from service.autopilot.run import Run
from service.errors import StackError
from service.imports import imported
from service.junk import is_lost
from service.promotion import promote
from service.rollouts import begin
from service.settings import Settings
from service.shadow import compared
from service.stack import ray_head, valkey
from service.traffic import changes, switching
from service.traffic.document import Shadow, Traffic
from service.traffic.table import TrafficTable, on_table
from service.world import registry

WHO = "autopilot"
SHADOW_SHARE = 2_000  # of the lists, in 0.01 %
SHADOWED = 200  # lists that a shadow is judged by
SHADOW_S = 600.0  # then it is judged by what there is
CANARY_S = 7 * 86_400.0  # a rollout that has not ended by then has too few users, and is ended
HARMFUL_S = 600.0  # between looks for drift: an hour of service is looked at once
HISTORY = 2_000  # versions of the traffic table in which an end is looked for

Result = TypeVar("Result")
Compute = Callable[..., Any]  # runs a function of `learning` or `snapshots` with arguments, here or elsewhere


def here(work: Callable[..., Result], *args: Any) -> Result:
    """Compute in this process."""
    return work(*args)


class HomeWorks:
    """Steps in a home, with what runs there.

    Args:
        compute: Runs what takes long.
        harmful: What drifts harmfully, and since when (UTC epoch seconds).
        supervised: This runs beside a service, so something serves whatever else is known.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        compute: Compute = here,
        harmful: Callable[[], list[tuple[str, float]]] = list,
        supervised: bool = False,
    ) -> None:
        self._settings, self._compute, self._harmful = settings, compute, harmful
        self._supervised = supervised
        self._asked, self._drifts = -HARMFUL_S, list[tuple[str, float]]()

    def seen(self, last: Run | None) -> Seen:
        """Of the archive, the registry and the monitor of drift."""
        now_s, champion = datetime.now(UTC).timestamp(), registry(self._settings).champion()
        began = [last.began_s] if last else []
        if champion:
            began.append(read_manifest(registry(self._settings).path(champion)).created.timestamp())
        since_s = max(began, default=None)
        if time.monotonic() - self._asked > HARMFUL_S:
            self._asked, self._drifts = time.monotonic(), self._harmful()
        harmful = tuple(said for said, at_s in self._drifts if last is None or at_s > last.began_s)
        known = last.events if last and last.events else len(imported(self._settings).events)
        new = _arrived(self._settings, since_s or 0.0)
        if since_s is not None and since_s > now_s:
            since_s = None  # the clock was ahead: nobody knows how long ago that was
        return Seen(None if since_s is None else now_s - since_s, known, new, harmful)

    def snapshot(self, run: Run) -> Run:
        """Keep the data as they are now."""
        name, events, users = self._compute(snapshots.take, self._settings)
        said = f"{events:,} interactions of {users:,} users, {name[:12]}"
        trusted = registry(self._settings).champion()
        trusted_ms = _trusted_ms(self._settings, trusted)
        return run.after(said, snapshot=name, events=events, trusted=trusted, trusted_ms=trusted_ms)

    def check(self, run: Run) -> Run:
        """Refuse data that cannot be trained on; leave out what no person made."""
        findings, left = self._compute(findings_of, self._settings, run)
        report = {**run.report, "checks": [[one.level, one.name, one.sentence] for one in findings]}
        if failed := [one for one in findings if one.level == "failure"]:
            reason = "; ".join(f"{one.name}: {one.sentence}" for one in failed)
            raise Stop("refused", f"the data are not fit to train on: {reason}", report=report)
        warned = [f"{one.name}: {one.sentence}" for one in findings if one.level == "warning"]
        return run.after(f"{left:,} interactions are left; {'; '.join(warned) or 'nothing was found'}", report=report)

    def train(self, run: Run) -> Run:
        """Publish a bundle, under no name but its own."""
        bundle, said = self._compute(trained, self._settings, run)
        return run.after(said, bundle=bundle)

    def judge(self, run: Run) -> Run:
        """Through the gate, and it has to be surely better than the champion."""
        champion = registry(self._settings).champion()
        lines = self._compute(lines_of, self._settings, run)
        rows = [["yes" if one.passed else "no", one.name, one.found, one.wanted] for one in lines]
        known = {"report": {**run.report, "gate": rows}, "champion": champion}
        verdict = worth(lines)
        if verdict.outcome != "better":
            raise Stop(verdict.outcome, verdict.reason, **known)
        return run.after(verdict.reason, **known)

    def shadow(self, run: Run) -> Run:
        """Beside the champion, on a share of the lists, unseen."""
        url, bundle = valkey.address(self._settings), bundle_of(run)
        if url is None:
            if self._serves():
                return run  # the store is away, and what serves waits for it as well
            return run.after("nothing runs, so nothing is shadowed")
        try:
            now = on_table(url, lambda table: table.demand())
        except StackError:
            return run
        if now.shadow is not None and now.shadow.bundle != bundle:
            return run.after(f"left out: {now.shadow.bundle} shadows already, and {now.who} wanted that")
        if not run.shadow_s:  # where it shadows already, whoever began it has died before that was kept
            if now.shadow is None:
                _switch(url, [bundle], lambda one: _shadowing(one, bundle), f"shadow of run {run.id}")
            return msgspec.structs.replace(run, shadow_s=datetime.now(UTC).timestamp())
        found = [one for one in on_table(url, compared) if one.shadow == bundle]
        waited_s = datetime.now(UTC).timestamp() - run.shadow_s
        if now.shadow is not None and len(found) < SHADOWED and 0 <= waited_s < SHADOW_S:
            return run
        if now.shadow is not None:
            _switch(url, [], lambda one: msgspec.structs.replace(one, shadow=None), f"shadow of run {run.id} is seen")
        if not found:
            return run.after("no list was compared: there were none, or no time beside them")
        apart = float(np.mean([one.distance for one in found]))
        overlap = float(np.mean([one.overlap for one in found]))
        said = f"{len(found):,} lists, mean overlap of the first ten {overlap:.2f}, mean distance {apart:.2f}"
        if apart > CHANGED:
            raise Stop("refused", f"its lists have next to nothing in common with those served: {said}")
        return run.after(said)

    def canary(self, run: Run) -> Run:
        """From few users to all, by the rollout controller and its guards; this waits for how it ends."""
        settings, bundle = self._settings, bundle_of(run)
        url, reason = valkey.address(settings), f"run {run.id}: {run.said[-1].text}"
        if url is None:
            if self._serves() or run.canary is not None:
                return run  # the store is away: whether guards are broken, nobody knows
            promote(settings, bundle, reason=reason, who=WHO, expected=run.champion)
            raise Stop("promoted", f"{bundle} is champion; nothing runs, so no users were asked")
        name = run.canary or f"auto-{run.id.lower()}"
        try:
            now, now_ms = on_table(url, _table)
        except StackError:
            return run  # a rollout holds as long as the store is away, and so does this
        if now.rollout is not None and now.rollout.name == name:
            if now_ms - now.rollout.began_ms > 1000 * CANARY_S:
                _switch(url, [], lambda one: _without(one, name), f"run {run.id} gives up")
                seen = f"{CANARY_S / 86_400:.0f} days were too few for {now.rollout.hold_users:,} users of each step"
                raise Stop("stopped", f"{seen}; nobody gets {bundle} any more", canary=name)
            return msgspec.structs.replace(run, canary=name)
        if ended := _ended(on_table(url, lambda table: table.history(HISTORY)), name):
            raise Stop("promoted" if ended.champion == bundle else "rolled back", ended.reason, canary=name)
        if now.rollout is not None:
            return run  # somebody's own goes first
        if now.champion != run.champion:
            raise Stop("stopped", f"{now.who} made {now.champion} champion meanwhile, in place of {run.champion}")
        on_table(
            url,
            lambda table: begin(
                table,
                bundle,
                name=name,
                steps=rising_shares(settings.autopilot_steps),
                hold_s=settings.autopilot_hold_s,
                hold_users=settings.autopilot_hold_users,
                margin=settings.autopilot_margin,
                who=WHO,
                reason=reason,
            ),
        )
        return msgspec.structs.replace(run, canary=name)

    def clear(self, run: Run) -> None:
        """Nothing is shadowed for a run that has ended, and bundles that nothing needs go."""
        url = valkey.address(self._settings)
        if url is None:
            return
        if run.shadow_s:
            now = on_table(url, lambda table: table.demand())
            if now.shadow is not None and now.shadow.bundle == run.bundle:
                _switch(url, [], lambda one: msgspec.structs.replace(one, shadow=None), f"run {run.id} has ended")
        # A registry that homes share knows not what the others need: there people prune.
        if run.bundle is not None and self._settings.autopilot_keep and not self._settings.registry_url:
            self._compute(pruned, self._settings)

    def _serves(self) -> bool:
        """Whether something serves from here, also where its store does not answer at this moment."""
        return self._supervised or ray_head.running(self._settings)


def policy_of(settings: Settings) -> Policy:
    """When training is due in this home."""
    return Policy(
        every_s=settings.autopilot_every_s,
        share=settings.autopilot_share,
        least=settings.autopilot_least,
        rest_s=settings.autopilot_rest_s,
    )


def _arrived(settings: Settings, since_s: float) -> int:
    """Interactions that were archived after a moment."""
    rows = event_archive(settings).read(columns=("ms", "verb"), where=[("ms", ">", int(since_s * 1000))])
    return int(pc.sum(pc.and_(pc.greater(rows["verb"], 0), pc.greater(rows["ms"], int(since_s * 1000)))).as_py() or 0)


def _trusted_ms(settings: Settings, champion: str | None) -> int:
    """Since when events are new, by their own time: what the champion has not seen may say to be event_late_s older.

    0 without a champion. Where something was left out of its data and nobody knows here what, all that it looked at.
    """
    if champion is None:
        return 0
    manifest = read_manifest(registry(settings).path(champion))
    last = datetime.fromisoformat(manifest.fields["data_window"]["last"])
    new_ms = int(last.timestamp() * 1000) + 1000 - 1000 * settings.event_late_s
    return min(new_ms, manifest.fields["dataset"]["screened_since_ms"]) if is_lost(settings, manifest) else new_ms


def _shadowing(now: Traffic, bundle: str) -> Traffic:
    return msgspec.structs.replace(now, shadow=Shadow(bundle, SHADOW_SHARE)).check()


def _switch(url: str, bundles: list[str], by: Callable[[Traffic], Traffic], reason: str) -> None:
    on_table(url, lambda table: switching.load_and_switch(table, bundles, by, who=WHO, reason=reason))


def _without(now: Traffic, name: str) -> Traffic:
    """Without a rollout, if it is under way."""
    is_it = now.rollout is not None and now.rollout.name == name
    return changes.without_rollout(now) if is_it else now


async def _table(table: TrafficTable) -> tuple[Traffic, int]:
    return await table.demand(), await table.now_ms()


def _ended(history: list[Traffic], name: str) -> Traffic | None:
    """The version that ended a rollout; None where there was none, or it is under way."""
    of = [place for place, one in enumerate(history) if one.rollout is not None and one.rollout.name == name]
    return history[of[-1] + 1] if of and of[-1] + 1 < len(history) else None
