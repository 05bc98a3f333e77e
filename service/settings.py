"""Every setting of the service: one frozen struct, one default each, unknown keys refused.

Sources, later wins: the defaults below, `riffle.toml` in the working directory, `RIFFLE_*` environment
variables (`RIFFLE_HTTP_PORT=9000`). Settings are read when `load()` is called, never at import.
"""

import os
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from recsys.experiments.buckets import BUCKETS, rising_shares
from recsys.verbs import Objective, event_types
from service.errors import SettingsError
from service.registry_url import check_registry_url
from service.store_url import check_url
from service.telemetry.callers import networks
from service.telemetry.endpoint import check_endpoint
from service.telemetry.pseudonyms import check_key

VerbName = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,31}$")]
Port = Annotated[int, Meta(ge=1024, le=65535)]
ENV_PREFIX = "RIFFLE_"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one Riffle stack. Field comments give meaning, unit and, where measured, why."""

    # --- where things are ---
    home: str = ".riffle"  # state: datasets, bundles, Valkey files, logs, pids
    redis_url: str = ""  # redis://... of a real Redis or Valkey, redis+cluster://...; empty: start the embedded Valkey
    registry_url: str = (
        ""  # of the bundles, for several machines: s3://bucket/prefix, gs://..., file:///...; empty: home
    )

    # --- ports; every one is checked before anything starts ---
    http_host: str = "127.0.0.1"  # where HAProxy listens; 0.0.0.0 for everybody who can reach this machine
    http_port: Port = 8000  # HAProxy ingress
    dashboard_port: Port = 8265  # Ray dashboard
    valkey_port: Port = 6390  # embedded Valkey (not 6379: a system Redis may be there)
    ray_port: Port = 6380  # Ray's GCS (its default, 6379, is Redis's)
    node_host: str = "127.0.0.1"  # this machine's address for the others of its Ray cluster; 127.0.0.1: none
    haproxy_stats_port: Port = 8404  # HAProxy's own page
    haproxy_metrics_port: Port = 9101  # HAProxy's own Prometheus page
    metrics_port: Port = 9102  # Ray's Prometheus page: the metrics of this machine, ours among them
    replica_port_min: Port = 30000  # Serve replicas listen on [min, min + 100)

    # --- topology ---
    topology: Literal["colocated", "distributed"] = "colocated"  # stages in the gateways, or deployments of their own
    gateways: Annotated[int, Meta(ge=1, le=256)] = 2  # Gateway replicas to start with
    gateways_max: Annotated[int, Meta(ge=1, le=1024)] = 2  # autoscaling ceiling; equal to `gateways`: fixed
    downscale_delay_s: Annotated[float, Meta(ge=0)] = 300.0  # for so long less is enough before a Gateway ends

    # --- the request ---
    candidates: Annotated[int, Meta(ge=10, le=2000)] = 200  # ranked per request
    explore: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.1  # share of lists that end with a new item, where there is any
    diversity: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.05  # when the request names none (decision 0019)
    deadline_ms: Annotated[int, Meta(ge=1, le=10_000)] = 100  # when the request names none
    max_batch: Annotated[int, Meta(ge=1, le=256)] = 32  # requests per micro-batch
    max_waiting: Annotated[int, Meta(ge=1, le=100_000)] = 128  # per Gateway; more are shed with 429
    max_under_way: Annotated[int, Meta(ge=1, le=100_000)] = 44  # lists per Gateway until one says how many: 0024
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 524_288  # 1,000 ids of 256 bytes and room

    # --- the online store ---
    redis_timeout_ms: Annotated[int, Meta(ge=1, le=1000)] = 20  # per round trip and connect; then answers degrade
    redis_connections: Annotated[int, Meta(ge=1, le=256)] = 4  # per Gateway, for lookups; as many again for events

    # --- events ---
    event_late_s: Annotated[int, Meta(ge=1)] = 604_800  # older events are refused
    event_early_s: Annotated[int, Meta(ge=0)] = 60  # events further in the future are refused
    event_replicas: Annotated[int, Meta(ge=0, le=8)] = 0  # of the store that have an event before it is acknowledged
    event_limit: Annotated[int, Meta(ge=100)] = 40_000  # entries of one of 16 shards; beyond it 429
    event_kept: Annotated[int, Meta(ge=1)] = 10_000  # of a shard; beyond, those archived and applied are dropped
    updaters: Annotated[int, Meta(ge=1, le=16)] = 1  # feature updaters, who share the 16 shards of users
    archive_every_s: Annotated[float, Meta(gt=0)] = 5.0  # between moves from the log to the archive

    verbs: dict[VerbName, float] = {}  # verbs of your own; what each weighs beside a like, 0 to 10 in tenths

    # --- the catalogue ---
    catalogue_limit: Annotated[int, Meta(ge=2000)] = 100_000  # changes of items in its stream, 14 MB; beyond it 429
    catalogue_kept: Annotated[int, Meta(ge=1)] = 20_000  # beyond, those archived and in the item stats are dropped

    # --- forgetting ---
    forget_refuse_s: Annotated[int, Meta(ge=60, le=31_536_000)] = 2_592_000  # events of a forgotten user are refused
    withdrawn_kept_s: Annotated[int, Meta(ge=0, le=31_536_000)] = 2_592_000  # what they did to items, without who

    # --- decision records ---
    decision_sample: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0  # share of users whose answers are recorded
    decision_queue: Annotated[int, Meta(ge=1)] = 2048  # per Gateway; beyond it records are dropped, and counted
    decision_stream_length: Annotated[int, Meta(ge=100)] = 40_000  # approximate MAXLEN of the stream
    decision_kept: Annotated[int, Meta(ge=1)] = 10_000  # beyond, those archived a move ago are dropped

    # --- retraining by itself ---
    autopilot: bool = False  # a controller beside the service trains, judges and rolls out by itself
    autopilot_every_s: Annotated[float, Meta(ge=60)] = 86_400.0  # after so long training is due, if anything is new
    autopilot_share: Annotated[float, Meta(gt=0)] = 0.1  # of the known events: so many new ones are reason enough
    autopilot_least: Annotated[int, Meta(ge=1)] = 1_000  # fewer new events are never reason enough
    autopilot_rest_s: Annotated[float, Meta(ge=0)] = 3_600.0  # between two trainings at least
    autopilot_steps: str = "5,25,100"  # of its rollouts, in percent of all users
    autopilot_hold_s: Annotated[float, Meta(ge=0)] = 600.0  # how long each of these steps lasts at least
    autopilot_hold_users: Annotated[int, Meta(ge=1)] = 100  # and how many users of it each must have seen
    autopilot_margin: Annotated[float, Meta(gt=0, le=1)] = 0.05  # share of clicked lists that may be fewer; 1: any
    autopilot_keep: Annotated[int, Meta(ge=0)] = (
        20  # newest bundles that stay after a run; 0, or with `registry_url`: all
    )

    # --- who vouches for bundles: Ed25519 keys in PEM files ---
    signing_key: str = ""  # a private key: `riffle train` signs what it publishes
    trusted_keys: str = ""  # public keys: what none of them has signed is neither loaded nor promoted; empty: all is
    # --- telemetry ---
    otlp_endpoint: str = ""  # http://host:4318 of an OpenTelemetry collector, for traces and metrics; empty: none
    trace_sample: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.01  # share of requests that are traced
    trace_trusted: str = ""  # addresses and networks, with commas, whose traceparent is honoured; empty: nobody's
    log_key: str = ""  # hashes ids in logs and traces, 32 characters or more; empty: one that the home keeps

    # --- data and training ---
    objective: Objective = {}  # worth of a view, click, like, purchase to the ranker; unnamed: 1 (decision 0020)
    held_out: Annotated[float, Meta(ge=0.01, le=0.5)] = 0.2  # share of the newest events: judge a bundle, teach none
    positive_rating: Annotated[float, Meta(ge=-1e9, le=1e9)] = 4.0  # a rating of at least this is a positive
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 7  # of training, evaluation and the synthetic world

    def __post_init__(self) -> None:
        if self.gateways_max < self.gateways:
            raise ValueError(f"gateways_max ({self.gateways_max}) is below gateways ({self.gateways})")
        if rising_shares(self.autopilot_steps)[0] == BUCKETS and self.autopilot_margin < 1:
            raise ValueError("autopilot_steps 100 alone compares with nobody; then autopilot_margin has to be 1")
        event_types(self.verbs)  # refuses weights and names that cannot be
        for of, kept, limit in (
            ("event", self.event_kept, self.event_limit),
            ("catalogue", self.catalogue_kept, self.catalogue_limit),
        ):
            if kept > limit // 2:
                raise ValueError(f"{of}_kept ({kept}) is above half of {of}_limit ({limit})")
        if self.node_host != "127.0.0.1" and self.http_host == "127.0.0.1":
            raise ValueError("node_host is for other machines, which http_host 127.0.0.1 keeps out; set it to 0.0.0.0")
        if self.redis_url:
            check_url(self.redis_url)
        if self.registry_url:
            check_registry_url(self.registry_url)
        if self.otlp_endpoint:
            check_endpoint(self.otlp_endpoint)
        networks(self.trace_trusted)
        check_key(self.log_key)

    @property
    def home_path(self) -> Path:
        """Absolute path of `home`."""
        return Path(self.home).resolve()


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read settings from `riffle.toml` and `RIFFLE_*` variables.

    Args:
        path: A TOML file that must exist; None reads `riffle.toml` in the working directory if present.
        environ: The environment; None means `os.environ`.
    Raises:
        SettingsError: unreadable file, unknown key, wrong type or out of range; the message names source and key.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    source = path or Path("riffle.toml")
    if path is not None or source.exists():
        try:
            values = tomllib.loads(source.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"cannot read settings from {source}: {error}") from error
    from_env = {
        name.removeprefix(ENV_PREFIX).lower(): value for name, value in environ.items() if name.startswith(ENV_PREFIX)
    }
    checked = _each(values, f"{source}", strict=True) | _each(from_env, "environment (RIFFLE_*)", strict=False)
    try:
        return Settings(**checked)
    except ValueError as error:
        raise SettingsError(f"settings: {error}") from error


def _each(values: dict[str, Any], source: str, *, strict: bool) -> dict[str, Any]:
    """Every value by itself, converted; what concerns several of them is checked when all sources are together."""
    types = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    unknown = [name for name in values if name not in types]
    if unknown:
        raise SettingsError(f"{source}: unknown key {', '.join(unknown)}; known keys: {', '.join(types)}")
    checked = {}
    for name, value in values.items():
        try:
            is_json = not strict and typing.get_origin(types[name]) is dict
            checked[name] = msgspec.convert(
                msgspec.json.decode(value) if is_json else value, types[name], strict=strict or is_json
            )
        except msgspec.DecodeError as error:
            raise SettingsError(f"{source}: {name}: {error}") from error
    return checked
