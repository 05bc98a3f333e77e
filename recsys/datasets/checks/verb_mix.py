"""What users do: whether there is anything to learn from, and whether a kind of event has ended or begun."""

import numpy as np

from recsys.datasets.checks.finding import Finding, Row, rows_at, verb_name
from recsys.datasets.checks.windows import Windows
from recsys.datasets.dataset import Dataset
from recsys.verbs import Verb, is_positive

FEW_POSITIVES = 0.01  # of the events
FEW_BELOW = 0.02  # of the ratings: positive_rating then tells hardly anything apart; 48 % on MovieLens
EXPECTED = 10  # events of a verb in a window; by chance there is none once in e^10 = 22,000 windows (Poisson)


def verb_mix(dataset: Dataset) -> list[Finding]:
    """Findings about verbs."""
    windows = Windows.of(dataset)
    return [_positives(dataset), _rated(dataset), *([] if windows is None else _changes(dataset, windows))]


def _positives(dataset: Dataset) -> Finding:
    positive = is_positive(dataset.events.verb)
    count, events = int(positive.sum()), len(positive)
    share = count / events
    numbers = {"positives": count, "share": share}
    if not count:
        sentence = f"too few positives to learn from: none of {events:,} events is one; lower positive_rating?"
        return Finding("positives", "failure", sentence, numbers, rows_at(dataset, ~positive))
    found = np.bincount(dataset.events.verb, minlength=256)
    mix = ", ".join(f"{verb_name(int(verb))} {found[verb] / events:.1%}" for verb in np.flatnonzero(found))
    sentence = f"{count:,} of {events:,} events ({share:.1%}) are positives ({mix})"
    if share < FEW_POSITIVES:
        return Finding("positives", "warning", sentence, numbers, rows_at(dataset, positive))
    return Finding("positives", "ok", sentence, numbers)


def _rated(dataset: Dataset) -> Finding:
    """Where people rate, some ratings are bad; a log of clicks alone has no negatives, and nothing is wrong with it."""
    verb, value = dataset.events.verb, dataset.events.value
    below = int((verb == Verb.RATING).sum())
    rated = below + int(((verb == Verb.LIKE) & np.isfinite(value)).sum())
    if not rated:
        return Finding("ratings", "ok", "there are no ratings with a value")
    share = below / rated
    sentence = f"{below:,} of {rated:,} ratings ({share:.1%}) are below positive_rating"
    return Finding("ratings", "warning" if share < FEW_BELOW else "ok", sentence, {"ratings": rated, "below": share})


def _changes(dataset: Dataset, windows: Windows) -> list[Finding]:
    verb = dataset.events.verb
    newest = np.bincount(verb[windows.newest], minlength=256)
    previous = np.bincount(verb[windows.previous], minlength=256)
    earlier = previous + np.bincount(verb[windows.before], minlength=256)
    gone = (previous >= EXPECTED) & (newest == 0)
    begun = (earlier == 0) & (newest >= EXPECTED)
    size = windows.newest.stop - windows.newest.start
    missing = f"in none of the newest {size:,} events, and before them in"
    appeared = f"in no event before the newest {size:,}, and there in"
    last, first = np.flatnonzero(gone[verb])[::-1], np.flatnonzero(begun[verb])
    return [
        _change("verbs that ended", gone, earlier, missing, rows_at(dataset, last)),
        _change("verbs that began", begun, newest, appeared, rows_at(dataset, first)),
    ]


def _change(name: str, verbs: np.ndarray, count: np.ndarray, what: str, rows: tuple[Row, ...]) -> Finding:
    """verbs: bool [256]. count: int [256]."""
    numbers = {verb_name(int(verb)): int(count[verb]) for verb in np.flatnonzero(verbs)}
    if not numbers:
        return Finding(name, "ok", "none")
    listed = "; ".join(f"{verb} is {what} {events:,}" for verb, events in numbers.items())
    return Finding(name, "warning", listed, numbers, rows)
