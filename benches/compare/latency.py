"""What a proxy adds to the time of a request, seen from one connection that asks one thing after the other."""

import socket
from dataclasses import dataclass
from time import perf_counter_ns

from exchange import ask
from summary import percentile

BLOCKS = 10


@dataclass(frozen=True)
class Latency:
    """Blocks of requests to each proxy in turn, so that a slow moment falls on all; the relay is what is subtracted."""

    name: str
    peers: tuple[str, ...]

    tls = False
    headline = "added_us"
    columns = {
        "added_us": ("µs over the relay, p50", 1),
        "p50_us": ("p50 µs", 1),
        "p99_us": ("p99 µs", 0),
    }

    def measure(self, stage, names, options, progress):
        took = {name: [] for name in names}
        connections = {}
        try:
            for name in names:
                connections[name] = socket.create_connection(("127.0.0.1", stage.server(name).port), timeout=10)
                connections[name].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for block in range(BLOCKS):
                progress(f"block {block + 1}/{BLOCKS}")
                for name in names:
                    server, connection = stage.server(name), connections[name]
                    ask(server, connection)
                    for _ in range(options.questions):
                        start = perf_counter_ns()
                        ask(server, connection)
                        took[name].append((perf_counter_ns() - start) / 1000)
        finally:
            for connection in connections.values():
                connection.close()
        results = {
            name: {"p50_us": percentile(each, 50), "p99_us": percentile(each, 99)} for name, each in took.items()
        }
        if "relay" in results:
            for result in results.values():
                result["added_us"] = result["p50_us"] - results["relay"]["p50_us"]
        return results
