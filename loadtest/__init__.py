"""Load on a running stack: capacity with wrk, tail latency in an open loop, people with Locust, simulated users."""
