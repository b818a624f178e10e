"""gatelet before an upstream that keeps every byte, for tests of what strangers send."""

import hashlib

from processes import eventually
from recorder import Recorder
from wire import Http1

KEY = b"imported-key-of-the-platform-team-0001"

# What gatelet says of who has the key.
IDENTITY = [b"x-auth-key-id: static:platform", b"x-auth-methods: api_key", b"x-auth-subject: platform"]

CONFIG = """
[listen]
proxy = "127.0.0.1:0"
telemetry = "127.0.0.1:0"

# One connection upstream carries everything, so that whatever is left on it by one request precedes the next.
[runtime]
workers = 1

[limits]
request_head = "16KiB"

[[upstreams]]
name = "api"
url = "{url}"
max_connections = 1

[[routes]]
prefix = "/public"
require = "nothing"

[[routes]]
prefix = "/admin"
require = ["api_key"]

[[api_keys.static]]
name = "platform"
sha256 = "{digest}"
"""


def configuration(url):
    return CONFIG.format(url=url, digest=hashlib.sha256(KEY).hexdigest())


class Upstream(Recorder):
    """The upstream; it answers everything, and tells what it heard."""

    def __init__(self):
        super().__init__()
        self.proxy = None

    def heard(self):
        """What came since the last time, all of which is HTTP/1.1; nothing else is on its way."""
        last = b"GET /public/last HTTP/1.1"
        caller = Http1(self.proxy)
        answer = caller.exchange(b"GET /public/last HTTP/1.1\r\nhost: api.test\r\n\r\n")
        caller.close()
        assert answer.status == 200
        # A connection that broke may still be read from.
        eventually("no more than one connection is read from", lambda: self.open <= 1)
        *heard, probe = sorted(self.received, key=lambda received: received.start == last)
        assert probe.start == last and all(received.start != last for received in heard)
        self.received.clear()
        assert not self.broken, self.broken
        return heard


def assert_forwarded(received, start, more=()):
    """The request begins like this and has these lines, and none else but those that gatelet always writes."""
    assert received.start == start + b" HTTP/1.1"
    assert received.complete
    lines = [line for line in received.lines[1:] if not line.startswith(b"x-request-id: ")]
    always = [
        b"host: api.test",
        b"x-forwarded-for: 127.0.0.1",
        b"x-forwarded-host: api.test",
        b"x-forwarded-proto: http",
    ]
    assert sorted(lines) == sorted([*always, *more])
    assert len(received.lines) == len(lines) + 2, "one x-request-id"
