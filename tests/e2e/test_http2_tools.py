"""curl, nghttp and h2load, with and without TLS, before upstreams of either protocol."""

import hashlib
import re
import socket
import subprocess
import threading

import pytest

from neighbours import HAProxy, Nginx, Place, Plan
from peers import Curl
from processes import BOUND, Api, Pieces, eventually

MIB = 1 << 20
LARGE = 64 * MIB
PIECE = bytes(range(256)) * 256

# What may be on the way between two sides of which one has stopped: the kernel's buffers, and a neighbour's.
ON_THE_WAY = 24 * MIB

# What of that gatelet itself may hold.
HELD = 8 * MIB

CONNECTIONS, STREAMS, REQUESTS = 10, 32, 2000


@pytest.fixture
def stand(world, authority, neighbour):
    """Starts gatelet before an API, over TLS or not; to an upstream of HTTP/2 an HAProxy speaks for it."""

    def run(tls, upstream, url):
        place = Place(url.removeprefix("http://"))
        lines = [f'url = "{url}"']
        if upstream == "http2":
            lines = [f'url = "http://{neighbour(HAProxy, Plan(place, place)).address}"', 'protocol = "http2"']
        # All streams at once: those that find no free connection wait for one.
        lines += ["max_connections = 64", 'connect_timeout = "10s"']
        return world("\n".join(lines), authority.issue() if tls else None)

    return run


BOTH = [
    pytest.mark.parametrize("upstream", ["http1", "http2"]),
    pytest.mark.parametrize("tls", [True, False], ids=["TLS", "cleartext"]),
]


def both(test):
    for mark in BOTH:
        test = mark(test)
    return test


def version(tls):
    """How curl is told to speak HTTP/2 at once."""
    return "--http2" if tls else "--http2-prior-knowledge"


@both
def test_curl_asks_and_is_answered(stand, api, authority, tool, tmp_path, tls, upstream):
    world = stand(tls, upstream, api.url)
    curl = Curl(tool("curl"), tmp_path, "--cacert", authority.file, version(tls), "-H", f"x-api-key: {world.key}")

    for method, more in [
        ("GET", []),
        ("HEAD", ["-I"]),
        ("POST", ["--data-binary", "hello"]),
        ("DELETE", ["-X", "DELETE"]),
    ]:
        got = curl(f"{world.url}/things?q=%2F", *more)

        assert (got.status, got.version) == (200, "2")
        assert (api.received[-1]["method"], api.received[-1]["target"]) == (method, "/things?q=%2F")
        assert api.received[-1]["body"] == (b"hello" if method == "POST" else b"")
        assert (api.header("x-auth-subject"), api.header("x-api-key")) == (["acme"], [])
        assert api.header("x-forwarded-proto") == ["https" if tls else "http"]
        assert api.header("host") == [world.proxy]

    refused = curl(f"{world.url}/things", "-H", "x-api-key: another-key-of-nobody")
    assert (refused.status, refused.json["code"]) == (400, "credential_ambiguous")
    refused = Curl(tool("curl"), tmp_path, "--cacert", authority.file, version(tls))(f"{world.url}/things")
    assert (refused.status, refused.json["code"], refused.version) == (401, "credential_missing", "2")
    assert len(api.received) == 4


def test_curl_is_not_upgraded_without_tls(stand, api, tool, tmp_path):
    """It offers `Upgrade: h2c`, which RFC 9113 took back."""
    world = stand(False, "http1", api.url)

    got = Curl(tool("curl"), tmp_path)(f"{world.url}/things", "--http2", "-H", f"x-api-key: {world.key}")

    assert (got.status, got.version) == (200, "1.1")
    for absent in ["upgrade", "http2-settings", "connection"]:
        assert api.header(absent) == []


@both
def test_nghttp_asks_and_is_answered(stand, api, tool, tmp_path, tls, upstream):
    world = stand(tls, upstream, api.url)
    body = tmp_path / "body"
    body.write_bytes(PIECE)
    nghttp = [tool("nghttp"), "-y", "-t", "20s", "-H", f"x-api-key: {world.key}"]

    paths = [f"{world.url}/{number}" for number in range(30)]
    asked = subprocess.run([*nghttp, *paths], capture_output=True, timeout=60)
    assert (asked.returncode, asked.stderr) == (0, b"")
    assert asked.stdout.count(b'{"ok":true}\n') == 30
    assert sorted(request["target"] for request in api.received) == sorted(f"/{number}" for number in range(30))

    posted = subprocess.run([*nghttp, "-d", body, f"{world.url}/things"], capture_output=True, timeout=60)
    assert (posted.returncode, posted.stdout) == (0, b'{"ok":true}\n')
    assert (api.received[-1]["method"], api.received[-1]["body"]) == ("POST", PIECE)


@both
def test_h2load_is_answered_every_time(stand, api, tool, tmp_path, tls, upstream):
    world = stand(tls, upstream, api.url)
    body = tmp_path / "body"
    body.write_bytes(PIECE[:1000])

    load(tool, world, "-d", body)

    assert len(api.received) == REQUESTS
    assert all(request["body"] == PIECE[:1000] for request in api.received)


@pytest.mark.parametrize("body", [b"", PIECE[:1000]], ids=["GET", "POST"])
def test_a_server_that_lets_connections_go_costs_no_request(world, api, neighbour, tool, tmp_path, body):
    """nginx does so after a thousand requests; those on their way are not looked at, and sent again."""
    place = Place(api.url.removeprefix("http://"))
    address = neighbour(Nginx, Plan(place, place, http2=True, requests=100)).address
    world = world(f'url = "http://{address}"\nprotocol = "http2"')
    file = tmp_path / "body"
    file.write_bytes(body)

    load(tool, world, *(["-d", file] if body else []))

    # None arrived twice.
    assert len(api.received) == REQUESTS
    assert all(request["body"] == body for request in api.received)


def load(tool, world, *more):
    """Sends requests on many streams at once, each of which has to be answered well."""
    command = [tool("h2load"), "-n", f"{REQUESTS}", "-c", f"{CONNECTIONS}", "-m", f"{STREAMS}", *more]
    command += ["-H", f"x-api-key: {world.key}", f"{world.url}/things"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    counts = dict((name, int(count)) for count, name in re.findall(r"(\d+) (\w+)", lines(printed, "requests:")))
    wanted = {"total": REQUESTS, "started": REQUESTS, "done": REQUESTS, "succeeded": REQUESTS}
    assert counts == {**wanted, "failed": 0, "errored": 0, "timeout": 0}, printed
    assert f"{REQUESTS} 2xx" in lines(printed, "status codes:")


def lines(printed, beginning):
    (line,) = [line for line in printed.splitlines() if line.startswith(beginning)]
    return line


class Held:
    """An API whose answer goes on, and which reads on, when a test lets it."""

    def __init__(self):
        self.go_on, self.sent, self.hash = threading.Event(), 0, hashlib.sha256()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:{}".format(self.listener.getsockname()[1])
        self.thread = threading.Thread(target=self.read, daemon=True)

    def read(self):
        """Takes one upload, of which nothing but the head is read until then."""
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rb") as stream:
            while stream.readline() != b"\r\n":
                pass
            assert self.go_on.wait(BOUND)
            while size := int(stream.readline(), 16):
                self.hash.update(stream.read(size))
                stream.readline()
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    def write(self):
        """What an answer is made of."""
        for _ in range(LARGE // len(PIECE)):
            self.sent += len(PIECE)
            yield PIECE


WHOLE = hashlib.sha256(PIECE * (LARGE // len(PIECE))).digest()


class Standstill:
    """Whether a count has stopped to grow."""

    def __init__(self, count):
        self.count, self.last, self.looks = count, 0, 0

    def __call__(self):
        now = self.count()
        self.looks = self.looks + 1 if now == self.last and now else 0
        self.last = now
        return self.looks > 15


@both
def test_a_large_upload_waits_for_an_upstream_that_reads_no_more(stand, authority, tool, tls, upstream):
    held = Held()
    world = stand(tls, upstream, held.url)
    held.thread.start()
    before, given = world.memory(), 0
    command = [tool("curl"), "-sS", "-m", "60", "--cacert", authority.file, version(tls), "-T", "-"]
    curl = subprocess.Popen(
        [*command, "-H", f"x-api-key: {world.key}", f"{world.url}/things"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def give():
        nonlocal given
        with curl.stdin as pipe:
            for _ in range(LARGE // len(PIECE)):
                pipe.write(PIECE)
                given += len(PIECE)

    giver = threading.Thread(target=give, daemon=True)
    giver.start()
    eventually("nothing more is taken", Standstill(lambda: given))
    assert given < ON_THE_WAY
    held.go_on.set()

    giver.join(3 * BOUND)
    assert (curl.stdout.read(), curl.wait(BOUND)) == (b"ok", 0)
    curl.stdout.close()
    held.thread.join(BOUND)
    held.listener.close()
    assert held.hash.digest() == WHOLE
    assert world.memory() - before < HELD


@both
def test_a_large_download_waits_for_a_caller_that_reads_no_more(stand, authority, tool, tls, upstream):
    held = Held()
    with Api(lambda _: (200, "application/octet-stream", Pieces(held.write()))) as api:
        world = stand(tls, upstream, api.url)
        before = world.memory()
        command = [tool("curl"), "-sS", "-m", "60", "--cacert", authority.file, version(tls)]
        curl = subprocess.Popen(
            [*command, "-H", f"x-api-key: {world.key}", f"{world.url}/things"], stdout=subprocess.PIPE
        )
        eventually("nothing more is sent", Standstill(lambda: held.sent))
        assert held.sent < ON_THE_WAY

        came = hashlib.sha256()
        while piece := curl.stdout.read(MIB):
            came.update(piece)
        assert (came.digest(), curl.wait(BOUND)) == (WHOLE, 0)
        curl.stdout.close()
        assert world.memory() - before < HELD
