"""gRPC's own server and client: calls of every kind, their ends, and what is said to either side about them."""

import concurrent.futures
import hashlib
import threading
import time

import grpc
import pytest

from processes import BOUND, eventually, free_address

LARGE = 8 * 1024 * 1024

OPTIONS = [
    ("grpc.max_send_message_length", 2 * LARGE),
    ("grpc.max_receive_message_length", 2 * LARGE),
    # The environment's proxy has no business here.
    ("grpc.enable_http_proxy", 0),
]

# What a revocation or an expiry may take: the promise.
AT_ONCE = 1.0

DETAILS = bytes(range(256))


class Server:
    """A gRPC server that remembers who called."""

    def __init__(self, credentials=None):
        self.calls = []
        kinds = {
            "Echo": (grpc.unary_unary_rpc_method_handler, self.echo),
            "Count": (grpc.unary_stream_rpc_method_handler, self.count),
            "Digest": (grpc.stream_unary_rpc_method_handler, self.digest),
            "Chat": (grpc.stream_stream_rpc_method_handler, self.chat),
            "Fail": (grpc.unary_unary_rpc_method_handler, self.fail),
            "FailLate": (grpc.unary_stream_rpc_method_handler, self.fail_late),
            "Hang": (grpc.unary_unary_rpc_method_handler, self.hang),
            "HangLate": (grpc.unary_stream_rpc_method_handler, self.hang_late),
        }
        handlers = {name: kind(self.noted(name, serve)) for name, (kind, serve) in kinds.items()}
        # As many as there may be streams that wait, and some for calls beside them.
        self.threads = concurrent.futures.ThreadPoolExecutor(32)
        self.server = grpc.server(
            self.threads, [grpc.method_handlers_generic_handler("peers.Peer", handlers)], options=OPTIONS
        )
        if credentials:
            self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        else:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def noted(self, name, serve):
        def called(request, context):
            context.call = Call(name, context)
            self.calls.append(context.call)
            return serve(request, context)

        return called

    @staticmethod
    def echo(request, context):
        context.send_initial_metadata([("begins", "here"), ("begins-bin", DETAILS)])
        context.set_trailing_metadata([("ends", "here"), ("ends-bin", DETAILS)])
        return request

    @staticmethod
    def count(request, _):
        yield from (b"%d" % number for number in range(int(request)))

    @staticmethod
    def digest(requests, _):
        whole = hashlib.sha256()
        for request in requests:
            whole.update(request)
        return whole.digest()

    @staticmethod
    def chat(requests, _):
        yield from requests

    @staticmethod
    def fail(_, context):
        context.set_trailing_metadata([("grpc-status-details-bin", DETAILS)])
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not yet: 90 % – später")

    @staticmethod
    def fail_late(_, context):
        yield b"one"
        context.set_trailing_metadata([("grpc-status-details-bin", DETAILS)])
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")

    @staticmethod
    def hang(_, context):
        context.call.ended.wait(BOUND)
        return b"too late"

    @staticmethod
    def hang_late(_, context):
        yield b"one"
        context.call.ended.wait(BOUND)

    def last(self, name):
        """The last call of a method, when it has come."""
        return eventually(f"a call of {name}", lambda: [call for call in self.calls if call.name == name])[-1]

    def stop(self):
        self.server.stop(0).wait(BOUND)
        self.threads.shutdown()


class Call:
    """A call as the server saw it."""

    def __init__(self, name, context):
        self.name, self.metadata = name, list(context.invocation_metadata())
        self.remaining = context.time_remaining()
        self.ended = threading.Event()
        context.add_callback(self.ended.set)

    def values(self, name):
        return [value for each, value in self.metadata if each == name]

    def names(self):
        return {name for name, _ in self.metadata}


class Peer:
    """A channel, and the stubs of every method on it."""

    def __init__(self, channel, key):
        self.channel, self.key = channel, key
        self.kinds = {
            "Echo": channel.unary_unary,
            "Count": channel.unary_stream,
            "Digest": channel.stream_unary,
            "Chat": channel.stream_stream,
            "Fail": channel.unary_unary,
            "FailLate": channel.unary_stream,
            "Hang": channel.unary_unary,
            "HangLate": channel.unary_stream,
            "Unheard": channel.unary_unary,
        }

    def __getattr__(self, name):
        return self.kinds[name](f"/peers.Peer/{name}")

    def metadata(self, *more):
        return [("x-api-key", self.key), *more]

    def told(self, name, request=b"", **options):
        """The error that a call of one request ends with."""
        options = {"metadata": self.metadata(), "timeout": BOUND, **options}
        with pytest.raises(grpc.RpcError) as raised:
            answer = getattr(self, name)(request, **options)
            list(answer)
        return raised.value


@pytest.fixture(params=["TLS", "cleartext"])
def peers(request, world, authority):
    """Starts gatelet before a gRPC server, and opens channels to it; TLS on both sides, or on neither."""
    opened, certificate = [], authority.issue() if request.param == "TLS" else None
    trusted = authority.file.read_bytes()
    if certificate:
        pair = (certificate.key.read_bytes(), certificate.chain.read_bytes())
        server = Server(grpc.ssl_server_credentials([pair]))
    else:
        server = Server()

    class Peers:
        def __init__(self):
            self.server = server

        def start(self, address=f"127.0.0.1:{server.port}", more=""):
            upstream = f'url = "http://{address}"'
            if certificate:
                upstream = f'url = "https://{address}"\nca_file = "{authority.file}"'
            self.world = world(f'{upstream}\nprotocol = "http2"', certificate, more)
            return self.open()

        def open(self, key=None):
            options = (self.world.proxy, OPTIONS)
            if certificate:
                channel = grpc.secure_channel(options[0], grpc.ssl_channel_credentials(trusted), options[1])
            else:
                channel = grpc.insecure_channel(*options)
            opened.append(channel)
            return Peer(channel, key or self.world.key)

    yield Peers()
    for channel in opened:
        channel.close()
    server.stop()


def test_calls_of_every_kind(peers):
    peer = peers.start()
    told = {"metadata": peer.metadata(), "timeout": BOUND}
    pieces = [b"%d" % number for number in range(1000)]

    assert peer.Echo(b"hello", **told) == b"hello"
    assert list(peer.Count(b"1000", **told)) == pieces
    assert peer.Digest(iter(pieces), **told) == hashlib.sha256(b"".join(pieces)).digest()
    assert list(peer.Chat(iter(pieces), **told)) == pieces
    assert list(peer.Count(b"0", **told)) == []

    assert [call.name for call in peers.server.calls] == ["Echo", "Count", "Digest", "Chat", "Count"]
    for call in peers.server.calls:
        assert "x-api-key" not in call.names()
        assert call.values("x-auth-subject") == call.values("x-auth-key-owner") == ["acme"]
        assert call.values("x-auth-key-id") == [peers.world.made["id"]]
        assert call.values("x-forwarded-for") == ["127.0.0.1"]


def test_a_chat_goes_back_and_forth(peers):
    """Each side waits for the other, so that nothing may be held back until there is more."""
    peer = peers.start()
    turn, said = threading.Semaphore(1), []

    def requests():
        for number in range(50):
            assert turn.acquire(timeout=BOUND)
            yield b"%d" % number

    for answer in peer.Chat(requests(), metadata=peer.metadata(), timeout=BOUND):
        said.append(answer)
        turn.release()

    assert said == [b"%d" % number for number in range(50)]


def test_metadata_passes_both_ways(peers):
    peer = peers.start()
    shown = [("authorization", f"Bearer {peer.key}"), ("x-auth-subject", "root"), ("said-bin", DETAILS)]

    answer, call = peer.Echo.with_call(b"", metadata=[*shown, ("said", "twice"), ("said", "over")], timeout=BOUND)

    assert answer == b""
    for metadata, when in [(call.initial_metadata(), "begins"), (call.trailing_metadata(), "ends")]:
        known = dict(metadata)
        assert (known[when], known[f"{when}-bin"]) == ("here", DETAILS)
    seen = peers.server.last("Echo")
    assert seen.values("said") == ["twice", "over"]
    assert seen.values("said-bin") == [DETAILS]
    assert seen.values("x-auth-subject") == ["acme"]
    assert "authorization" not in seen.names()


def test_large_messages_pass_both_ways(peers):
    peer = peers.start()
    large = bytes(range(256)) * (LARGE // 256)
    told = {"metadata": peer.metadata(), "timeout": 2 * BOUND}

    assert peer.Echo(large, **told) == large
    assert list(peer.Chat(iter([large, b"", large]), **told)) == [large, b"", large]


def test_an_error_comes_with_its_details(peers):
    peer = peers.start()

    for name, code, text in [
        ("Fail", grpc.StatusCode.FAILED_PRECONDITION, "not yet: 90 % – später"),
        ("FailLate", grpc.StatusCode.RESOURCE_EXHAUSTED, "no more"),
    ]:
        error = peer.told(name)

        assert (error.code(), error.details()) == (code, text)
        assert dict(error.trailing_metadata())["grpc-status-details-bin"] == DETAILS
    assert peer.told("Unheard").code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("name", ["Hang", "HangLate"])
def test_a_deadline_ends_a_call_on_both_sides(peers, name):
    peer = peers.start()

    error = peer.told(name, timeout=0.7)

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    call = peers.server.last(name)
    assert call.ended.wait(BOUND)
    assert 0 < call.remaining <= 0.7


@pytest.mark.parametrize("name", ["Hang", "HangLate"])
def test_a_cancellation_reaches_the_server(peers, name):
    peer = peers.start()

    begun = getattr(peer, name)
    call = begun.future(b"", metadata=peer.metadata()) if name == "Hang" else begun(b"", metadata=peer.metadata())
    seen = peers.server.last(name)
    assert not seen.ended.is_set()
    call.cancel()

    assert seen.ended.wait(AT_ONCE)
    assert call.code() == grpc.StatusCode.CANCELLED
    # What else is on the connection goes on.
    assert peer.Echo(b"next", metadata=peer.metadata(), timeout=BOUND) == b"next"


def test_many_calls_share_a_channel(peers):
    peer = peers.start()
    told = {"metadata": peer.metadata(), "timeout": 2 * BOUND}

    calls = [(b"%d" % number, peer.Echo.future(b"%d" % number, **told)) for number in range(500)]

    assert [call.result() for _, call in calls] == [said for said, _ in calls]
    assert len(peers.server.calls) == 500


SCOPED = """
[[routes]]
prefix = "/peers.Peer/Count"
require = ["api_key"]
scopes = ["count"]
"""


def test_a_refusal_is_a_status_and_reaches_nobody(peers):
    peer = peers.start(more=SCOPED)

    for name, metadata, code in [
        ("Echo", [], grpc.StatusCode.UNAUTHENTICATED),
        ("Echo", [("x-api-key", "not-a-key-of-anybodys")], grpc.StatusCode.UNAUTHENTICATED),
        ("Chat", [("x-api-key", "not-a-key-of-anybodys")], grpc.StatusCode.UNAUTHENTICATED),
        ("Count", peer.metadata(), grpc.StatusCode.PERMISSION_DENIED),
    ]:
        error = peer.told(name, iter([b"1"]) if name == "Chat" else b"1", metadata=metadata)

        assert error.code() == code
        assert error.details()
    assert peers.server.calls == []


LIMITED = """
[[routes]]
prefix = "/peers.Peer/Chat"
require = ["api_key"]
request_body = "1MiB"
"""


def test_a_stream_that_says_too_much_is_told_so(peers):
    """It is the answer that is cut off, but not the upstream that is to blame."""
    peer = peers.start(more=LIMITED)
    piece, said = bytes(64 * 1024), []

    with pytest.raises(grpc.RpcError) as raised:
        said.extend(peer.Chat((piece for _ in range(32)), metadata=peer.metadata(), timeout=BOUND))

    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(said) < 16
    assert peers.server.last("Chat").ended.wait(BOUND)


def test_a_dead_upstream_is_unavailable(peers):
    peer = peers.start(free_address())

    error = peer.told("Echo")

    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert error.details()


def test_an_upstream_that_dies_is_unavailable(peers):
    peer = peers.start()
    stream = peer.HangLate(b"", metadata=peer.metadata(), timeout=BOUND)
    assert next(stream) == b"one"

    peers.server.server.stop(0).wait(BOUND)

    with pytest.raises(grpc.RpcError) as raised:
        next(stream)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert peer.told("Echo").code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_stream_ends_with_its_key(peers, how):
    steady = peers.start()
    made = peers.world.new_key("brief", *(["--expires-in", "3s"] if how == "expired" else []))
    brief = peers.open(made["key"])
    streams = {peer: peer.HangLate(b"", metadata=peer.metadata(), timeout=BOUND) for peer in (steady, brief)}
    chat = brief.Chat(iter(lambda: time.sleep(0.01) or b"on", b""), metadata=brief.metadata(), timeout=BOUND)
    assert [next(stream) for stream in [*streams.values(), chat]] == [b"one", b"one", b"on"]
    seen = {call.values("x-auth-key-id")[0]: call for call in peers.server.calls if call.name == "HangLate"}

    if how == "revoked":
        peers.world.gatelet.keys("revoke", made["id"])
        over = time.monotonic()
    else:
        over = time.monotonic() + made["expiresAt"] - time.time()

    for stream in [streams[brief], chat]:
        with pytest.raises(grpc.RpcError) as raised:
            for _ in stream:
                pass
        assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert time.monotonic() - over < AT_ONCE
    assert seen[made["id"]].ended.wait(AT_ONCE)
    assert brief.told("Echo").code() == grpc.StatusCode.UNAUTHENTICATED
    # Nobody else's is touched.
    assert streams[steady].is_active() and not seen[peers.world.made["id"]].ended.is_set()
    assert steady.Echo(b"on", metadata=steady.metadata(), timeout=BOUND) == b"on"
