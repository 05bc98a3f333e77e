"""The OpenAPI document: complete, resolvable, true to the routes and to what the decoders take."""

import importlib.metadata
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
import pytest

from service import docs_page, errors, examples, openapi
from service.decoding import (
    decode_experiment,
    decode_experiment_change,
    decode_recommendation,
    decode_similar,
    decode_why_not,
)
from service.experiment_schemas import ExperimentReport, ExperimentState
from service.explanation_schemas import Explanation
from service.http import HttpEdge
from service.record_schemas import RecordedAnswer, RecordedExplanation, RecordedWhyNot, Replay
from service.routes import parameters
from service.schemas import Erasure, Merge, RecommendationResponse, SimilarResponse
from tests.service.test_http import RecordingRecommender


def every(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON document, depth first."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from every(value)
    elif isinstance(node, list):
        for value in node:
            yield from every(value)


def test_every_reference_resolves() -> None:
    document = openapi.document()
    references = [node["$ref"] for node in every(document) if isinstance(node.get("$ref"), str)]
    assert len(references) > 10
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_every_schema_is_used() -> None:
    document = openapi.document()
    used = {node["$ref"].rpartition("/")[2] for node in every(document) if isinstance(node.get("$ref"), str)}
    assert set(document["components"]["schemas"]) == used


def test_schemas_keep_to_openapi_3_0() -> None:
    for node in every(openapi.document()["components"]):
        assert node.get("type") != "null"
        assert not {"propertyNames", "const", "prefixItems", "$defs"} & set(node)
        assert not isinstance(node.get("examples"), list)
        assert node.get("required") != []


def test_nullable_fields_say_so() -> None:
    fields = openapi.document()["components"]["schemas"]["RecommendationRequest"]["properties"]
    assert {name for name, field in fields.items() if field.get("nullable")} == {
        "session",
        "filter",
        "diversity",
        "deadline_ms",
    }
    assert fields["deadline_ms"]["maximum"] == 10_000


def test_routes_and_document_name_the_same_paths_and_methods() -> None:
    recommender = RecordingRecommender()
    edge = HttpEdge(*[recommender] * 7)
    assets = {f"/docs/{name}" for name in docs_page.load_assets()}
    served = {
        path: {method.lower() for method in methods} - {"head"}
        for path, methods in edge.routes.table.items()
        if path not in assets
    }
    assert served == {path: set(operations) for path, operations in openapi.document()["paths"].items()}


def test_every_id_of_a_path_is_described_in_each_of_its_operations() -> None:
    paths = openapi.document()["paths"]
    assert any(parameters(path) for path in paths)
    for path, operations in paths.items():
        for operation in operations.values():
            described = [one for one in operation.get("parameters", []) if one["in"] == "path"]
            assert [one["name"] for one in described] == parameters(path)
            assert all(one["required"] and one["description"] for one in described)


def test_every_http_error_is_documented() -> None:
    # 404 and 405 are about routes that a document cannot list.
    documented = str(openapi.document()["paths"])
    kinds = set(errors.HttpError.__subclasses__()) - {errors.NotFound, errors.MethodNotAllowed}
    assert all(kind.type in documented for kind in kinds)
    assert len({kind.type for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("name", list(examples.REQUEST_EXAMPLES))
def test_documented_recommendation_request_is_accepted(name: str) -> None:
    decode_recommendation(orjson.dumps(examples.REQUEST_EXAMPLES[name]))


@pytest.mark.parametrize("name", list(examples.SIMILAR_EXAMPLES))
def test_documented_similar_request_is_accepted(name: str) -> None:
    decode_similar(orjson.dumps(examples.SIMILAR_EXAMPLES[name]))


@pytest.mark.parametrize("name", list(examples.WHY_NOT_EXAMPLES))
def test_documented_why_not_request_is_accepted(name: str) -> None:
    decode_why_not(orjson.dumps(examples.WHY_NOT_EXAMPLES[name]))


def test_documented_answers_fit_their_structs() -> None:
    msgspec.convert(examples.RECOMMENDATION_ANSWER, RecommendationResponse)
    msgspec.convert(examples.SIMILAR_ANSWER, SimilarResponse)
    msgspec.convert(examples.RECORDED_ANSWER, RecordedAnswer)
    msgspec.convert(examples.REPLAY, Replay)
    msgspec.convert(examples.EXPLANATION, Explanation)
    msgspec.convert(examples.RECORDED_EXPLANATION, RecordedExplanation)
    msgspec.convert(examples.RECORDED_WHY_NOT, RecordedWhyNot)
    msgspec.convert(examples.ERASURE, Erasure)
    msgspec.convert(examples.MERGE, Merge)
    msgspec.convert(examples.EXPERIMENT_STATE, ExperimentState)
    msgspec.convert(examples.EXPERIMENT_REPORT, ExperimentReport)


@pytest.mark.parametrize("name", list(examples.EXPERIMENT_EXAMPLES))
def test_documented_experiments_are_accepted(name: str) -> None:
    decode_experiment(orjson.dumps(examples.EXPERIMENT_EXAMPLES[name]))
    for change in examples.EXPERIMENT_CHANGE_EXAMPLES.values():
        decode_experiment_change(orjson.dumps(change))


def test_one_example_uses_every_request_field() -> None:
    fields = openapi.document()["components"]["schemas"]["RecommendationRequest"]["properties"]
    assert set(examples.REQUEST_EXAMPLES["everything"]) == set(fields)


def test_document_is_built_once() -> None:
    assert openapi.document() is openapi.document()


def test_version_is_the_installed_one_or_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    assert re.fullmatch(r"\d+\.\d+\.\d+.*", openapi.version())
    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    assert openapi.version() == "0.0.0"


def test_page_loads_only_files_that_are_served_here() -> None:
    links = re.findall(rb'(?:src|href)="([^"]+)"', docs_page.PAGE)
    assert {link.decode() for link in links} == {f"docs/{name}" for name in docs_page.load_assets()}
    assert b"http" not in docs_page.PAGE


def test_swagger_ui_of_the_wheel_renders_this_openapi_version() -> None:
    # The bundle's own gate: it renders a document whose version begins with "3.0.".
    bundle = docs_page.load_assets()["swagger-ui-bundle.js"].body
    assert b'"3.0."' in bundle
    assert openapi.document()["openapi"].startswith("3.0.")
