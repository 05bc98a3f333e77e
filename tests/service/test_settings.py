"""Where settings come from, which of them wins, and what is refused."""

import ast
import inspect
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.settings import Settings, load


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`riffle.toml` of an empty working directory; not written yet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "riffle.toml"


@pytest.mark.usefixtures("toml")
def test_without_file_and_variables_the_defaults_hold() -> None:
    assert load(environ={}) == Settings()


def test_file_in_the_working_directory_is_read(toml: Path) -> None:
    toml.write_text('http_port = 9000\ntopology = "distributed"\ndecision_sample = 0.5\n')
    assert load(environ={}) == Settings(http_port=9000, topology="distributed", decision_sample=0.5)


def test_named_file_replaces_the_one_in_the_working_directory(toml: Path) -> None:
    toml.write_text("http_port = 9000\n")
    other = toml.with_name("other.toml")
    other.write_text("deadline_ms = 50\n")
    assert load(other, environ={}) == Settings(deadline_ms=50)


def test_environment_overrides_the_file_key_by_key(toml: Path) -> None:
    toml.write_text("http_port = 9000\nseed = 1\n")
    environ = {"RIFFLE_HTTP_PORT": "9001", "RIFFLE_DECISION_SAMPLE": "0.25", "HTTP_PORT": "9002"}
    assert load(environ=environ) == Settings(http_port=9001, seed=1, decision_sample=0.25)


@pytest.mark.usefixtures("toml")
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("otlp_endpoint", "collector:4318"),
        ("otlp_endpoint", "http://collector:port"),
        ("trace_trusted", "10.0.0.0/8, everybody"),
        ("log_key", "too short"),
        ("trace_sample", "1.5"),
    ],
)
def test_telemetry_that_cannot_be_is_refused_at_the_start(name: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(environ={f"RIFFLE_{name.upper()}": wrong})


@pytest.mark.usefixtures("toml")
def test_environment_is_read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIFFLE_SEED", "1")
    first = load()
    monkeypatch.setenv("RIFFLE_SEED", "2")
    assert (first.seed, load().seed) == (1, 2)


def test_unknown_key_in_the_file_is_refused_with_the_known_ones(toml: Path) -> None:
    toml.write_text("http_prot = 9000\n")
    with pytest.raises(SettingsError) as refused:
        load(environ={})
    assert "riffle.toml" in str(refused.value)
    assert "unknown key http_prot" in str(refused.value)
    assert ", ".join(Settings.__struct_fields__) in str(refused.value)


@pytest.mark.usefixtures("toml")
def test_unknown_variable_is_refused_with_the_known_keys() -> None:
    with pytest.raises(SettingsError) as refused:
        load(environ={"RIFFLE_HTTP_PROT": "9000"})
    assert "environment" in str(refused.value)
    assert "unknown key http_prot" in str(refused.value)
    assert ", ".join(Settings.__struct_fields__) in str(refused.value)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('http_port = "9000"', "http_port"),
        ("http_port = 9000.5", "http_port"),
        ("http_port = true", "http_port"),
        ("home = 1", "home"),
        ('topology = "ring"', "topology"),
    ],
)
def test_wrong_type_in_the_file_is_refused_with_its_key(toml: Path, line: str, key: str) -> None:
    toml.write_text(line)
    with pytest.raises(SettingsError, match=rf"riffle\.toml: {key}: "):
        load(environ={})


@pytest.mark.usefixtures("toml")
@pytest.mark.parametrize("value", ["", "many", "9000.5", "1e99"])
def test_variable_that_is_not_a_number_is_refused_with_its_key(value: str) -> None:
    with pytest.raises(SettingsError, match=r"environment.*: http_port: "):
        load(environ={"RIFFLE_HTTP_PORT": value})


@pytest.mark.usefixtures("toml")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http_port", "1023"),
        ("http_port", "65536"),
        ("gateways", "0"),
        ("candidates", "9"),
        ("diversity", "-0.1"),
        ("diversity", "1.1"),
        ("diversity", "nan"),
        ("deadline_ms", "0"),
        ("deadline_ms", "10001"),
        ("max_batch", "257"),
        ("max_waiting", "0"),
        ("redis_timeout_ms", "-1"),
        ("decision_sample", "1.01"),
        ("decision_sample", "nan"),
        ("positive_rating", "nan"),
        ("seed", "-1"),
    ],
)
def test_value_out_of_range_is_refused_with_its_key(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(environ={f"RIFFLE_{name.upper()}": value})


def test_objective_names_positives_and_what_they_are_worth(toml: Path) -> None:
    toml.write_text("[objective]\npurchase = 3\nview = 0.0\n")
    assert load(environ={}).objective == {"purchase": 3.0, "view": 0.0}
    assert load(environ={"RIFFLE_OBJECTIVE": '{"like": 2.5}'}).objective == {"like": 2.5}


@pytest.mark.usefixtures("toml")
@pytest.mark.parametrize("value", ['{"hide": 1}', '{"watch": 1}', '{"click": -1}', '{"click": 101}', '{"click": "2"}'])
def test_objective_that_cannot_be_is_refused_with_its_key(value: str) -> None:
    with pytest.raises(SettingsError, match="objective"):
        load(environ={"RIFFLE_OBJECTIVE": value})


def test_verbs_of_ones_own_come_from_file_or_as_json(toml: Path) -> None:
    toml.write_text("[verbs]\nadd_to_cart = 3\nskip = 0.0\n")
    assert load(environ={}).verbs == {"add_to_cart": 3.0, "skip": 0.0}
    assert load(environ={"RIFFLE_VERBS": '{"share": 2.5}'}).verbs == {"share": 2.5}


@pytest.mark.usefixtures("toml")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("add_to_cart=3", "malformed"),
        ('{"Add to cart": 3}', "regex"),
        ('{"share": "many"}', "`float`"),
        ('{"share": -0.1}', "share weighs -0.1, not 0 to 10 in tenths"),
        ('{"share": 10.1}', "share weighs 10.1"),
        ('{"share": 0.25}', "share weighs 0.25"),
        ('{"click": 2}', "click is a type of its own"),
        ('{"merged": 2}', "merged is a type of its own"),
    ],
)
def test_verbs_that_cannot_be_are_refused_with_the_reason(value: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        load(environ={"RIFFLE_VERBS": value})


def test_fewer_gateways_at_most_than_to_start_with_are_refused_with_both_numbers(toml: Path) -> None:
    toml.write_text("gateways = 5\ngateways_max = 4\n")
    with pytest.raises(SettingsError, match=r"gateways_max \(4\) is below gateways \(5\)"):
        load(environ={})


@pytest.mark.parametrize(("of", "limit", "kept"), [("event", 1000, 600), ("catalogue", 5000, 2501)])
def test_more_kept_than_half_of_what_a_stream_takes_is_refused(toml: Path, of: str, limit: int, kept: int) -> None:
    toml.write_text(f"{of}_kept = {kept}\n{of}_limit = {limit}\n")
    with pytest.raises(SettingsError, match=rf"{of}_kept \({kept}\) is above half of {of}_limit \({limit}\)"):
        load(environ={})


def test_settings_that_fit_only_together_may_come_from_file_and_environment(toml: Path) -> None:
    toml.write_text("gateways_max = 8\n")
    assert load(environ={"RIFFLE_GATEWAYS": "4"}) == Settings(gateways=4, gateways_max=8)


@pytest.mark.usefixtures("toml")
@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "6379"])
def test_store_address_of_another_scheme_is_refused_with_the_schemes(url: str) -> None:
    with pytest.raises(SettingsError, match=r"redis://, rediss://, unix://, redis\+cluster:// or rediss\+cluster://"):
        load(environ={"RIFFLE_REDIS_URL": url})


@pytest.mark.usefixtures("toml")
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+cluster://", "names '', which is no host:port"),
        ("redis+cluster://u:secret@one:7000,,two", "names '', which is no host:port"),
        ("redis+cluster://one:seven", "names 'one:seven', which is no host:port"),
        ("redis+cluster://one:70000", "names 'one:70000'"),
        ("rediss+cluster://u:secret@one:7000/3", "asks for database 3; a cluster has database 0 alone"),
    ],
)
def test_cluster_that_cannot_be_one_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as refused:
        load(environ={"RIFFLE_REDIS_URL": url})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("content", [b"http_port = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_file_that_is_no_toml_is_refused_by_name(toml: Path, content: bytes) -> None:
    toml.write_bytes(content)
    with pytest.raises(SettingsError, match=r"cannot read settings from riffle\.toml"):
        load(environ={})


def test_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        load(tmp_path / "absent.toml", environ={})


@pytest.mark.usefixtures("toml")
def test_home_path_is_absolute(tmp_path: Path) -> None:
    assert load(environ={"RIFFLE_HOME": "state"}).home_path == tmp_path / "state"


def test_every_setting_is_documented_beside_its_declaration() -> None:
    source = inspect.getsource(Settings)
    lines = source.splitlines()
    declared = {
        node.target.id: " ".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert tuple(declared) == Settings.__struct_fields__
    assert [name for name, text in declared.items() if "  # " not in text] == []
