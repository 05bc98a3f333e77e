"""Interactions that no person made, looked for among the newest before they train: floods, and users who pick blindly.

What a blind pick looks like is known exactly: items as drawn from the catalogue, so its popularity and its kinship with
the user's other items have the distribution that they have over the catalogue. What people pick looks like what earlier
people picked. The ratio of these two likelihoods over a user's picks is Wald's test of one against the other
("Sequential Tests of Statistical Hypotheses", Annals of Mathematical Statistics 16(2), 1945): if they are a person's,
it exceeds 1 / CHANCE with probability CHANCE at most. People differ more than that model allows, and who works through
the whole catalogue comes to look like it; so the mean over the picks has to be that of a blind one, too.

What goes with what is learnt from all times, from lately (RECENT times as many interactions as are looked at) and from
the newest alone. The share of blind picks is that of the three that claims least; a user is blind who is so by the
first and the last (asking all three misses a twentieth more of the bots). Where tastes or items have changed, today or
weeks ago, what people pick now goes with what others pick now. (Of 300 simulated users' 4,000 newest picks, weeks after
most items had changed, a third looked blind to who knew all times or these alone, a sixth to who knew three times as
many.) Lately and the newest are each asked only where either half of the users made TAUGHT of those interactions.

What one look has left out (`recsys.datasets.junk`) is left out before the next, which trusts all that is older.

Of the newest fifth of MovieLens 1M it takes 1 of 1,319 users for blind, and 364 of 445 invented ones of 40 picks each.
What it does not see are users who push a few items on purpose: their picks are kin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.datasets.checks.finding import SHOWN, Finding, rows_at
from recsys.datasets.dataset import Dataset, Events
from recsys.datasets.junk import Junk, junk_rows, without_junk
from recsys.datasets.leave_out import without_events
from recsys.erased_users import user_digest
from recsys.retrieval.spectral import Spectral
from recsys.vocabulary import item_keys

DAY_MS = 86_400_000
FLOOD, TIMES = 2_000, 3  # interactions in a day that nobody makes; nor so many times what anybody made before
CHANCE = 0.001  # of people who are taken for blind
TYPICAL = 0.5  # of the mean ratio of a blind pick
BLIND, REFUSED = 0.05, 0.25  # shares of blind picks, by the lower bound: more is named; more is not trained on
BINS, SAMPLE, DIMENSIONS = 8, 256, 32
SIZE = (BINS + 1) ** 2  # cells of popularity and kinship; the last of each: not known
RESAMPLES = 200
RECENT, TAUGHT = 3, 128  # times as many as are new; interactions of each half of the users at least


@dataclass(frozen=True, slots=True, eq=False)
class Screened:
    """A data set without what no person made, and what was found in it.

    Attributes:
        dataset: Without the interactions of `flooding` and `blind` users that are new, and without what earlier looks
            left out.
        findings: "left out before", "floods", "blind users", "blind interactions"; a failure: not to be trained on.
        flooding, blind: Ids of users.
        junk: What was left out of it, that of the earlier looks included.
    """

    dataset: Dataset
    findings: tuple[Finding, ...]
    flooding: tuple[str, ...]
    blind: tuple[str, ...]
    junk: tuple[Junk, ...]


def screen(dataset: Dataset, *, since_ms: int, seed: int, before: Sequence[Junk] = ()) -> Screened:
    """Look at the interactions from a moment on, beside those before it.

    Args:
        since_ms: UTC epoch milliseconds; what is older is trusted. before: What earlier looks left out. Of it, what is
            older teaches nothing; what is not is looked at once more, beside what came since.
    """
    whole, out = dataset, junk_rows(dataset, before)
    findings = [_left_out_before(dataset, out)] if before else []
    if (old := out & (dataset.events.ts_ms < since_ms)).any():
        dataset, out = without_events(dataset, old), out[~old]
    events = dataset.events
    new = events.ts_ms >= since_ms
    if dataset.timing != "exact" or not new.any() or new.all():
        unseen = "not looked for: there is nothing before the newest interactions to compare them with"
        return Screened(without_junk(whole, before), (*findings, Finding("junk", "ok", unseen)), (), (), tuple(before))
    flooding = _flooding(events, new)
    floods = new & np.isin(events.user, flooding)
    picks = _Picks.of(dataset, new & ~floods, seed)
    blind = np.intersect1d(picks[0].blind(), picks[-1].blind()) if picks else np.zeros(0, np.int64)
    dropped = floods | (new & np.isin(events.user, blind))
    findings += [
        _named(dataset, "floods", flooding, floods, f"made more than {_limit(events, new):,} interactions in a day"),
        _named(dataset, "blind users", blind, dropped & ~floods, "picked items as if drawn from the catalogue"),
    ]
    if picks and new.sum() <= (~new).sum():
        gone = np.union1d(blind, events.user[out])
        findings.append(min((one.mixture(gone, seed) for one in picks), key=lambda one: one.numbers.get("low", 0.0)))
    elif picks:  # people pick otherwise later on: of 400 items, those who know most of them took the rest
        findings.append(Finding("blind interactions", "ok", "not looked for: more is new than was known before"))
    flooders, pickers = (tuple(dataset.user_id[one] for one in who.tolist()) for who in (flooding, blind))
    digests = (tuple(map(user_digest, who)) for who in (flooders, pickers))
    look = Junk(since_ms, int(events.ts_ms.max()), *digests)
    junk = (*before, *([look] if dropped.any() else []))
    return Screened(without_junk(whole, junk), tuple(findings), flooders, pickers, junk)


def _limit(events: Events, new: np.ndarray) -> int:
    return max(FLOOD, TIMES * int(_busiest_day(events.user[~new], events.ts_ms[~new]).max(initial=0)))


def _busiest_day(user: np.ndarray, ts_ms: np.ndarray) -> np.ndarray:
    """The most interactions that each user made in a day of UTC, int64 [users]."""
    day = ts_ms // DAY_MS
    pair, count = np.unique(user.astype(np.int64) << 32 | day, return_counts=True)
    most = np.zeros(int(user.max(initial=-1)) + 1, np.int64)
    np.maximum.at(most, pair >> 32, count)
    return most


def _newest(events: Events, known: np.ndarray, count: int) -> np.ndarray:
    """The newest of the known interactions, so many or all of them, and those of the same time: bool [e]."""
    time = events.ts_ms[known]
    count = min(count, len(time))
    return known & (events.ts_ms >= np.partition(time, -count)[-count])


def _taught(events: Events, known: np.ndarray, half: np.ndarray) -> int:
    """How many of the known interactions the half of the users made that made fewer."""
    return int(np.bincount(half[events.user[known]], minlength=2).min())


def _flooding(events: Events, new: np.ndarray) -> np.ndarray:
    return np.flatnonzero(_busiest_day(events.user[new], events.ts_ms[new]) > _limit(events, new))


@dataclass(frozen=True, slots=True, eq=False)
class _Picks:
    """The newest interactions by what they look like, to who knows some others.

    Attributes:
        user: int32 [n]. cell: int64 [n], of popularity and kinship.
        person, catalogue: float64 [cells], how probable each is for a person, and for an item of the catalogue.
    """

    user: np.ndarray
    cell: np.ndarray
    person: np.ndarray
    catalogue: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, new: np.ndarray, seed: int) -> "list[_Picks]":
        """To who knows all times, and lately, and the newest alone, where enough of them are known; else none."""
        events = dataset.events
        old = events.ts_ms < events.ts_ms[new].min(initial=np.iinfo(np.int64).max)
        if old.sum() < BINS**3 or not new.any():
            return []
        # Half of the users say what goes with what for the other half: so what is new to everybody is kin to what is
        # new to others, and nobody vouches for himself.
        half = np.random.default_rng(seed).permutation(len(dataset.user_id)) % 2
        people = np.zeros(SIZE, np.int64)
        every = old | new
        lately = (_newest(events, every, times * int(new.sum())) for times in (RECENT, 1))
        knows = [every, *(one for one in lately if _taught(events, one, half) >= TAUGHT)]
        if not _taught(events, every, half):
            return []
        cells, catalogue = np.zeros((len(knows), len(events)), np.int64), np.zeros((len(knows), SIZE))
        for one in (0, 1):
            own = half[events.user] == one
            for number, known in enumerate(knows):
                looks = _Looks.of(dataset, ~own & known, seed)
                catalogue[number] += looks.catalogue() / 2
                rows = np.flatnonzero(own & new)
                cells[number, rows] = looks.cells(events.user[rows], events.item[rows])
                if number == 0:
                    rows = np.flatnonzero(own & old)
                    people += np.bincount(looks.cells(events.user[rows], events.item[rows]), minlength=SIZE)
        person = (people + 1.0) / (people.sum() + SIZE)
        return [cls(events.user[new], seen[new], person, of) for seen, of in zip(cells, catalogue, strict=True)]

    def blind(self) -> np.ndarray:
        """Users whose picks are a blind one's far more probably than a person's, int64."""
        ratio = np.log(self.catalogue / self.person)
        total, picks = np.bincount(self.user, weights=ratio[self.cell]), np.bincount(self.user)
        typical = float(self.catalogue @ ratio)  # of a blind pick: how far the two are apart (Kullback and Leibler)
        return np.flatnonzero((total > -np.log(CHANCE)) & (total > TYPICAL * typical * picks))

    def mixture(self, blind: np.ndarray, seed: int) -> Finding:
        """What share of the rest is blind all the same, with an interval over users.

        A change of what people want looks a little like it, so up to REFUSED it is only said: a gate judges what came
        of it.
        """
        rest = ~np.isin(self.user, blind)
        user, cell = np.unique(self.user[rest], return_inverse=True)[1], self.cell[rest]
        if not len(cell):
            return Finding("blind interactions", "ok", "no other interactions are new")
        of_user = np.zeros((int(user.max()) + 1, SIZE))
        np.add.at(of_user, (user, cell), 1)
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(len(of_user), np.full(len(of_user), 1 / len(of_user)), size=RESAMPLES)
        shares = np.sort([self._share(times @ of_user) for times in drawn])
        low, high = shares[int(0.025 * RESAMPLES)], shares[int(0.975 * RESAMPLES)]
        share = self._share(of_user.sum(axis=0))
        numbers = {"share": share, "low": float(low), "high": float(high)}
        said = f"{share:.1%} [{low:.1%}, {high:.1%}] of the other new interactions look drawn from the catalogue"
        if low > REFUSED:
            return Finding("blind interactions", "failure", f"{said}; up to {REFUSED:.0%} would pass", numbers)
        if low > BLIND:
            return Finding("blind interactions", "warning", said, numbers)
        return Finding("blind interactions", "ok", said, numbers)

    def _share(self, count: np.ndarray) -> float:
        """The most probable share of the catalogue in a mixture of both: Dempster et al. (1977), a one-step EM."""
        share = 0.5
        for _ in range(100):
            blind = share * self.catalogue
            share = float((count * blind / (blind + (1 - share) * self.person)).sum() / count.sum())
        return share


@dataclass(frozen=True, slots=True, eq=False)
class _Looks:
    """What an interaction looks like: popularity by eighths of the catalogue, kinship by eighths of chance.

    Attributes:
        shelf: int64 [N], BINS where nobody picked it before. vector: float32 [N, d], unit or 0.
        sample: int64 [SAMPLE], items that kinship is measured against; of those that somebody picked.
    """

    shelf: np.ndarray
    vector: np.ndarray
    sample: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, taught: np.ndarray, seed: int) -> "_Looks":
        user, item, n = dataset.events.user[taught], dataset.events.item[taught], len(dataset.item_id)
        spectral = Spectral.fit(user, item, n, d=DIMENSIONS, seed=seed)
        count = np.bincount(item, minlength=n)
        length = np.linalg.norm(spectral.vector, axis=1, keepdims=True)
        vector = spectral.vector / np.maximum(length, 1e-9)
        rng = np.random.default_rng(seed)
        # Ties of popularity by the items' keys: by their order in the file they would not be as chance has them.
        order = np.lexsort((item_keys(dataset.item_id), count))
        shelf = np.empty(len(count), np.int64)
        shelf[order] = np.arange(len(count)) * BINS // len(count)
        shelf[count == 0] = BINS
        liked = np.flatnonzero(count > 0)
        return cls(shelf, vector, rng.choice(liked, SAMPLE))

    def cells(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The cell of each interaction, int64 [n]; kinship with the user's other items among these."""
        known = self.shelf[item] < BINS
        users = np.unique(user, return_inverse=True)[1]
        total = np.zeros((int(users.max(initial=-1)) + 1, self.vector.shape[1]), np.float32)
        # An item that is met again is no kin of itself.
        pair, place = np.unique(users.astype(np.int64) << 32 | item, return_index=True)
        np.add.at(total, pair >> 32, self.vector[item[place]])
        others = total[users] - self.vector[item]
        alone = np.linalg.norm(others, axis=1) < 1e-6
        kin = np.full(len(item), BINS, np.int64)
        for start in range(0, len(item), 1 << 14):
            rows = slice(start, start + (1 << 14))
            against = others[rows] @ self.vector[self.sample].T
            own = (others[rows] * self.vector[item[rows]]).sum(axis=1)
            kin[rows] = np.minimum((against < own[:, None]).mean(axis=1) * BINS, BINS - 1)
        kin[alone | ~known] = BINS
        return self.shelf[item] * (BINS + 1) + kin

    def catalogue(self) -> np.ndarray:
        """How probable each cell is for an item that is drawn from the catalogue, float64 [cells], none of them 0.

        Its kinship is as that of any item: every eighth alike. That of the first pick of a user is not known, which
        says as little of a person as of a draw: as probable as it is for a person would be, so it is left to cancel.
        """
        shelf = np.bincount(self.shelf, minlength=BINS + 1) / len(self.shelf)
        chance = np.zeros((BINS + 1, BINS + 1))
        chance[:BINS, :BINS] = shelf[:BINS, None] / BINS
        chance[BINS, BINS] = shelf[BINS]
        return np.maximum(chance.ravel(), 1e-6)


def _named(dataset: Dataset, name: str, users: np.ndarray, rows: np.ndarray, what: str) -> Finding:
    """Its sentence names no user; its rows do, and are kept in no bundle."""
    if not len(users):
        return Finding(name, "ok", "none", {"users": 0, "interactions": 0})
    count = int(rows.sum())
    first = np.flatnonzero(rows)
    first = first[np.unique(dataset.events.user[first], return_index=True)[1]][:SHOWN]  # one of each user
    said = f"{len(users):,} users {what}; their {count:,} new interactions are left out"
    return Finding(name, "warning", said, {"users": len(users), "interactions": count}, rows_at(dataset, first))


def _left_out_before(dataset: Dataset, rows: np.ndarray) -> Finding:
    numbers = {"users": len(np.unique(dataset.events.user[rows])), "interactions": int(rows.sum())}
    said = "earlier looks have left out {interactions:,} interactions of {users:,} users, and they stay out"
    return Finding("left out before", "ok", said.format(**numbers), numbers)
