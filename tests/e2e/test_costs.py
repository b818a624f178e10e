"""How often gatelet calls the system to answer a request whose credentials it remembers, as strace counts it."""

import re
import subprocess
import time
from collections import Counter

import jwt
import pytest

from processes import BOUND, eventually
from recorder import Recorder
from wire import connect

ISSUER = "https://id.example.com"
SECRET = "a secret that gatelet shares with an issuer"

CONFIG = """
[listen]
proxy = "127.0.0.1:0"
telemetry = "127.0.0.1:0"

[runtime]
workers = 1

[log]
access = {log}

[[upstreams]]
name = "api"
url = "{upstream}"

[[routes]]
prefix = "/key"
require = ["api_key"]

[[routes]]
prefix = "/both"
require = ["api_key", "access_token"]

[[access_token.trusted]]
issuer = "{issuer}"
audience = ["api"]
secret_file = "{folder}/secret"

[store]
kind = "embedded"
path = "{folder}/store"
"""

# How many times each caller asks before requests are counted, until everything is remembered and connected.
WARM = 5

# How many requests are counted.
COUNTED = 960

# What each costs: the request is waited for, read and sent on, and so is its answer. A higher number is more work for
# every request, for ever; where one falls, the lower one belongs here.
COST = {"epoll_wait": 2, "recvfrom": 2, "sendto": 2}

# How many calls of one name a second may come with time, and not with requests: the store is followed, lines of the log
# are written every 5 ms with some waking and waiting, and a connection upstream is looked at that has rested as long.
BY_THE_CLOCK = 600

# What is called, in a line of the trace that begins with a thread; and what is called otherwise on some machines.
CALL = re.compile(r"^\d+ +(\w+)\(")
SAME = {"epoll_pwait": "epoll_wait"}

# A look at a connection that has rested, to see whether it is still open.
LOOK = "recvfrom to look"


@pytest.fixture(scope="module")
def strace(tool):
    """strace, where it may do its work."""
    program = tool("strace")
    tried = subprocess.run([program, "-o", "/dev/null", "true"], capture_output=True, text=True, timeout=BOUND)
    if tried.returncode:
        pytest.skip(f"no process may be traced here (in a container, --cap-add SYS_PTRACE allows it): {tried.stderr}")
    return program


class Traced:
    """gatelet with one worker, and what it calls."""

    def __init__(self, start, strace, program, folder, upstream, log):
        self.trace = folder / "trace"
        (folder / "secret").write_text(SECRET)
        config = CONFIG.format(upstream=upstream.url, issuer=ISSUER, folder=folder, log=str(log).lower())
        # As the parent of its tracer, not as the child, so that it is the one that signals reach.
        command = [strace, "-D", "-f", "-q", "-o", self.trace]
        command += [program, "serve", "--config", folder / "config.toml"]
        self.gatelet = start(config, command=command)
        self.key = self.gatelet.keys("create", "--name", "caller")["key"]

    def credentials(self, target):
        yield f"x-api-key: {self.key}"
        if target == "/both":
            claims = {"iss": ISSUER, "aud": "api", "sub": "ada", "exp": int(time.time()) + 3600}
            yield f"authorization: Bearer {jwt.encode(claims, SECRET, 'HS256')}"

    def calls(self, begin, end):
        """Ends gatelet; how often it called what, from when it had read the one request to when it had the other."""
        self.gatelet.stop()
        # A short number is filled up with spaces.
        ended = re.compile(rf"^{self.gatelet.child.pid} +\+\+\+ exited", re.MULTILINE)
        eventually("the trace is whole", lambda: ended.search(self.trace.read_text()))
        trace = self.trace.read_text()
        counted = Counter()
        for line in trace[trace.index(f'"GET {begin} ') : trace.index(f'"GET {end} ')].splitlines():
            if call := CALL.match(line):
                name = LOOK if "MSG_PEEK" in line else call.group(1)
                counted[SAME.get(name, name)] += 1
        return counted


def ask(connections, target, credentials):
    """Sends a request on each connection, and reads all that they are answered."""
    request = "\r\n".join([f"GET {target} HTTP/1.1", "host: api.test", *credentials, "\r\n"]).encode()
    for connection in connections:
        connection.sendall(request)
    for connection in connections:
        answer = b""
        while not answer.endswith(b"\r\n\r\nok\n"):
            data = connection.recv(65536)
            assert data, answer
            answer += data
        assert answer.startswith(b"HTTP/1.1 200 "), answer


@pytest.mark.parametrize(
    "target, callers, log",
    [("/key", 1, False), ("/both", 1, False), ("/key", 1, True), ("/key", 16, False)],
    ids=["key", "key_and_access_token", "access_log", "callers_at_once"],
)
def test_a_request_takes_no_more_calls_than_it_did(start, strace, program, tmp_path, target, callers, log):
    with Recorder() as upstream:
        traced = Traced(start, strace, program, tmp_path, upstream, log)
        credentials = list(traced.credentials(target))
        connections = [connect(traced.gatelet.proxy) for _ in range(callers)]
        for _ in range(WARM):
            ask(connections, target, credentials)

        ask(connections[:1], f"{target}/begin", credentials)
        begun = time.monotonic()
        for _ in range(COUNTED // callers):
            ask(connections, target, credentials)
        lasted = time.monotonic() - begun
        ask(connections[:1], f"{target}/end", credentials)
        counted = traced.calls(f"{target}/begin", f"{target}/end")

    cost = COST
    if callers > 1:
        # One wait serves several; and how long each of their connections has rested depends on the machine.
        cost = {**COST, "epoll_wait": 1, LOOK: 1}
    too_many = {
        name: count
        for name, count in counted.items()
        if count > cost.get(name, 0) * COUNTED + BY_THE_CLOCK * lasted
    }
    assert too_many == {}, f"for {COUNTED} requests, in {lasted:.1f} s: {dict(counted)}"
    # Else nothing was counted.
    assert counted["sendto"] > COUNTED
