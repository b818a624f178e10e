"""nginx, HAProxy and Envoy, each before gatelet and behind it, over every protocol that both speak."""

import json
import ssl
import subprocess

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from neighbours import CALLER, HERE, Envoy, HAProxy, HAProxyTcp, Nginx, Place, Plan
from peers import Curl
from processes import BOUND, Api, Pieces, eventually
from sockets import LARGE, Sockets

MANY = 16 * LARGE

FRONT = """
upstream = "api"

[[upstreams]]
name = "sockets"
url = "http://{sockets}"

[[routes]]
prefix = "/sockets"
require = ["api_key"]
upstream = "sockets"

[forwarded]
trusted_proxies = ["{here}/32"]
"""


def answer(request):
    """What the API says to whom."""
    match request["target"].split("?")[0]:
        case "/large":
            return 200, "application/octet-stream", Pieces(bytes(range(256)) * 256 for _ in range(MANY >> 16))
        case "/trailed":
            return 200, "text/plain", Pieces([b"one", b"two"], **{"x-sum": "7"})
        case "/refused":
            return 401, "application/json", b'{"says":"the API"}'
        case _:
            return 200, "application/json", b'{"ok":true}'


class Way:
    """A way through a neighbour and gatelet, in either order, to an API and to WebSockets."""

    def __init__(self, entrance, world, api, sockets, tool, folder, certified=None):
        self.world, self.api, self.sockets, self.tool, self.certified = world, api, sockets, tool, certified
        scheme = "https" if certified else "http"
        self.url, self.trust = f"{scheme}://{entrance}", ["--cacert", certified] if certified else []
        self.key = ["-H", f"x-api-key: {world.key}"]
        self.ask = Curl(tool("curl"), folder, *self.trust, "--interface", CALLER)

    def nghttp(self, path, body):
        """Sends a body over HTTP/2 with a trailer, in chunks as it were."""
        command = [self.tool("nghttp"), "-y", "-t", "30s", "-H", f"x-api-key: {self.world.key}", "--no-content-length"]
        command += ["-H", "te: trailers", "--trailer", "x-sum: 7", "-d", body, self.url + path]
        done = subprocess.run(command, capture_output=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, b'{"ok":true}', b"")

    def websocket(self):
        context = ssl.create_default_context(cafile=self.certified) if self.certified else None
        return connect(
            self.url.replace("http", "ws", 1) + "/sockets/echo",
            ssl=context,
            additional_headers={"x-api-key": self.world.key},
            source_address=(CALLER, 0),
            proxy=None,
            max_size=2 * LARGE,
            open_timeout=BOUND,
        )

    def passes_requests(self, versions):
        """Requests of every kind, over each version of HTTP."""
        self.api.received.clear()
        for version in versions:
            got = self.ask(f"{self.url}/things?q=%2F", version, *self.key, "-H", "x-auth-subject: root")
            assert (got.status, got.json) == (200, {"ok": True})
            seen = self.api.received[-1]
            assert (seen["method"], seen["target"]) == ("GET", "/things?q=%2F")
            assert self.api.header("x-auth-subject") == self.api.header("x-auth-key-owner") == ["acme"]
            assert self.api.header("x-api-key") == []
            assert self.api.header("x-request-id") == got.header("x-request-id")

            got = self.ask(f"{self.url}/things", version)
            assert (got.status, got.json["code"]) == (401, "credential_missing")
            assert got.header("content-type") == ["application/problem+json"]
            assert [each.split()[0] for each in got.header("www-authenticate")] == ["Bearer", "ApiKey"]
            assert self.api.received[-1] is seen

            got = self.ask(f"{self.url}/refused", version, *self.key)
            assert (got.status, got.body) == (401, b'{"says":"the API"}')

            chunked = ["-H", "transfer-encoding: chunked"] if version == "--http1.1" else []
            got = self.ask(f"{self.url}/things", version, *self.key, *chunked, "--data-binary", "in chunks")
            assert got.status == 200
            assert self.api.received[-1]["body"] == b"in chunks"

    def passes_large_bodies(self, versions, folder):
        upload = folder / "upload"
        upload.write_bytes(bytes(range(256)) * (MANY >> 8))
        for version in versions:
            got = self.ask(f"{self.url}/large", version, *self.key, "-T", str(upload))
            assert (got.status, len(got.body)) == (200, MANY)
            assert got.body == self.api.received[-1]["body"] == upload.read_bytes()

    def passes_trailers(self, back):
        """Trailers of an answer, if its neighbour carries any."""
        got = self.ask(f"{self.url}/trailed", "--http2", *self.prior(), *self.key, "-H", "te: trailers")
        assert got.body == b"onetwo"
        assert got.trailers == ([("x-sum", "7")] if back else [])

    def passes_trailers_both_ways(self, folder):
        body = folder / "body"
        body.write_bytes(b"hello")
        self.nghttp("/things", body)
        seen = self.api.received[-1]
        assert (seen["body"], seen["trailers"]) == (b"hello", [("x-sum", "7")])
        self.passes_trailers(True)

    def prior(self):
        return [] if self.certified else ["--http2-prior-knowledge"]

    def passes_websockets(self):
        with self.websocket() as wire:
            for message in ["hello", b"w" * LARGE]:
                wire.send(message)
                assert wire.recv(BOUND) == message
            wire.close(4001, "I am off")
        seen = self.sockets.last()
        assert seen.over.wait(BOUND)
        assert (seen.closed.rcvd.code, seen.closed.rcvd.reason) == (4001, "I am off")
        assert (seen.header("x-auth-subject"), seen.header("x-api-key")) == (["acme"], [])
        return seen

    def asked_as(self, client):
        """The last request of the access log came from this address."""
        lines = [line for line in self.world.gatelet.lines if '"request_id"' in line]
        return lines and json.loads(lines[-1])["client"] == client


@pytest.fixture
def places():
    with Api(answer) as api, Sockets() as sockets:
        yield api, sockets


@pytest.fixture
def before(neighbour, world, authority, places, tool, tmp_path):
    """Starts gatelet behind a neighbour at which TLS ends; `speaks` is what they speak with each other."""

    def run(kind, speaks):
        api, sockets = places
        certificate = authority.issue()
        inner = authority.issue("inner") if "https" in speaks else None
        told = FRONT.format(sockets=sockets.address, here=HERE)
        gatelet = world(f'url = "{api.url}"', inner, told)
        place = Place(gatelet.proxy, "h2" in speaks, inner and authority.file)
        # nginx opens WebSockets over HTTP/1.1 alone, which gatelet speaks at the same place.
        wires = Place(gatelet.proxy, place.http2 and kind is not Nginx, place.trusted)
        plan = Plan(place, wires, None if kind is HAProxyTcp else certificate, http2=True, is_edge=True)
        entrance = neighbour(kind, plan).address
        return Way(entrance, gatelet, api, sockets, tool, tmp_path, authority.file)

    return run


@pytest.fixture
def behind(neighbour, world, authority, places, tool, tmp_path):
    """Starts gatelet before a neighbour."""

    def run(kind, speaks):
        api, sockets = places
        certificate = authority.issue() if "https" in speaks else None
        plan = Plan(Place(api.url.removeprefix("http://")), Place(sockets.address), certificate, "h2" in speaks)
        address = neighbour(kind, plan).address
        upstream = [f'url = "{"https" if certificate else "http"}://{address}"']
        if certificate:
            upstream.append(f'ca_file = "{authority.file}"')
        if "h2" in speaks:
            upstream.append('protocol = "http2"')
        gatelet = world("\n".join(upstream))
        return Way(gatelet.proxy, gatelet, api, sockets, tool, tmp_path)

    return run


@pytest.mark.parametrize(
    ("kind", "speaks"),
    [
        (Nginx, "http1"),
        (Nginx, "https"),
        (Nginx, "h2c"),
        (HAProxy, "http1"),
        (HAProxy, "h2c"),
        (HAProxy, "https h2"),
        (Envoy, "http1"),
        (Envoy, "h2c"),
        (Envoy, "https h2"),
    ],
)
def test_gatelet_stands_behind_a_neighbour(before, kind, speaks, tmp_path):
    way = before(kind, speaks)
    versions = ["--http1.1", "--http2"]

    way.passes_requests(versions)
    way.passes_large_bodies(versions, tmp_path)
    if kind is Nginx:
        # It takes none with a request over HTTP/2, and passes an answer's on by its module for gRPC.
        way.passes_trailers(speaks == "h2c")
    else:
        way.passes_trailers_both_ways(tmp_path)
    seen = way.passes_websockets()
    assert seen.header("x-forwarded-for") == [f"{CALLER}, {HERE}"]

    # The neighbour's word is believed as far as it is its own.
    way.ask(f"{way.url}/things", *way.key)
    assert way.api.header("x-forwarded-for") == [f"{CALLER}, {HERE}"]
    assert way.api.header("x-forwarded-proto") == ["https"]
    eventually("the access log names the caller", lambda: way.asked_as(CALLER))
    way.ask(f"{way.url}/things", *way.key, "-H", "x-forwarded-for: 192.0.2.7")
    eventually("the access log names the caller", lambda: way.asked_as(CALLER))
    (chain,) = way.api.header("x-forwarded-for")
    assert chain.endswith(f"{CALLER}, {HERE}")

    assert_connections_are_kept(way)


def test_gatelet_stands_behind_one_that_hands_on_bytes(before, tmp_path):
    way = before(HAProxyTcp, "https h2")
    versions = ["--http1.1", "--http2"]

    way.passes_requests(versions)
    way.passes_large_bodies(versions, tmp_path)
    way.passes_trailers_both_ways(tmp_path)
    assert way.passes_websockets().header("x-forwarded-for") == [HERE]


@pytest.mark.parametrize("speaks", ["http1", "https", "h2c", "https h2"])
@pytest.mark.parametrize("kind", [Nginx, HAProxy, Envoy])
def test_gatelet_stands_before_a_neighbour(behind, kind, speaks, tmp_path):
    way = behind(kind, speaks)
    versions = ["--http1.1", "--http2-prior-knowledge"]

    way.passes_requests(versions)
    way.passes_large_bodies(versions, tmp_path)
    if kind is Nginx:
        way.passes_trailers(False)
    else:
        way.passes_trailers_both_ways(tmp_path)
    if kind is Nginx and "h2" in speaks:
        # It opens none over HTTP/2, and says so.
        with pytest.raises(InvalidStatus) as refused, way.websocket():
            pass
        assert refused.value.response.status_code == 502
    else:
        assert way.passes_websockets().header("x-forwarded-for") == [CALLER]

    way.ask(f"{way.url}/things", *way.key, "-H", "x-forwarded-for: 192.0.2.7")
    assert way.api.header("x-forwarded-for") == [CALLER]
    assert_connections_are_kept(way)


def assert_connections_are_kept(way):
    """Requests one after the other share connections, whoever opened them."""
    way.api.received.clear()
    for _ in range(12):
        assert way.ask(f"{way.url}/things", *way.key).status == 200
    assert len({request["connection"] for request in way.api.received}) <= 4
