"""How many cores, machines, gigabytes and what money a load takes: a model of measured costs.

The costs are of the whole service (HAProxy, Ray's daemons, gateways, store, updaters) on one machine, as `make bench`
and `python -m loadtest.served_catalogue` measure them; `docs/capacity.md` has the runs and how far off the model was.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise

DAY_S = 86_400
PEAK = 30_000 / 11_574  # of the average rate: about a billion a day, 30,000/s at its busiest
UTILISATION = 0.6
HOURS_A_MONTH = 730
CPU_MS = {1_682: 0.62, 100_000: 0.87, 1_000_000: 1.06, 10_000_000: 1.69}


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured.

    Attributes:
        cpu_ms: CPU time of a request by catalogue size, the store's left out; between sizes it goes with the logarithm.
        store_cpu_ms: Of the store, per request.
        event_cpu_ms, store_event_cpu_ms: Of an event from HTTP to state, without and with the store.
        bundle_bytes_per_item: Memory-mapped files, once on each node.
        gateway_bytes: Of each gateway beside them. node_bytes: Of Ray and HAProxy on each node.
        state_bytes: Of one user in the store, keys and allocation included.
        request_bytes, answer_bytes: Over the network in front; store_bytes: Between gateway and store.
    """

    cpu_ms: dict[int, float] = field(default_factory=lambda: dict(CPU_MS))
    store_cpu_ms: float = 0.02
    event_cpu_ms: float = 0.064
    store_event_cpu_ms: float = 0.022
    bundle_bytes_per_item: float = 3_800.0
    gateway_bytes: float = 200e6
    node_bytes: float = 1.9e9
    state_bytes: float = 1_300.0
    request_bytes: float = 350.0
    answer_bytes: float = 3_600.0
    store_bytes: float = 1_100.0


@dataclass(frozen=True, slots=True)
class Demand:
    """What is to be served.

    Attributes:
        requests_a_day: On average; `peak` times as many at the busiest. events: Per request.
        users: In the store. items: Of the catalogue.
        zones: Of which one may be lost. replicas: Copies of the store's data, the first included.
    """

    requests_a_day: float
    items: int
    users: float
    events: float = 0.5
    peak: float = PEAK
    zones: int = 3
    replicas: int = 2


@dataclass(frozen=True, slots=True)
class Machine:
    """What can be had: cores and memory of one, and prices in money an hour."""

    cores: int = 16
    memory_gb: float = 64.0
    core_hour: float = 0.045
    gb_hour: float = 0.005


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes.

    Attributes:
        average_rps, peak_rps: Requests. cores_busy: On average, service and store.
        cores: At the peak, at UTILISATION, with one zone lost. gateways, machines: As many, over all zones.
        node_gb: Memory that a machine of the service uses. store_gb: Of all copies. store_cores: Of the primaries.
        network_mb_s: At the peak, in front and to the store.
        a_month: In the money of the prices.
    """

    average_rps: float
    peak_rps: float
    cores_busy: float
    cores: float
    gateways: int
    machines: int
    node_gb: float
    store_cores: float
    store_gb: float
    network_mb_s: float
    a_month: float


def cpu_ms(costs: Costs, items: int) -> float:
    """CPU time of a request over a catalogue of this size; beyond what was measured as between the last two sizes."""
    known = sorted(costs.cpu_ms.items())
    if items <= known[0][0] or len(known) == 1:
        return known[0][1]
    (few, low), (many, high) = next((pair for pair in pairwise(known) if items <= pair[1][0]), tuple(known[-2:]))
    share = (math.log(items) - math.log(few)) / (math.log(many) - math.log(few))
    return low + share * (high - low)


def plan(demand: Demand, costs: Costs | None = None, machine: Machine | None = None) -> Plan:
    """Cores from the peak, one zone lost and UTILISATION; memory once a node for files, once a process for the rest.

    Raises:
        ValueError: something asked for is not above 0, there are fewer than two zones, or no machine holds the files.
    """
    costs, machine = costs or Costs(), machine or Machine()
    _check(demand)
    average = demand.requests_a_day / DAY_S
    peak = average * demand.peak
    service_ms = cpu_ms(costs, demand.items) + demand.events * costs.event_cpu_ms
    store_ms = costs.store_cpu_ms + demand.events * costs.store_event_cpu_ms
    spare = demand.zones / (demand.zones - 1) / UTILISATION
    cores, store_cores = (peak * each / 1e3 * spare for each in (service_ms, store_ms))
    gateways = max(demand.zones, math.ceil(cores))
    machines = max(demand.zones, math.ceil(gateways / machine.cores))
    on_each = math.ceil(gateways / machines)
    node_bytes = costs.node_bytes + demand.items * costs.bundle_bytes_per_item + on_each * costs.gateway_bytes
    if node_bytes > 0.9 * machine.memory_gb * 1e9:
        raise ValueError(
            f"a machine would need {node_bytes / 1e9 / 0.9:.0f} GB for {demand.items:,} items and {on_each} gateways; "
            f"it has {machine.memory_gb:g} (--machine-gb)"
        )
    store_gb = demand.users * costs.state_bytes * demand.replicas / 1e9 / 0.7  # a third free, for copies on write
    each_hour = machine.cores * machine.core_hour + machine.memory_gb * machine.gb_hour
    store_hour = demand.replicas * max(1, math.ceil(store_cores)) * machine.core_hour + store_gb * machine.gb_hour
    network = peak * (costs.request_bytes + costs.answer_bytes + costs.store_bytes) / 1e6
    return Plan(
        average_rps=average,
        peak_rps=peak,
        cores_busy=average * (service_ms + store_ms) / 1e3,
        cores=cores,
        gateways=gateways,
        machines=machines,
        node_gb=node_bytes / 1e9,
        store_cores=store_cores,
        store_gb=store_gb,
        network_mb_s=network,
        a_month=HOURS_A_MONTH * (machines * each_hour + store_hour),
    )


def _check(demand: Demand) -> None:
    for name in ("requests_a_day", "items", "users", "peak", "replicas"):
        if not getattr(demand, name) > 0:
            raise ValueError(f"{name} must be above 0, not {getattr(demand, name)}")
    if demand.events < 0:
        raise ValueError(f"events must be at least 0, not {demand.events}")
    if demand.zones < 2:
        raise ValueError("zones must be at least 2: with one there is nothing left when it is lost")
