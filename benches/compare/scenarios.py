"""What is compared, in the order in which it is measured and printed."""

from handshakes import Handshakes
from idle import Idle
from keys import UNKNOWN_KEY, garbage_key
from latency import Latency
from load import Load
from start import Start

# nginx verifies no tokens in the edition that anybody may have, and our Pingora has nothing to do it with.
VERIFIERS = ("haproxy", "envoy", "gatelet")
GUARDS = ("nginx", "haproxy", "envoy", "pingora", "gatelet")
ALL = (*GUARDS, "relay")

CACHED_KEY = Load("cached key", (*ALL, "gatelet, log on", "on-redis"))
KEY_AND_TOKEN = Load("key and token", VERIFIERS, path="/tokens", tokens=1, beside=CACHED_KEY)
TLS = Load("TLS", GUARDS, tls=True)

SCENARIOS = (
    CACHED_KEY,
    KEY_AND_TOKEN,
    Load("5,000 tokens", VERIFIERS, path="/tokens", tokens=5_000, beside=KEY_AND_TOKEN),
    Load("unknown key", GUARDS, key=UNKNOWN_KEY, status=401),
    Load("garbage key", ("nginx", "gatelet"), key=garbage_key(), status=401),
    Load("2 workers", ("gatelet", "gatelet, 2 workers"), key=UNKNOWN_KEY, status=401, http2=True, shared=True),
    Load("public route", ("nginx", "haproxy", "gatelet"), path="/public", key=None),
    TLS,
    Load("HTTP/2", GUARDS, tls=True, http2=True, beside=TLS),
    Load("1 MiB down", (*ALL, "haproxy, splice"), path="/bulk/down", connections=8, per="MiB"),
    Load("1 MiB up", (*ALL, "haproxy, splice"), path="/bulk/up", upload=True, connections=8, per="MiB"),
    Handshakes("full handshake", GUARDS, resumed=False),
    Handshakes("resumed handshake", GUARDS, resumed=True),
    Latency("latency", ALL),
    Idle("idle connection", ALL, tls=False),
    Idle("idle over TLS", GUARDS, tls=True),
    Start("start", GUARDS),
)
