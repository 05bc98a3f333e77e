"""What is given on the command line of the sides of an experiment."""

import msgspec

from service.errors import TrafficError
from service.experiment_schemas import VariantRequest
from service.traffic.document import Arm


def variant_of(given: str) -> VariantRequest:
    """`b=50,diversity=0.2` as a variant. Raises TrafficError."""
    first, *others = given.split(",")
    name, _, share = first.partition("=")
    fields: dict[str, object] = {"name": name, "share": percentage(share)}
    for other in others:
        field, _, value = other.partition("=")
        if field not in Arm.__struct_fields__ or not value:
            known = ", ".join(f"{one}=..." for one in Arm.__struct_fields__)
            raise TrafficError(f"--variant {given!r}: {other!r} is no setting; known: {known}")
        if field in fields:
            raise TrafficError(f"--variant {given!r}: {field} is given twice")
        fields[field] = quotas_of(given, value) if field == "quotas" else value
    try:
        return msgspec.convert(fields, VariantRequest, strict=False)
    except msgspec.ValidationError as error:
        raise TrafficError(f"--variant {given!r}: {error}") from error


def quotas_of(given: str, value: str) -> list[dict[str, object]]:
    """`Drama:3+War:1` as quotas. Raises TrafficError."""
    found: list[dict[str, object]] = []
    for one in value.split("+"):
        category, _, most = one.rpartition(":")
        if not category or not most.isdecimal():
            raise TrafficError(f"--variant {given!r}: quotas are CATEGORY:MOST, more of them after a +; not {one!r}")
        found.append({"category": category, "max": int(most)})
    return found


def percentage(text: str) -> float:
    """A percentage. Raises TrafficError."""
    try:
        return float(text)
    except ValueError as error:
        raise TrafficError(f"{text!r} is no percentage; write NAME=50 for half") from error
