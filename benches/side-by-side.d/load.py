"""Processor time a request: runs wrk against each proxy in turn and sets what both counted in relation."""

import json
import os
import subprocess
from dataclasses import dataclass
from statistics import median

from servers import HERE, UNKNOWN_KEY, VALID_KEY, Failure, garbage_key, located

CONNECTIONS = 64


# Stands for the key that each gatelet has made itself.
MINTED = object()


@dataclass(frozen=True)
class Scenario:
    name: str
    path: str
    key: str | object | None
    status: int
    # The bare proxy refuses nobody.
    proxies: tuple[str, ...]

    def key_of(self, server):
        return server.minted if self.key is MINTED else self.key


SCENARIOS = (
    Scenario("valid key", "/portfolio", VALID_KEY, 200, ("nginx", "bare", "gatelet")),
    Scenario("either store", "/portfolio", MINTED, 200, ("gatelet", "on-redis")),
    Scenario("public route", "/public", None, 200, ("nginx", "bare", "gatelet")),
    Scenario("unknown key", "/portfolio", UNKNOWN_KEY, 401, ("nginx", "gatelet")),
    Scenario("garbage key", "/portfolio", garbage_key(), 401, ("nginx", "gatelet")),
)


def wrk(server, scenario, seconds, core):
    command = [
        located("wrk"), "--threads", "1", "--connections", str(CONNECTIONS),
        "--duration", f"{seconds}s", "--script", str(HERE / "report.lua"),
    ]
    if key := scenario.key_of(server):
        command += ["--header", f"x-api-key: {key}"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}{scenario.path}"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    if done.returncode:
        raise Failure(f"wrk ended with status {done.returncode}:\n{done.stdout}")
    return json.loads(done.stdout.rstrip().splitlines()[-1])


def window(server, scenario, seconds, core):
    """One run of wrk against one proxy, every answer of which must be the scenario's."""
    what = f"{server.name}, {scenario.name}"

    def probe():
        status = server.status_of(scenario.path, scenario.key_of(server))
        if status != scenario.status:
            raise Failure(f"{what}: answered {status}, not {scenario.status}")

    probe()
    before = server.processor_time()
    counted = wrk(server, scenario, seconds, core)
    spent = server.processor_time() - before
    server.check()
    probe()
    requests = counted["requests"]
    refused = 0 if scenario.status == 200 else requests
    if not requests or counted["broken"] or counted["refused"] != refused:
        raise Failure(f"{what}: not every answer was {scenario.status}: {counted}")
    return {
        "cpu_us": spent / 1000 / requests,
        "per_second": requests / counted["duration_us"] * 1e6,
        "p50_us": counted["p50_us"],
        "p99_us": counted["p99_us"],
        "rss_kib": server.memory()[0],
    }


def run(proxies, scenarios, rounds, seconds, core, progress):
    """Measures every scenario on every proxy, one after the other in each round.

    Whatever else the machine does then falls on all of them alike, and a ratio is one round's own.
    """
    measured = {scenario.name: {} for scenario in scenarios}
    for number in range(rounds):
        for scenario in scenarios:
            running = [proxies[name] for name in scenario.proxies if name in proxies]
            if not running:
                continue
            # Nobody is always the one who comes first.
            turn = number % len(running)
            for server in running[turn:] + running[:turn]:
                progress(f"round {number + 1}/{rounds}: {scenario.name}, {server.name}")
                result = window(server, scenario, seconds, core)
                measured[scenario.name].setdefault(server.name, []).append(result)
    return {name: summary(results) for name, results in measured.items() if results}


def summary(results):
    """Medians for each proxy, and the median of the rounds' ratios with the least and the greatest."""
    proxies = {
        name: {
            **{field: median(each[field] for each in rounds) for field in rounds[0]},
            "rounds": rounds,
        }
        for name, rounds in results.items()
    }
    pairs = [("gatelet", "nginx"), ("gatelet", "bare"), ("bare", "nginx"), ("on-redis", "gatelet")]
    ratios = {}
    for one, other in pairs:
        if one in results and other in results:
            each = sorted(a["cpu_us"] / b["cpu_us"] for a, b in zip(results[one], results[other]))
            ratios[f"{one}/{other}"] = {"median": median(each), "least": each[0], "greatest": each[-1]}
    return {"proxies": proxies, "ratios": ratios}


def printed(measured):
    lines = []
    for scenario, result in measured.items():
        lines.append(f"\n{scenario:<14}{'µs CPU/request':>16}{'requests/s':>13}{'p50 µs':>9}{'p99 µs':>9}{'RSS MiB':>9}")
        for name, of in result["proxies"].items():
            lines.append(
                f"  {name:<12}{of['cpu_us']:>16.2f}{of['per_second']:>13,.0f}"
                f"{of['p50_us']:>9.0f}{of['p99_us']:>9.0f}{of['rss_kib'] / 1024:>9.1f}"
            )
        for name, ratio in result["ratios"].items():
            lines.append(
                f"  {name:<16}{ratio['median']:>12.3f}   ({ratio['least']:.3f} to {ratio['greatest']:.3f})"
            )
    return "\n".join(lines)
