"""Load for seconds: what the kernel scheduled for the proxy, over the requests that the load generator counted."""

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from keys import VALID_KEY
from servers import HERE, Failure, located

MIB = 1024 * 1024


@dataclass(frozen=True)
class Load:
    """One kind of request, sent as fast as it is answered."""

    name: str
    peers: tuple[str, ...]
    path: str = "/portfolio"
    key: str | None = VALID_KEY
    # How many different access tokens are sent; 0: none.
    tokens: int = 0
    status: int = 200
    tls: bool = False
    http2: bool = False
    upload: bool = False
    # Proxy and load share all cores, which several workers can only then have.
    shared: bool = False
    connections: int = 64
    per: str = "request"
    # What gatelet is sent right after, where it is compared with itself: a minute later the machine may be busier.
    beside: "Load | None" = None

    # What is compared first.
    headline = "cpu_us"

    @property
    def columns(self):
        return {
            "cpu_us": (f"µs CPU/{self.per}", 1),
            "per_second": (f"{self.per}s/s", 0),
            "p50_us": ("p50 µs", 0),
            "p99_us": ("p99 µs", 0),
            "peak_kib": ("peak KiB", 0),
        }

    def measure(self, stage, names, options, progress):
        """One result of each proxy, taken back to back."""
        results = {}
        for name in names:
            progress(name)
            results[name] = self.figures(name, stage, options)
            if self.beside and name == "gatelet":
                results[name]["beside_us"] = self.beside.figures(name, stage, options)["cpu_us"]
        return results

    def figures(self, name, stage, options):
        server = stage.server(name, self.tls, self.shared)
        self.probe(server, stage)
        if self.tokens > 1:
            # What it remembers of them is there before it is measured.
            self.generate(server, stage, 1)
        server.forget_peak()
        before = server.processor_time()
        counted = self.generate(server, stage, options.seconds)
        spent = server.processor_time() - before
        self.probe(server, stage)
        self.judge(server, counted)
        requests = counted["requests"]
        return {
            "cpu_us": spent / 1000 / requests,
            "per_second": requests / counted["duration_us"] * 1e6,
            "p50_us": counted["p50_us"],
            "p99_us": counted["p99_us"],
            "peak_kib": server.peak(),
        }

    def probe(self, server, stage):
        """Whether it answers as it should, and refuses what lacks a credential or has a forged one."""
        server.check()
        headers = self.headers(stage)
        method, body = ("PUT", bytes(MIB)) if self.upload else ("GET", None)
        status, received = server.answer(self.path, headers, method, body)
        self.expect(server, status, self.status)
        if self.path.endswith("/down") and len(received) != MIB:
            raise Failure(f"{server.name}, {self.name}: {len(received)} bytes, not 1 MiB")
        if self.key and server.name != "relay":
            self.expect(server, server.answer(self.path, {**headers, "x-api-key": "nobody's"})[0], 401)
        if self.tokens:
            forged = {**headers, "authorization": f"Bearer {stage.material.forged_token}"}
            self.expect(server, server.answer(self.path, forged)[0], 401)

    def expect(self, server, status, wanted):
        if status != wanted:
            raise Failure(f"{server.name}, {self.name}: answered {status}, not {wanted}")

    def headers(self, stage):
        headers = {}
        if self.key:
            headers["x-api-key"] = self.key
        if self.tokens:
            headers["authorization"] = f"Bearer {stage.material.one_token}"
        return headers

    def judge(self, server, counted):
        refused = 0 if self.status == 200 else counted["requests"]
        if not counted["requests"] or counted["broken"] or counted["refused"] != refused:
            raise Failure(f"{server.name}, {self.name}: not every answer was {self.status}: {counted}")

    def generate(self, server, stage, seconds):
        generator = h2load if self.http2 else wrk
        url = f"{'https' if self.tls else 'http'}://127.0.0.1:{server.port}{self.path}"
        with tempfile.TemporaryDirectory(prefix="compare-") as folder:
            return generator(self, url, self.headers(stage), seconds, stage, Path(folder))


def wrk(load, url, headers, seconds, stage, folder):
    parts, arguments = ["report.lua"], []
    if load.upload:
        parts.append("upload.lua")
    if load.tokens > 1:
        parts.append("tokens.lua")
        arguments = ["--", stage.material.tokens, load.key]
    script = folder / "script.lua"
    script.write_text("".join((HERE / "wrk" / part).read_text() for part in parts))
    command = [located("wrk"), "--threads", "1", "--connections", load.connections, "--duration", f"{seconds}s",
               "--script", script, *sent(headers), url, *arguments]
    output = ran(command, stage.load_cores(load.shared))
    return json.loads(output.rstrip().splitlines()[-1])


def h2load(load, url, headers, seconds, stage, folder):
    """10 connections with 32 streams each; its log has each answer's status and time."""
    log = folder / "log"
    command = [located("h2load"), "-t1", "-c10", "-m32", f"-D{seconds}", f"--log-file={log}", *sent(headers), url]
    output = ran(command, stage.load_cores(load.shared))
    if "Application protocol: h2" not in output:
        raise Failure(f"HTTP/2 was not agreed upon:\n{output}")
    broken = sum(int(number) for number in re.findall(r"(\d+) (?:errored|timeout)", output))
    took, refused = [], 0
    for line in log.read_text().splitlines():
        _, status, microseconds = line.split()
        took.append(int(microseconds))
        refused += status != "200"
    if not took:
        raise Failure(f"h2load was not answered:\n{output}")
    took.sort()
    return {
        "requests": len(took),
        "duration_us": seconds * 1e6,
        "p50_us": took[len(took) // 2],
        "p99_us": took[len(took) * 99 // 100],
        "refused": refused,
        "broken": broken,
    }


def sent(headers):
    return [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]


def ran(command, cores):
    """What a load generator prints, which runs on these cores."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if done.returncode:
        raise Failure(f"{command[0]} ended with status {done.returncode}:\n{done.stdout}")
    return done.stdout
