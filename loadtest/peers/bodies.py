"""The bodies of a peer's requests and answers, as Pydantic models, which is what all of these frameworks take."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.schemas import MAX_ID_BYTES

UserId = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES, strict=True)]
Count = Annotated[int, Field(ge=1, le=500, strict=True)]


class Query(BaseModel):
    """Ask for a ranked list for one user."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: UserId
    count: Count = 20


class Item(BaseModel):
    """One item of a list."""

    item_id: str
    score: float


class Recommendations(BaseModel):
    """A list, best first."""

    items: list[Item]
