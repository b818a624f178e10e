"""What strangers send in HTTP/2 frames, and what of it reaches an HTTP/1.1 upstream, byte by byte."""

import pytest

from strangers import IDENTITY, KEY, assert_forwarded
from wire import Http2

METHOD = (b":method", b"GET")
SCHEME = (b":scheme", b"http")
AUTHORITY = (b":authority", b"api.test")
PATH = (b":path", b"/public")
PUBLIC = [METHOD, SCHEME, AUTHORITY, PATH]
ADMIN = [METHOD, SCHEME, AUTHORITY, (b":path", b"/admin")]
CONNECT = (b":method", b"CONNECT")
WEBSOCKET = [CONNECT, (b":protocol", b"websocket"), SCHEME, AUTHORITY, PATH]
POST = [(b":method", b"POST"), SCHEME, AUTHORITY, PATH]

# What would be served if any of it were taken for the beginning of a request.
HIDDEN = b"GET /admin HTTP/1.1\r\nhost: api.test\r\nx-auth-subject: forged\r\n\r\n"

CHUNKED, LENGTH = b"transfer-encoding: chunked", b"content-length: 5"
ONE_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)

PROTOCOL_ERROR = 1


@pytest.fixture
def http(gatelet):
    with Http2(gatelet.proxy) as opened:
        yield opened


def without(name):
    return [field for field in PUBLIC if field[0] != name]


def instead(name, value):
    return [(each, value if each == name else was) for each, was in PUBLIC]


MALFORMED = {
    "no method": without(b":method"),
    "no scheme": without(b":scheme"),
    "no path": without(b":path"),
    "an empty method": instead(b":method", b""),
    "an empty scheme": instead(b":scheme", b""),
    "an empty path": instead(b":path", b""),
    "an empty authority": instead(b":authority", b""),
    "two methods": [METHOD, *PUBLIC],
    "two other methods": [(b":method", b"POST"), *PUBLIC],
    "two schemes": [SCHEME, *PUBLIC],
    "two authorities": [AUTHORITY, *PUBLIC],
    "two paths": [*PUBLIC, PATH],
    "a pseudo-header after a header": [*without(b":path"), (b"x-a", b"b"), PATH],
    "another pseudo-header": [*PUBLIC, (b":path-info", b"/admin")],
    "an answer's pseudo-header": [*PUBLIC, (b":status", b"200")],
    "a protocol without CONNECT": [*PUBLIC, (b":protocol", b"websocket")],
    "a capital": [*PUBLIC, (b"X-a", b"b")],
    "a capital within": [*PUBLIC, (b"x-A", b"b")],
    "a connection line": [*PUBLIC, (b"connection", b"close")],
    "a connection line that names a header": [*PUBLIC, (b"connection", b"x-auth-subject")],
    "keep-alive": [*PUBLIC, (b"keep-alive", b"timeout=5")],
    "proxy-connection": [*PUBLIC, (b"proxy-connection", b"keep-alive")],
    "transfer-encoding": [*PUBLIC, (b"transfer-encoding", b"chunked")],
    "another transfer-encoding": [*PUBLIC, (b"transfer-encoding", b"identity")],
    "an upgrade": [*PUBLIC, (b"upgrade", b"h2c")],
    "an upgrade to a WebSocket": [*PUBLIC, (b"upgrade", b"websocket")],
    "te that takes more than trailers": [*PUBLIC, (b"te", b"trailers, gzip")],
    "te without trailers": [*PUBLIC, (b"te", b"gzip")],
    "a line break in a value": [*PUBLIC, (b"x-a", b"b\r\nx-auth-subject: forged")],
    "a line feed in a value": [*PUBLIC, (b"x-a", b"b\nx-auth-subject: forged")],
    "a carriage return in a value": [*PUBLIC, (b"x-a", b"b\rx-auth-subject: forged")],
    "a line break at the end of a value": [*PUBLIC, (b"x-a", b"b\r\n")],
    "a request in a value": [*PUBLIC, (b"x-a", b"b\r\n\r\n" + HIDDEN)],
    "a space before a value": [*PUBLIC, (b"x-a", b" b")],
    "a tab behind a value": [*PUBLIC, (b"x-a", b"b\t")],
    "a space before a bearer": [*PUBLIC, (b"authorization", b" Bearer " + KEY)],
    "a space before a cookie": [*PUBLIC, (b"cookie", b" __Host-refresh=forged")],
    "a NUL in a value": [*PUBLIC, (b"x-a", b"b\0c")],
    "a control byte in a value": [*PUBLIC, (b"x-a", b"b\x01c")],
    "a DEL in a value": [*PUBLIC, (b"x-a", b"b\x7fc")],
    "an empty name": [*PUBLIC, (b"", b"b")],
    "a colon in a name": [*PUBLIC, (b"x-a: b", b"c")],
    "a colon at the end of a name": [*PUBLIC, (b"x-a:", b"c")],
    "a space in a name": [*PUBLIC, (b"x-auth-subject ", b"forged")],
    "a tab in a name": [*PUBLIC, (b"x-a\t", b"b")],
    "a line break in a name": [*PUBLIC, (b"x-a: b\r\nx-auth-subject", b"forged")],
    "a NUL in a name": [*PUBLIC, (b"x-a\0", b"b")],
    "a byte above ASCII in a name": [*PUBLIC, (b"x-\xe9", b"b")],
    "a space in a method": instead(b":method", b"GET /admin"),
    "a line break in a method": instead(b":method", b"GET /admin HTTP/1.1\r\nx-a:"),
    "a request in a method": instead(b":method", HIDDEN + b"GET"),
    "a line break in a scheme": instead(b":scheme", b"http\r\nx-auth-subject: forged"),
    "a path in a scheme": instead(b":scheme", b"http://api.test/admin?"),
    "another scheme": instead(b":scheme", b"ftp"),
    "a scheme of scripts": instead(b":scheme", b"javascript"),
    "a line break in a path": instead(b":path", b"/public HTTP/1.1\r\nx-auth-subject: forged\r\nx-a: b"),
    "a request in a path": instead(b":path", b"/public HTTP/1.1\r\nhost: api.test\r\n\r\n" + HIDDEN),
    "a space in a path": instead(b":path", b"/public /admin"),
    "a tab in a path": instead(b":path", b"/public\t/admin"),
    "a NUL in a path": instead(b":path", b"/public\0/admin"),
    "bytes above ASCII in a path": instead(b":path", "/public/é".encode()),
    "a line break in a query": instead(b":path", b"/public?a\r\nx-auth-subject: forged"),
    "a space in a query": instead(b":path", b"/public?a HTTP/1.1"),
    "a path without a slash": instead(b":path", b"public"),
    "a path that is a query": instead(b":path", b"?/public"),
    "a path that is an address": instead(b":path", b"http://api.test/public"),
    "a path that is an authority": instead(b":path", b"api.test:80"),
    "an asterisk": instead(b":path", b"*"),
    "OPTIONS of the server": [(b":method", b"OPTIONS"), SCHEME, AUTHORITY, (b":path", b"*")],
    "a line break in an authority": instead(b":authority", b"api.test\r\nx-auth-subject: forged"),
    "a space in an authority": instead(b":authority", b"api.test /admin"),
    "a path in an authority": instead(b":authority", b"api.test/admin"),
    "a query in an authority": instead(b":authority", b"api.test?"),
    "a fragment in an authority": instead(b":authority", b"api.test#"),
    "a user in an authority": instead(b":authority", b"user@api.test"),
    "two hosts in an authority": instead(b":authority", b"api.test, other.test"),
    "no host": without(b":authority"),
    "another host": [*PUBLIC, (b"host", b"other.test")],
    "another port": [*PUBLIC, (b"host", b"api.test:80")],
    "the host and another": [*PUBLIC, (b"host", b"api.test"), (b"host", b"other.test")],
    "the host twice": [*PUBLIC, (b"host", b"api.test"), (b"host", b"api.test")],
    "two hosts and no authority": [*without(b":authority"), (b"host", b"api.test"), (b"host", b"other.test")],
    "an empty host": [*PUBLIC, (b"host", b"")],
    "CONNECT": [CONNECT, AUTHORITY],
    "CONNECT with a path": [CONNECT, SCHEME, AUTHORITY, PATH],
    "CONNECT for another protocol": [CONNECT, (b":protocol", b"connect-udp"), SCHEME, AUTHORITY, PATH],
    "CONNECT for no protocol": [CONNECT, (b":protocol", b""), SCHEME, AUTHORITY, PATH],
    "CONNECT for a WebSocket in capitals": [CONNECT, (b":protocol", b"WebSocket"), SCHEME, AUTHORITY, PATH],
    "CONNECT for a WebSocket without a path": [CONNECT, (b":protocol", b"websocket"), AUTHORITY],
    "CONNECT for a WebSocket with a body": [*WEBSOCKET, (b"content-length", b"5")],
    "TRACE": [(b":method", b"TRACE"), SCHEME, AUTHORITY, PATH],
    "more fields than may be": [*PUBLIC, *((b"x-%d" % number, b"") for number in range(1000))],
    "a length and no body": [*PUBLIC, (b"content-length", b"5")],
    "a signed length": [*PUBLIC, (b"content-length", b"+0")],
    "a negative length": [*PUBLIC, (b"content-length", b"-0")],
    "an empty length": [*PUBLIC, (b"content-length", b"")],
    "a length in words": [*PUBLIC, (b"content-length", b"none")],
    "a length with a space": [*PUBLIC, (b"content-length", b" 0")],
    "two lengths": [*PUBLIC, (b"content-length", b"0"), (b"content-length", b"5")],
    "two lengths, the other first": [*PUBLIC, (b"content-length", b"5"), (b"content-length", b"0")],
    "two lengths in one": [*PUBLIC, (b"content-length", b"0, 0")],
    "a length beyond 64 bits": [*PUBLIC, (b"content-length", b"18446744073709551616")],
}

# What bodies are announced and sent as, where the two differ.
UNTRUE = {
    "a length too long": ([(b"content-length", b"6")], [b"hello"]),
    "a length too short": ([(b"content-length", b"4")], [b"hello"]),
    "a length that is never reached": ([(b"content-length", b"6")], [b"hel", b"", b"lo"]),
    "a signed length": ([(b"content-length", b"+5")], [b"hello"]),
    "a length in hexadecimal": ([(b"content-length", b"0x5")], [b"hello"]),
    "an empty length": ([(b"content-length", b"")], [b"hello"]),
    "two lengths": ([(b"content-length", b"5"), (b"content-length", b"6")], [b"hello"]),
    "two lengths, the other first": ([(b"content-length", b"6"), (b"content-length", b"5")], [b"hello"]),
    "two lengths in one": ([(b"content-length", b"5, 5")], [b"hello"]),
    "chunks": ([(b"transfer-encoding", b"chunked")], [b"0\r\n\r\n", HIDDEN]),
    "chunks and a length": ([(b"transfer-encoding", b"chunked"), (b"content-length", b"5")], [b"hello"]),
}

# What bodies are announced as, and how they go on once that was sent.
EXCESSIVE = {
    "a length of nothing": (b"0", [b"", HIDDEN]),
    "a length": (b"5", [b"hello", HIDDEN]),
    "a length and an empty frame": (b"5", [b"hello", b"", HIDDEN]),
    "a length in pieces": (b"5", [b"he", b"llo", HIDDEN, HIDDEN]),
}

# What bodies are announced and sent as, and what is written of them upstream.
TRUE = {
    "a length": ([(b"content-length", b"5")], [b"hello"], LENGTH, b"hello"),
    "a length in pieces": ([(b"content-length", b"5")], [b"", b"hel", b"", b"lo", b""], LENGTH, b"hello"),
    "a length with zeros": ([(b"content-length", b"005")], [b"hello"], LENGTH, b"hello"),
    "a length twice": ([(b"content-length", b"5")] * 2, [b"hello"], LENGTH, b"hello"),
    "no length": ([], [b"hello"], CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    # An empty frame is no last chunk.
    "empty frames": ([], [b"", b"hel", b"", b"lo", b""], CHUNKED, b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
    "a last chunk and a request": ([], [b"0\r\n\r\n", HIDDEN], CHUNKED, b"5\r\n0\r\n\r\n\r\n" + ONE_CHUNK),
    "framing by other names": (
        [(b"content_length", b"0"), (b"content.length", b"1"), (b"transfer_encoding", b"chunked")],
        [HIDDEN],
        CHUNKED,
        ONE_CHUNK,
    ),
}

# What says who calls in more than one way, or in none, and what that is answered.
CREDENTIALS = {
    "two keys": (400, [(b"x-api-key", KEY), (b"x-api-key", b"another-key-of-another-team-0002")]),
    "two keys, the good one last": (400, [(b"x-api-key", b"another-key-of-another-team-0002"), (b"x-api-key", KEY)]),
    "the key twice": (400, [(b"x-api-key", KEY), (b"x-api-key", KEY)]),
    "a key and a bearer": (400, [(b"x-api-key", KEY), (b"authorization", b"Bearer " + KEY)]),
    "two bearers": (400, [(b"authorization", b"Bearer " + KEY), (b"authorization", b"bearer " + KEY)]),
    "two keys in one line": (401, [(b"x-api-key", KEY + b", " + KEY)]),
    "a key by another name": (401, [(b"x_api_key", KEY)]),
    "a key in a cookie": (401, [(b"cookie", b"x-api-key=" + KEY)]),
    "an identity": (401, [(b"x-auth-subject", b"platform"), (b"x-auth-methods", b"api_key")]),
}


def refused(http, answer):
    """Whether the answer is a no: gatelet's, or that of its library, which ends a stream or the connection."""
    return answer.status in (400, 431) or (answer.status == 0 and (answer.reset == PROTOCOL_ERROR or http.closed))


def post(http, fields, pieces):
    """Sends a head and what it announces, each piece by itself."""
    http.send(http.head(1, [*POST, *fields], end=False))
    for piece in pieces[:-1]:
        http.send(http.data(1, piece, end=False))
        # It has been taken before the next is sent, so that nothing is joined.
        http.ping()
    http.send(http.data(1, pieces[-1]))
    return http.answer(1)


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_head_goes_nowhere(upstream, http, case):
    answer = http.exchange(MALFORMED[case])

    assert refused(http, answer), answer
    assert upstream.heard() == []


def test_a_head_over_the_limit_goes_nowhere(upstream, http):
    value = b"x" * 9000
    http.send(http.head(1, [*PUBLIC, (b"x-a", value)], flags=[]), http.more(1, [(b"x-b", value)]))

    assert http.answer(1).status == 431
    assert upstream.heard() == []


def test_a_head_in_pieces_is_one_head(upstream, http):
    http.send(
        http.head(1, PUBLIC[:2], flags=[]),
        http.more(1, [*PUBLIC[2:], (b"x-auth-subject", b"forged")], flags=[]),
        http.more(1, [(b"x-a", b"b")]),
    )

    assert http.answer(1).status == 200
    [received] = upstream.heard()
    assert_forwarded(received, b"GET /public", [b"x-a: b"])


@pytest.mark.parametrize("case", UNTRUE)
def test_a_body_that_is_not_as_announced_is_nobodys(upstream, http, case):
    answer = post(http, *UNTRUE[case])

    assert refused(http, answer), answer
    # Some of it may have been on its way; nobody finished it.
    assert not any(received.complete for received in upstream.heard())


@pytest.mark.parametrize("case", EXCESSIVE)
def test_what_follows_a_body_is_nobodys(upstream, http, case):
    length, pieces = EXCESSIVE[case]

    post(http, [(b"content-length", length)], pieces)

    # So small a body is waited for, and what follows it is mostly heard of first.
    for received in upstream.heard():
        assert HIDDEN not in received.raw
        if received.complete:
            assert_forwarded(received, b"POST /public", [b"content-length: " + length])
            assert received.body == b"hello"[: int(length)]


@pytest.mark.parametrize("case", TRUE)
def test_a_body_goes_on_as_it_is(upstream, http, case):
    fields, pieces, framing, body = TRUE[case]

    assert post(http, fields, pieces).status == 200

    [received] = upstream.heard()
    assert_forwarded(received, b"POST /public", [framing])
    assert received.raw.endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize("announced", [[], [b"trailer: x-sum"]], ids=["unannounced", "announced"])
def test_of_trailers_only_harmless_ones_go_on(upstream, http, announced):
    trailers = [
        (b"x-auth-subject", b"forged"),
        (b"x_auth_scopes", b"forged"),
        (b"x-api-key", KEY),
        (b"authorization", b"Bearer forged"),
        (b"cookie", b"__Host-refresh=forged"),
        (b"host", b"forged"),
        (b"content-length", b"7"),
        (b"content_length", b"7"),
        (b"x-original-url", b"/admin"),
        (b"x-forwarded-for", b"forged"),
        (b"x-sum", b"7"),
    ]
    head = [*POST, *(tuple(line.split(b": ")) for line in announced)]

    http.send(http.head(1, head, end=False), http.data(1, b"hello", end=False), http.head(1, trailers))

    assert http.answer(1).status == 200
    [received] = upstream.heard()
    assert_forwarded(received, b"POST /public", [*announced, CHUNKED])
    assert received.body == b"hello"
    assert received.trailers == [b"x-sum: 7"]


@pytest.mark.parametrize(
    "trailer",
    [
        (b"x-a", b"b\r\nx-auth-subject: forged"),
        (b"x-a: b\r\nx-auth-subject", b"forged"),
        (b"X-Auth-Subject", b"forged"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
    ],
    ids=repr,
)
def test_a_malformed_trailer_ends_its_request(upstream, http, trailer):
    http.send(http.head(1, POST, end=False), http.data(1, b"hello", end=False), http.head(1, [trailer]))

    assert refused(http, http.answer(1))
    assert not any(received.complete for received in upstream.heard())


def test_trailers_ask_for_nothing_else(upstream, http):
    http.send(http.head(1, POST, end=False), http.data(1, b"hello", end=False), http.head(1, [(b":path", b"/admin")]))

    assert http.answer(1).status == 200
    [received] = upstream.heard()
    assert_forwarded(received, b"POST /public", [CHUNKED])
    assert received.trailers == []


@pytest.mark.parametrize("case", CREDENTIALS)
def test_who_calls_is_said_once(upstream, http, case):
    status, fields = CREDENTIALS[case]

    answer = http.exchange([*ADMIN, *fields])

    assert answer.status == status
    assert upstream.heard() == []


def test_a_key_in_a_trailer_opens_nothing(upstream, http):
    head = [(b":method", b"POST"), *ADMIN[1:]]
    http.send(http.head(1, head, end=False), http.data(1, b"hello", end=False), http.head(1, [(b"x-api-key", KEY)]))

    assert http.answer(1).status == 401
    assert upstream.heard() == []


@pytest.mark.parametrize("key", [None, KEY], ids=["a stranger", "a known caller"])
def test_nobody_says_what_only_gatelet_may(upstream, http, key):
    forged = [
        (b"x-auth-subject", b"forged"),
        (b"x_auth_subject", b"forged"),
        (b"x-auth.methods", b"forged"),
        (b"x-auth-session-id", b"forged"),
        (b"x-api_key", b"forged"),
        (b"x-original-url", b"/forged"),
        (b"x-rewrite-url", b"/forged"),
        (b"x_http_method_override", b"FORGED"),
        (b"x-forwarded-for", b"forged"),
        (b"x_forwarded_host", b"forged"),
        (b"x-real-ip", b"forged"),
        (b"forwarded", b"for=forged"),
        (b"x-request-id", b"forged"),
        (b"http2-settings", b"forged"),
        (b"proxy-authorization", b"forged"),
        (b"expect", b"100-continue"),
        (b"transfer_encoding", b"forged"),
        (b"te", b"trailers"),
        (b"x-plain", b"stays"),
    ]
    who = [(b"x-api-key", key)] if key else []

    answer = http.exchange([*(ADMIN if key else PUBLIC), *forged, *who])

    assert answer.status == 200
    [received] = upstream.heard()
    more = [b"te: trailers", b"connection: te", b"x-plain: stays", *(IDENTITY if key else [])]
    assert_forwarded(received, b"GET /admin" if key else b"GET /public", more)


def test_cookies_arrive_in_one_line_without_gatelets_own(upstream, http):
    crumbs = [b"a=1", b"__Host-refresh=forged", b"b=2; __Host-refresh=forged; c=3", b"d=4"]

    answer = http.exchange([*PUBLIC, *((b"cookie", crumb) for crumb in crumbs)])

    assert answer.status == 200
    [received] = upstream.heard()
    assert_forwarded(received, b"GET /public", [b"cookie: a=1; b=2; c=3; d=4"])


@pytest.mark.parametrize("fields", [without(b":authority"), PUBLIC], ids=["alone", "beside the authority"])
def test_a_host_is_passed_on_once(upstream, http, fields):
    assert http.exchange([*fields, (b"host", b"api.test")]).status == 200
    [received] = upstream.heard()
    assert_forwarded(received, b"GET /public")


def test_a_websocket_that_nobody_opens_is_no_tunnel(upstream, http):
    http.send(http.head(1, WEBSOCKET, end=False), http.data(1, HIDDEN, end=False))

    assert http.answer(1).status == 502
    [received] = upstream.heard()
    assert received.start == b"GET /public HTTP/1.1"
    assert not received.body


OUT_OF_ORDER = {
    "data behind the end": lambda http: [http.head(1, POST, end=False), http.data(1, b"hello"), http.data(1, HIDDEN)],
    "a head behind the end": lambda http: [http.head(1, PUBLIC), http.head(1, ADMIN)],
    "a second head": lambda http: [http.head(1, POST, end=False), http.head(1, ADMIN, end=False)],
    "data before any head": lambda http: [http.data(1, HIDDEN)],
    "data within a head": lambda http: [http.head(1, POST, False, []), http.data(1, HIDDEN), http.more(1, [])],
    "another head within a head": lambda http: [http.head(1, PUBLIC, flags=[]), http.head(3, ADMIN)],
    "a stream of the server's": lambda http: [http.head(2, ADMIN)],
    "a stream of the past": lambda http: [http.head(5, PUBLIC), http.head(3, ADMIN)],
}


@pytest.mark.parametrize("case", OUT_OF_ORDER)
def test_frames_out_of_order_hide_nothing(upstream, http, case):
    http.send(*OUT_OF_ORDER[case](http))
    http.read_to_the_end()

    for received in upstream.heard():
        assert received.start.split()[1] == b"/public"
        assert received.body in (b"", b"hello")
