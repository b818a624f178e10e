"""WebSockets between real clients and a real server, and events that a server sends while somebody listens."""

import json
import queue
import socket
import ssl
import subprocess
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect

from processes import BOUND, Api, Pieces
from sockets import LARGE, OneAtATime, Sockets

# What a revocation or an expiry may take: the promise.
AT_ONCE = 1.0

# A page, and a route to the WebSockets beside it.
BESIDE = """
upstream = "pages"

[[upstreams]]
name = "pages"
url = "{url}"

[[routes]]
prefix = "/sockets"
require = ["api_key"]
upstream = "api"
"""


class Wires:
    """gatelet before a WebSocket server, over TLS on both sides or on neither."""

    def __init__(self, world, authority, sockets, certificate, more=""):
        upstream = f'url = "http://{sockets.address}"'
        if certificate:
            upstream = f'url = "https://{sockets.address}"\nca_file = "{authority.file}"'
        self.sockets, self.world = sockets, world(upstream, certificate, more)
        self.gatelet, self.url = self.world.gatelet, self.world.url.replace("http", "ws", 1)
        self.context = ssl.create_default_context(cafile=authority.file) if certificate else None
        if self.context:
            self.context.sslsocket_class = OneAtATime

    def open(self, path="/echo", key=None, **options):
        headers = {"x-api-key": key or self.world.key, **options.pop("headers", {})}
        return connect(
            self.url + path,
            ssl=self.context,
            additional_headers=headers,
            proxy=None,
            max_size=2 * LARGE,
            open_timeout=BOUND,
            close_timeout=BOUND,
            **options,
        )


@pytest.fixture(params=["wss", "ws"])
def wires(request, world, authority):
    certificate, context = None, None
    if request.param == "wss":
        certificate = authority.issue()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.both)
    with Sockets(context) as sockets:
        yield Wires(world, authority, sockets, certificate)


def test_a_websocket_opens_for_a_key_alone(wires):
    with pytest.raises(InvalidStatus) as refused, wires.open(key="not-a-key-of-anybodys"):
        pass
    answer = refused.value.response
    assert (answer.status_code, json.loads(answer.body)["code"]) == (401, "api_key_invalid")
    assert answer.headers.get_all("www-authenticate")[0].startswith('Bearer realm="gatelet"')
    assert wires.sockets.opened == []

    with wires.open("/echo?a=%2F", headers={"x-auth-subject": "root"}, subprotocols=["chat.v1"]) as wire:
        wire.send("hello")
        assert wire.recv(BOUND) == "hello"
        assert wire.subprotocol == "chat.v1"

    seen = wires.sockets.last()
    assert (seen.path, seen.received) == ("/echo?a=%2F", ["hello"])
    assert seen.header("x-api-key") == []
    assert seen.header("x-auth-subject") == ["acme"]
    assert seen.header("x-auth-key-id") == [wires.world.made["id"]]
    assert seen.header("x-forwarded-for") == ["127.0.0.1"]
    assert seen.header("host") == [wires.world.proxy]


def test_pings_are_answered_by_the_other_side(wires):
    with wires.open("/ping") as wire:
        assert wire.recv(BOUND) == "a pong came"
        assert wire.ping(b"and there?").wait(BOUND)


def test_fragments_stay_fragments(wires):
    with wires.open("/fragments") as wire:
        for fragments in [["o", "", "ne"], [b"t", b"w" * 200_000, b"o"], ["three"]]:
            wire.send(fragments)
            # A fragment without content may come at the end, to say that it was the last.
            assert [each for each in wire.recv_streaming() if each] == [each for each in fragments if each]

    assert len(wires.sockets.last().received) == 3


@pytest.mark.parametrize("compression", ["deflate", None])
def test_large_messages_pass_both_ways(wires, compression):
    binary, text = bytes(range(256)) * (LARGE // 256), "grün" * (LARGE // 5)

    with wires.open(compression=compression) as wire:
        for message in [binary, text, binary]:
            wire.send(message)
            assert wire.recv(BOUND) == message
        assert ("deflate" in wire.response.headers.get("sec-websocket-extensions", "")) == bool(compression)

    assert wires.sockets.last().received == [binary, text, binary]


def test_small_messages_are_not_held_back(wires):
    messages = [f"{number}" for number in range(1000)]

    with wires.open() as wire:
        for message in messages[:100]:
            wire.send(message)
            assert wire.recv(BOUND) == message
        sender = threading.Thread(target=lambda: [wire.send(message) for message in messages])
        sender.start()
        assert [wire.recv(BOUND) for _ in messages] == messages
        sender.join(BOUND)


def test_close_codes_pass_both_ways(wires):
    with wires.open() as wire:
        wire.close(4001, "I am off")
    seen = wires.sockets.last()
    assert seen.over.wait(BOUND)
    assert (seen.closed.rcvd.code, seen.closed.rcvd.reason) == (4001, "I am off")
    assert (wire.close_code, wire.close_reason) == (4001, "I am off")

    for code, error in [(1000, ConnectionClosedOK), (1011, ConnectionClosedError), (4002, ConnectionClosedError)]:
        with wires.open(f"/close/{code}") as wire, pytest.raises(error) as closed:
            wire.recv(BOUND)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "that is all")


def test_who_vanishes_is_seen_to_be_gone(wires):
    with wires.open("/vanish") as left, pytest.raises(ConnectionClosedError) as closed:
        left.recv(BOUND)
    assert closed.value.rcvd is None

    with wires.open() as vanishing:
        seen = wires.sockets.last(2)
        vanishing.socket.shutdown(socket.SHUT_RDWR)
    assert seen.over.wait(BOUND)
    assert seen.closed.rcvd is None


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_websocket_ends_with_its_key(wires, how):
    made = wires.world.new_key("brief", *(["--expires-in", "3s"] if how == "expired" else []))
    with wires.open() as steady, wires.open(key=made["key"]) as brief:
        for each in [steady, brief]:
            each.send("on")
            assert each.recv(BOUND) == "on"

        if how == "revoked":
            wires.gatelet.keys("revoke", made["id"])
            over = time.monotonic()
        else:
            over = time.monotonic() + made["expiresAt"] - time.time()

        with pytest.raises(ConnectionClosedError):
            brief.recv(BOUND)
        assert time.monotonic() - over < AT_ONCE
        (seen,) = [each for each in wires.sockets.opened if each.header("x-auth-key-id") == [made["id"]]]
        assert seen.over.wait(AT_ONCE)
        steady.send("still on")
        assert steady.recv(BOUND) == "still on"
    with pytest.raises(InvalidStatus), wires.open(key=made["key"]):
        pass


# Opens a WebSocket and keeps in `told` what becomes of it.
IN_A_PAGE = """
(url) => new Promise((opened, failed) => {
  const socket = (globalThis.socket = new WebSocket(url, ["chat.v3", "chat.v2"]));
  globalThis.told = [];
  socket.onmessage = ({ data }) => told.push(data);
  socket.onclose = ({ code, wasClean }) => (told.push({ code, wasClean }), failed(new Error(`closed: ${code}`)));
  socket.onopen = () => opened(socket.protocol);
})
"""


@pytest.mark.parametrize(("same_origin", "status"), [(True, 200), (False, 101)], ids=["HTTP/2", "HTTP/1.1"])
def test_a_browser_opens_one_until_its_key_is_revoked(world, authority, api, open_browser, same_origin, status):
    """A page that came over HTTP/2 opens its WebSockets on the same connection (RFC 8441)."""
    with Sockets() as sockets:
        world = world(f'url = "http://{sockets.address}"', authority.issue(), BESIDE.format(url=api.url))
        tab = open_browser("--ignore-certificate-errors").open("about:blank")
        tab.call("Network.setExtraHTTPHeaders", headers={"x-api-key": world.key})
        tab.go(f"{world.url if same_origin else api.url}/page")
        url = f"wss://{world.proxy}/sockets/echo"

        assert tab.apply(IN_A_PAGE, url) == "chat.v2"
        tab.run("socket.send('x'.repeat(1 << 20)), socket.send('hello')")
        tab.until("told.length === 2 && told[0].length === 1 << 20 && told[1] === 'hello'")
        assert tab.handshakes == [status]
        seen = sockets.last()
        assert (seen.header("x-auth-subject"), seen.header("x-api-key")) == (["acme"], [])
        tab.run("socket.close(4001, 'I am off')")
        assert seen.over.wait(BOUND)
        assert (seen.closed.rcvd.code, seen.closed.rcvd.reason) == (4001, "I am off")

        assert tab.apply(IN_A_PAGE, url) == "chat.v2"
        world.gatelet.keys("revoke", world.made["id"])
        revoked = time.monotonic()
        tab.until("told.length === 1 && told[0].code === 1006")
        assert time.monotonic() - revoked < AT_ONCE
        assert sockets.last().over.wait(AT_ONCE)
        with pytest.raises(AssertionError, match="closed: 1006"):
            tab.apply(IN_A_PAGE, url)


class Ticker:
    """An API that sends an event whenever a test wants it to."""

    def __init__(self):
        self.turns = queue.Queue()
        self.api = Api(self.answer)

    def answer(self, request):
        if request["target"] == "/events":
            return 200, "text/event-stream", Pieces(self.events())
        return 200, "text/html", b"<!doctype html><title>A page</title>"

    def events(self):
        # The head goes at once.
        yield b": here\n\n"
        for number in iter(lambda: self.turns.get(timeout=BOUND), None):
            yield b"data: %d\n\n" % number


@pytest.fixture
def ticker():
    running = Ticker()
    with running.api:
        yield running
        running.turns.put(None)


LISTEN = """
globalThis.told = [];
globalThis.source = new EventSource("/events");
source.onmessage = ({ data }) => told.push(data);
"""


def times(ticker, next_event):
    """Has events sent, each when the one before it has come; how long each took, in order."""
    took = []
    for number in range(20):
        sent = time.monotonic()
        ticker.turns.put(number)
        assert next_event() == number
        took.append(time.monotonic() - sent)
    return sorted(took)


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_events_reach_curl_as_they_are_sent(world, authority, ticker, tool, protocol):
    world = world(f'url = "{ticker.api.url}"', authority.issue())
    command = [tool("curl"), "-sSN", protocol, "--cacert", authority.file, "-m", f"{BOUND}", f"{world.url}/events"]
    child = subprocess.Popen([*command, "-H", f"x-api-key: {world.key}"], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == ": here\n"

    def next_event():
        while not (line := child.stdout.readline()).startswith("data: "):
            assert line, "curl is gone"
        return int(line.removeprefix("data: "))

    assert times(ticker, next_event)[10] < 0.1
    ticker.turns.put(None)
    assert child.wait(BOUND) == 0
    child.stdout.close()


def test_events_reach_a_browser_until_its_key_is_revoked(world, authority, ticker, open_browser):
    world = world(f'url = "{ticker.api.url}"', authority.issue())
    tab = open_browser("--ignore-certificate-errors").open("about:blank")
    tab.call("Network.setExtraHTTPHeaders", headers={"x-api-key": world.key})
    tab.go(world.url + "/page")
    tab.run(LISTEN)

    def next_event():
        return int(tab.until("globalThis.told.shift()"))

    assert times(ticker, next_event)[10] < 0.2
    tab.run("source.onerror = () => told.push('over')")
    world.gatelet.keys("revoke", world.made["id"])
    revoked = time.monotonic()
    tab.until("told[0] === 'over'")
    assert time.monotonic() - revoked < AT_ONCE
