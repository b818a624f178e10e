"""What strangers send over HTTP/1.1 so that a second request hides behind the first, and what is written upstream."""

import re

import pytest

from strangers import KEY, assert_forwarded
from wire import PREFACE, connect

CHUNKED = b"transfer-encoding: chunked"

# A second request, which nobody may make without the key; it ends the connection.
HIDDEN = b"GET /admin HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n\r\n"


@pytest.fixture
def exchange(gatelet):
    """Sends bytes, and reads until the connection ends; the statuses that came."""

    def run(request):
        answered = b""
        with connect(gatelet.proxy) as connection:
            connection.sendall(request)
            try:
                while data := connection.recv(65536):
                    answered += data
            except ConnectionError:
                pass
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answered)]

    return run


def request(lines, body, method=b"POST", version=b"HTTP/1.1"):
    head = b"".join(b"%s\r\n" % line for line in lines)
    return b"%s /public %s\r\nhost: api.test\r\n%s\r\n%s" % (method, version, head, body)


# Chunks that two readers end in different places.
BROKEN = {
    "a size that ends in a line feed": b"5\nhello\r\n0\r\n\r\n",
    "a size that ends in a carriage return": b"5\rx\nhello\r\n0\r\n\r\n",
    "an extension that ends in a line feed": b"5;a\nhello\r\n0\r\n\r\n",
    "an extension of two lines": b"5;\nxx\r\nhello\r\n0\r\n\r\n",
    "a carriage return in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "an extension without a size": b";a\r\nhello\r\n0\r\n\r\n",
    "an extension without an end": b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a space before a size": b" 5\r\nhello\r\n0\r\n\r\n",
    "an underscore in a size": b"0_5\r\nhello\r\n0\r\n\r\n",
    "data that ends in a line feed": b"5\r\nhello\n0\r\n\r\n",
    "a last size that ends in a line feed": b"5\r\nhello\r\n0\n\r\n",
    "an end of line feeds": b"5\r\nhello\r\n0\n\n",
    "a trailer that ends in a line feed": b"5\r\nhello\r\n0\r\nx-a: b\nx-auth-subject: forged\r\n\r\n",
    "a carriage return in a trailer": b"5\r\nhello\r\n0\r\nx-a: b\rx-auth-subject: forged\r\n\r\n",
    "a folded trailer": b"5\r\nhello\r\n0\r\nx-a: b\r\n x-auth-subject: forged\r\n\r\n",
    "a space behind a trailer's name": b"5\r\nhello\r\n0\r\nx-auth-subject : forged\r\n\r\n",
    "a NUL in a trailer": b"5\r\nhello\r\n0\r\nx-a: b\0\r\n\r\n",
    "a request for a trailer": b"5\r\nhello\r\n0\r\nGET /admin HTTP/1.1\r\n\r\n",
    "trailers without end": b"5\r\nhello\r\n0\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(2000)) + b"\r\n",
}

# Chunks that are odd and end in one place.
ODD = {
    "a tab behind a size": b"5\t\r\nhello\r\n0\r\n\r\n",
    "a quotation that is not ended": b'5;a="\r\nhello\r\n0\r\n\r\n',
    "a NUL in an extension": b"5;\0\r\nhello\r\n0\r\n\r\n",
    "two zeros": b"5\r\nhello\r\n00\r\n\r\n",
    "a last extension": b"5\r\nhello\r\n0;a=b\r\n\r\n",
    "trailers that say how it is framed": b"5\r\nhello\r\n0\r\ncontent-length: 9\r\ntransfer-encoding: x\r\n\r\n",
}

EXPECTATIONS = [b"100-continue", b"100-Continue", b"y 100-continue", b"100-continue, x", b"x", b""]


@pytest.mark.parametrize("case", BROKEN)
def test_broken_chunks_end_the_connection(upstream, exchange, case):
    assert exchange(request([CHUNKED], BROKEN[case] + HIDDEN)) == [400]

    # Some of it may have been on its way; nobody finished it.
    assert not any(received.complete for received in upstream.heard())


@pytest.mark.parametrize("case", ODD)
def test_odd_chunks_are_written_anew(upstream, exchange, case):
    assert exchange(request([CHUNKED], ODD[case] + HIDDEN)) == [200, 401]

    [received] = upstream.heard()
    assert_forwarded(received, b"POST /public", [CHUNKED])
    assert received.raw.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize("expectation", EXPECTATIONS)
def test_an_expectation_moves_no_boundary(upstream, exchange, expectation):
    expect = b"expect: " + expectation

    with_a_body = exchange(request([expect, b"content-length: 5"], b"hello" + HIDDEN))
    without = exchange(request([expect], HIDDEN, b"GET"))

    # Nobody has to be told to go on who has done so (RFC 9110 §10.1.1).
    assert (with_a_body, without) == ([200, 401], [200, 401])
    first, second = upstream.heard()
    assert_forwarded(first, b"POST /public", [b"content-length: 5"])
    assert first.body == b"hello"
    assert_forwarded(second, b"GET /public")


@pytest.mark.parametrize("expectation", EXPECTATIONS)
def test_a_body_that_was_not_asked_for_is_no_request(upstream, exchange, expectation):
    body = HIDDEN.replace(b"GET /admin", b"GET /public")
    refused = request([b"expect: " + expectation, b"content-length: %d" % len(body)], body + HIDDEN)

    statuses = exchange(refused.replace(b"POST /public", b"POST /admin"))

    # After the first answer it is over, or the body was taken for what it is.
    assert statuses in ([401], [401, 401])
    assert upstream.heard() == []


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"QUERY", b"get"], ids=bytes.decode)
def test_a_body_is_a_body_whatever_the_method(upstream, exchange, method):
    statuses = exchange(request([b"content-length: %d" % len(HIDDEN)], HIDDEN + HIDDEN, method))

    assert statuses == [200, 401]
    [received] = upstream.heard()
    assert_forwarded(received, method + b" /public", [b"content-length: %d" % len(HIDDEN)])
    assert received.body == HIDDEN


@pytest.mark.parametrize(
    ("framing", "sent", "written"),
    [
        (b"content-length: 5", b"hello", b"hello"),
        (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    ],
    ids=["a length", "chunks"],
)
def test_connection_takes_no_framing_away(upstream, exchange, framing, sent, written):
    connection = b"connection: content-length, transfer-encoding, trailer, host, x-forwarded-for, x-request-id"

    assert exchange(request([framing, connection], sent + HIDDEN)) == [200, 401]

    [received] = upstream.heard()
    assert_forwarded(received, b"POST /public", [framing])
    assert received.raw.endswith(b"\r\n\r\n" + written)


def test_connection_does_not_take_the_identity_away(upstream, exchange):
    connection = b"connection: close, x-auth-subject, x-auth-methods, x-auth-key-id"
    keyed = request([connection, b"x-api-key: " + KEY], b"", b"GET").replace(b"/public", b"/admin")

    assert exchange(keyed) == [200]

    [received] = upstream.heard()
    assert received.header(b"x-auth-subject") == [b"platform"]
    assert received.header(b"x-auth-key-id") == [b"static:platform"]


@pytest.mark.parametrize("upgrade", [b"h2c", b"H2C", b"h2c, websocket", b"websocket, h2c", b"HTTP/2.0"])
@pytest.mark.parametrize("named", [b"Upgrade, HTTP2-Settings", b"upgrade"])
def test_http_2_is_not_begun_in_the_middle(upstream, exchange, upgrade, named):
    lines = [b"connection: " + named, b"upgrade: " + upgrade, b"http2-settings: AAMAAABkAAQAAP__"]

    assert exchange(request(lines, PREFACE + HIDDEN, b"GET"))[0] == 200

    [received] = upstream.heard()
    assert_forwarded(received, b"GET /public")


@pytest.mark.parametrize(
    "sent",
    [PREFACE[:18] + HIDDEN, PREFACE[:18] + b"GET /admin HTTP/1.1\r\n\r\n", PREFACE[:14] + b"\r\n" + HIDDEN],
    ids=repr,
)
def test_half_a_preface_is_no_beginning(upstream, exchange, sent):
    assert exchange(sent) in ([400], [])
    assert upstream.heard() == []


def test_a_websocket_that_nobody_opens_hides_nothing(upstream, exchange):
    lines = [b"connection: upgrade", b"upgrade: websocket"]

    assert exchange(request(lines, HIDDEN, b"GET")) == [200, 401]

    [received] = upstream.heard()
    assert_forwarded(received, b"GET /public", lines)
    assert not received.body


def test_cookies_arrive_in_one_line_without_gatelets_own(upstream, exchange):
    lines = [b"cookie: a=1", b"cookie: __Host-refresh=forged; b=2", b"Cookie: c=3"]

    assert exchange(request(lines, HIDDEN, b"GET")) == [200, 401]

    [received] = upstream.heard()
    assert_forwarded(received, b"GET /public", [b"cookie: a=1; b=2; c=3"])


@pytest.mark.parametrize(
    "lines",
    [[], [b"connection: keep-alive"], [b"content-length: 5"], [b"connection: keep-alive", b"content-length: 5"]],
    ids=repr,
)
def test_http_1_0_ends_where_it_says(upstream, exchange, lines):
    length = b"content-length: 5" in lines
    kept = b"connection: keep-alive" in lines

    statuses = exchange(request(lines, (b"hello" if length else b"") + HIDDEN, version=b"HTTP/1.0"))

    assert statuses == ([200, 401] if kept else [200])
    [received] = upstream.heard()
    assert_forwarded(received, b"POST /public", [b"content-length: 5" if length else b"content-length: 0"])
    assert received.body == (b"hello" if length else b"")
