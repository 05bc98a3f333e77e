"""Users of a rollout and what comes of their lists, made up: what guards and reports are tried on."""

import numpy as np

from recsys.experiments.outcomes import Outcomes

CLICKS, LIKES = 0.3, 0.05  # shares of the champion's lists
DEGRADED = 0.0001
SLOW, STRANGE = 0.002, 0.001
CHANGED = 0.8  # of lists, beside the one before
LISTS = 8.0  # of a user, on average, after the first
CATALOGUE, SHOWN = 1000, 10  # items; of a list
POPULARITY = 1.2  # Zipf's exponent of what is shown


def simulated_outcomes(
    rng: np.random.Generator,
    *,
    users: int,
    share: float = 0.5,
    clicks: float = CLICKS,
    likes: float = LIKES,
    slower_ms: float = 0.0,
    degraded: float = DEGRADED,
    slow: float = SLOW,
    strange: float = STRANGE,
    changed: float = CHANGED,
    popular: float = 0.0,
    lost_items: float = 0.0,
    lost_users: float = 0.0,
) -> Outcomes:
    """Users of different tastes and habits, some of them in a bundle that does what the arguments say.

    Args:
        share: Of the users, in the bundle. clicks, likes, changed, degraded, slow, strange: Shares of its lists, as in
            `Outcomes.totals`. slower_ms: Of each of them. popular: Share of its places that the most popular items
            have instead.
        lost_items: Share of the catalogue that it lacks. lost_users: Share of its users who never arrive.
    """
    variant = (rng.random(users) < share).astype(np.int64)
    kept = ~((variant == 1) & (rng.random(users) < lost_users))
    variant = variant[kept]
    taste = rng.beta(4, 4, len(variant)) * 2
    lists = 1.0 + rng.poisson(LISTS, len(variant))
    whole = lists.astype(int)
    clicked = rng.binomial(whole, np.clip(np.where(variant == 1, clicks, CLICKS) * taste, 0, 1))
    liked = rng.binomial(whole, np.clip(np.where(variant == 1, likes, LIKES) * taste, 0, 1))
    bad = rng.binomial(whole, np.where(variant == 1, degraded, DEGRADED))
    took = lists * rng.gamma(4, 2, len(variant)) + np.where(variant == 1, slower_ms, 0) * lists
    items, owners = [], []
    for one in (0, 1):
        catalogue = int(CATALOGUE * (1 - (lost_items if one else 0)))
        rows = np.flatnonzero(variant == one)
        of = np.repeat(rows, SHOWN)
        owners.append(of)
        shown = np.minimum(rng.zipf(POPULARITY, len(of)) - 1, 10**6) % catalogue
        instead = rng.random(len(of)) < (popular if one else 0)
        items.append(np.where(instead, rng.integers(SHOWN, size=len(of)), shown))
    other = rng.binomial(whole - 1, np.where(variant == 1, changed, CHANGED))
    late, odd = (
        rng.binomial(whole, np.where(variant == 1, own, usual)) for own, usual in ((slow, SLOW), (strange, STRANGE))
    )
    totals = np.array([clicked, liked, liked * 2.0, other, bad, took, late, odd], float)
    before = rng.poisson(10 * taste).astype(float)
    return Outcomes(("control", "canary"), variant, lists, totals, before, tuple(items), tuple(owners))
