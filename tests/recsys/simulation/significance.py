"""One level for all statistical tests of the simulation."""

import numpy as np
from scipy import stats

FALSE_ALARM = 1e-4  # the seeds are fixed: what passes once passes always. This is the chance that another seed fails


def assert_counts(observed: np.ndarray, expected: np.ndarray) -> None:
    """Counts of a sample follow the expected ones: Pearson's chi-square test."""
    assert expected.min() > 5  # below that the statistic is not chi-square
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > FALSE_ALARM


def assert_shares(successes: np.ndarray, trials: np.ndarray | int, chance: np.ndarray) -> None:
    """Independent binomial counts have these chances: the sum of squared z values is chi-square."""
    variance = trials * chance * (1 - chance)
    assert np.min(variance) > 5
    statistic = ((successes - trials * chance) ** 2 / variance).sum()
    assert stats.chi2.sf(statistic, np.size(chance)) > FALSE_ALARM
    assert stats.chi2.cdf(statistic, np.size(chance)) > FALSE_ALARM  # nor are they closer than chance allows
