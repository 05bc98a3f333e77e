"""The result of a bench as Markdown."""

from typing import Any

TITLES = {
    "colocated": "**Riffle, colocated**",
    "distributed": "Riffle, distributed",
    "fastapi_uvicorn": "FastAPI + uvicorn",
    "bento": "BentoML",
    "bento_batching": "BentoML, adaptive batching",
    "lit": "LitServe",
    "lit_batching": "LitServe, batching",
    "ray_docs": "Ray Serve as its docs compose it",
    "ray_docs_throughput": "the same with the throughput flags",
}


def markdown(result: dict[str, Any]) -> str:
    """One row a system, the best ratios first to read: how many times slower than ours, what a billion a day takes."""
    systems = result["systems"]
    ours = systems["colocated"]["closed_loop"]["rps"]
    cells = [
        [
            "system",
            "requests/s at saturation",
            "of ours",
            "p50 / p99 / p99.9 ms at 70 %",
            "highest rate, p99 < 100 ms",
            "p99 < 50 ms",
            "CPU s per 1,000",
            "cores per billion a day",
            "memory, MB",
            "failed",
            "same lists",
        ],
        ["---"] * 11,
    ]
    for name, one in systems.items():
        closed, tail, used = one["closed_loop"], one["open_loop"], one["memory"]["total_mb"]
        latency, highest = tail["latency_ms"], one["highest"]
        cells.append(
            [
                TITLES[name],
                f"{closed['rps']:,.0f}",
                f"{closed['rps'] / ours:.2f}",
                f"{latency['p50']:.1f} / {latency['p99']:.1f} / {latency['p99.9']:.1f}",
                f"{highest['p99_below_100_ms_rps']:,.0f}",
                f"{highest['p99_below_50_ms_rps']:,.0f}",
                f"{closed['cpu_s_per_1000']:.2f}",
                f"{closed['cores_per_billion_a_day']:.1f}",
                f"{used['pss'] or used['rss']:,.0f}",
                f"{closed['failed'] + sum(tail['errors'].values()):,}",
                f"{one['same_lists']:.0%}",
            ]
        )
    alone, machine = result["compute"], result["machine"]
    by_batch = ", ".join(f"{one['cpu_ms_per_request']:.2f} ms in batches of {b}" for b, one in alone["batch"].items())
    notes = [
        f"Limit {result['limit_rps']:,.0f} requests/s = 1 / (1 / {result['noop']['rps']:,.0f} of a request that does "
        f"nothing + 1 / {alone['rps']:,.0f} of the compute alone); ours: {ours / result['limit_rps']:.0%} of it.",
        f"Compute in process, CPU of a request: {by_batch}. A lone client waits "
        f"{systems['colocated']['lone_client']['p50_ms']:.1f} ms (p50).",
        f"Commit {result['commit']}, {machine['cores']} cores ({machine['cpu']}), load generator among them; "
        f"{result['time']}.",
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([table, "", *(f"- {note}" for note in notes), ""])
