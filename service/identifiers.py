"""Recommendation ids: UUIDv7 (RFC 9562), so that they sort by time."""

import secrets
from typing import NamedTuple


class RecommendationId(NamedTuple):
    """A UUIDv7 in text and the 62 random bits at its end, the seed of everything random in its answer."""

    text: str
    seed: int


def recommendation_id(time_ms: int) -> RecommendationId:
    """A new id. time_ms: UTC epoch milliseconds. Cost: about 1 us."""
    chance = secrets.randbits(74)
    seed = chance & ((1 << 62) - 1)
    value = (time_ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | (chance >> 62) << 64 | 0b10 << 62 | seed
    digits = f"{value:032x}"
    return RecommendationId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}", seed)
