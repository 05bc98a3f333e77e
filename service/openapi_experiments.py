"""The part of the OpenAPI document about experiments."""

from typing import Any

from service import errors, examples
from service.experiment_schemas import (
    ExperimentChange,
    ExperimentReport,
    ExperimentRequest,
    ExperimentsResponse,
    ExperimentState,
)
from service.openapi_parts import body, content, operation, ref, with_ids

STRUCTS = (ExperimentRequest, ExperimentChange, ExperimentState, ExperimentsResponse, ExperimentReport)
_READ = (errors.NotFound, errors.TrafficConflict, errors.Overloaded, errors.InternalError, errors.StoreUnavailable)
_CHANGE = (*_READ, errors.RequestError, errors.PayloadTooLarge, errors.UnsupportedMediaType)


def paths() -> dict[str, Any]:
    """The routes."""
    state = content(ref(ExperimentState), examples.EXPERIMENT_STATE)
    changed = body(ExperimentChange, examples.EXPERIMENT_CHANGE_EXAMPLES)
    listed = operation(
        "listExperiments",
        "All experiments",
        None,
        "As the traffic table has them",
        content(ref(ExperimentsResponse), {"experiments": [examples.EXPERIMENT_STATE]}),
        _READ[1:],
    )
    create = operation(
        "createExperiment",
        "Describe an experiment; nobody is in it before it is started",
        body(ExperimentRequest, examples.EXPERIMENT_EXAMPLES),
        "Described",
        state,
        (*_CHANGE[1:], errors.Unprocessable),
    )
    start = operation("startExperiment", "Draw users into its variants", changed, "Every replica obeys", state, _CHANGE)
    stop = operation("stopExperiment", "Draw nobody any more", changed, "Every replica obeys", state, _CHANGE)
    report = operation(
        "reportExperiment",
        "What came of it, with intervals that hold whenever one looks",
        None,
        "The report",
        content(ref(ExperimentReport), examples.EXPERIMENT_REPORT),
        (*_READ, errors.RecordsUnavailable),
    )
    return {
        "/v1/experiments": {"get": listed, "post": create},
        **with_ids("/v1/experiments/{name}:start", post=start),
        **with_ids("/v1/experiments/{name}:stop", post=stop),
        **with_ids("/v1/experiments/{name}/report", get=report),
    }
