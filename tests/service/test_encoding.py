"""What an answer says of its items."""

import orjson
import pytest

from recsys.types import Source, World
from service.encoding import SOURCE_NAMES, ItemEncoder

POPULAR, ALS_AND_SIMILAR = 1 << Source.POPULAR, 1 << Source.ALS | 1 << Source.SIMILAR


def encoded(world: World, *, metadata: bool = True, with_scores: bool = True, reasons: bool = True) -> list[dict]:
    codes = [["popular"], ["similar_taste", "similar_to:b"]] if reasons else None
    items = ItemEncoder(world.bundle).items(
        [2, 4], [1.5, -0.25], [POPULAR, ALS_AND_SIMILAR], codes, metadata=metadata, with_scores=with_scores
    )
    return orjson.loads(orjson.dumps(items))


def test_items_carry_id_rank_score_sources_reasons_and_metadata(tiny: World) -> None:
    assert encoded(tiny) == [
        {
            "item_id": "c",
            "rank": 1,
            "score": 1.5,
            "sources": ["popular"],
            "reasons": ["popular"],
            "metadata": {"title": "C", "categories": ["comedy", "drama"]},
        },
        {
            "item_id": "e",
            "rank": 2,
            "score": -0.25,
            "sources": ["als", "similar"],
            "reasons": ["similar_taste", "similar_to:b"],
            "metadata": {"title": "E", "categories": []},
        },
    ]


@pytest.mark.parametrize(
    ("switch", "absent"), [("metadata", "metadata"), ("with_scores", "score"), ("reasons", "reasons")]
)
def test_part_that_is_not_wanted_is_absent_and_not_null(tiny: World, switch: str, absent: str) -> None:
    with_it, without = encoded(tiny), encoded(tiny, **{switch: False})
    assert [{name: value for name, value in item.items() if name != absent} for item in with_it] == without


def test_answer_of_memory_is_the_answer_of_the_bundle(tiny: World) -> None:
    encoder = ItemEncoder(tiny.bundle)
    first, second = (
        orjson.dumps(encoder.items([0], [0.0], [POPULAR], None, metadata=True, with_scores=True)) for _ in range(2)
    )
    assert first == second
    assert encoder.item_id.cache_info().hits == 1


def test_every_combination_of_sources_has_its_names() -> None:
    assert len(SOURCE_NAMES) == 2 ** len(Source)
    for bits, names in enumerate(SOURCE_NAMES):
        assert bits == sum(1 << Source[name.upper()] for name in names)


def test_scores_survive_json_bit_for_bit(tiny: World) -> None:
    scores = [0.1 + 0.2, 1e-300]
    items = ItemEncoder(tiny.bundle).items([0, 1], scores, [1, 1], None, metadata=False, with_scores=True)
    assert [item["score"] for item in orjson.loads(orjson.dumps(items))] == scores
