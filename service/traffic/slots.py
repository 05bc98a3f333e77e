"""Which buckets of a layer each experiment has: as many as its share, and no other has them."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from recsys.experiments.buckets import BUCKETS
from service.errors import TrafficError

Share = Annotated[int, Meta(ge=0, le=BUCKETS)]  # in 0.01 %
Slots = tuple[tuple[Share, Share], ...]  # intervals [begin, end)


def check_slots(layer: str, experiments: Sequence[tuple[str, int, Slots]]) -> None:
    """Of name, share and slots of each; a table that was edited by hand may say otherwise.

    Raises:
        TrafficError: slots overlap, or are not as many as the share.
    """
    taken = sorted(slot for _, _, slots in experiments for slot in slots)
    pairs = zip([(0, 0), *taken], [*taken, (BUCKETS, BUCKETS)], strict=True)
    if any(begin >= end for begin, end in taken) or any(before[1] > after[0] for before, after in pairs):
        raise TrafficError(
            f"slots of the experiments in layer {layer!r} overlap; take them out, and they are given anew"
        )
    for name, share, slots in experiments:
        if sum(end - begin for begin, end in slots) != share:
            raise TrafficError(f"the slots of {name!r} are not its share; take them out, and they are given anew")
