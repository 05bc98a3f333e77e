"""Sticky assignment: the same user is always in the same bucket of a salt, in every process and version.

Buckets of different salts are independent. A share that grows keeps those whom it had: bucket < share.
"""

import hashlib
from collections.abc import Iterable, Sequence

BUCKETS = 10_000  # steps of 0.01 %


def bucket(salt: str, user_id: str) -> int:
    """0 to BUCKETS - 1 by BLAKE2b-64 of the id, keyed with the salt. Cost: 1 us.

    Args:
        salt: Names what is drawn; at most 64 UTF-8 bytes.
    """
    digest = hashlib.blake2b(user_id.encode(), digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest, "little") % BUCKETS  # 2^64 over 10^4: buckets differ by 1 in 10^15


def which(shares: Sequence[int], drawn: int) -> int:
    """The part that a bucket lies in, of parts of so many buckets each, in their order; -1 beyond the last."""
    for place, share in enumerate(shares):
        if drawn < share:
            return place
        drawn -= share
    return -1


def free_slots(taken: Iterable[tuple[int, int]], share: int) -> tuple[tuple[int, int], ...]:
    """The first buckets that nobody has, as many as a share wants, as intervals [begin, end); fewer where few are left.

    Args:
        taken: Intervals that do not overlap, in any order.
    """
    found, at = [], 0
    for begin, end in [*sorted(taken), (BUCKETS, BUCKETS)]:
        if begin > at and share > 0:
            found.append((at, min(begin, at + share)))
            share -= found[-1][1] - at
        at = max(at, end)
    return tuple(found)


def rising_shares(percents: str) -> tuple[int, ...]:
    """`1,5,25,50,100` in buckets. Raises ValueError: these are no percents, do not rise, or do not end with all."""
    try:
        shares = tuple(round(float(one) * BUCKETS / 100) for one in percents.split(","))
    except (OverflowError, ValueError) as error:
        raise ValueError(f"steps {percents!r}: give percents, as in 1,5,25,50,100") from error
    if not all(0 < one <= BUCKETS for one in shares) or list(shares) != sorted({*shares}):
        raise ValueError(f"steps {percents!r}: percents have to rise, from 0.01 to 100")
    if shares[-1] != BUCKETS:
        raise ValueError(f"steps {percents!r}: the last one has to be 100, where it is champion; `rollout pause` stays")
    return shares
