"""Load on a running stack: people-like with Locust, capacity with wrk, tail latency with an open-loop generator."""
