"""Every spelling that strangers may give a path, before routers that read paths in their own ways.

The routers say in each answer whether what ran was guarded; a tap between gatelet and each of them keeps every
byte. So what counts here is what was run, not what gatelet said.
"""

import hashlib
import re
import sys

import pytest

from places import REPOSITORY
from processes import Gatelet, Process, eventually, free_address
from recorder import Tap
from spellings import GUARDED, OPEN, SPELLINGS
from strangers import IDENTITY, KEY
from wire import Answer, Http1, Http2, connect

ROUTERS = REPOSITORY / "tests/e2e/routers"

# How many spellings each has to read as something guarded, left to itself: fewer, and what is sent is toothless.
TEETH = {"express": 300, "fastapi": 400, "nginx": 700, "relay": 700, "lighttpd": 400, "lenient": 1500}

LISTEN = """
[listen]
proxy = "127.0.0.1:0"
telemetry = "127.0.0.1:0"

[log]
access = false

[[api_keys.static]]
name = "platform"
sha256 = "{digest}"
"""

UPSTREAM = """
[[upstreams]]
name = "{name}"
url = "{url}"
"""

ROUTE = """
[[routes]]
name = "{name} {pattern}"
host = "{name}.test"
{extent} = "{pattern}"
upstream = "{name}"
require = {require}
{more}
"""

GUARD = {
    ("prefix", "/"): False,
    ("prefix", "/public"): False,
    ("prefix", "/public/vault"): True,
    ("path", "/public/report"): True,
    ("prefix", "/admin"): True,
    ("path", "/admin/health"): False,
    ("path", "/settings"): True,
}

# What the configuration says besides, and what each route does.
MANNERS = {
    "as it is": ("", ""),
    "any case": ('[routing]\nmatch_case = "ignore"\n', ""),
    "encoded slashes": ("", 'encoded_slash = "allow"'),
}

# What only gatelet may say, or may not be said at all, in the spellings that upstreams take for it.
FORGED = [
    (b"x-auth-subject", b"forged"),
    (b"x_auth_subject", b"forged"),
    (b"x.auth.subject", b"forged"),
    (b"x-auth_methods", b"forged"),
    (b"x-auth-key-id", b"forged"),
    (b"x!auth~key*owner", b"forged"),
    (b"x-original-url", b"/forged"),
    (b"x_rewrite_url", b"/forged"),
    (b"x-http-method-override", b"FORGED"),
    (b"x-forwarded-for", b"forged"),
    (b"x-forwarded-prefix", b"/forged"),
    (b"x-real-ip", b"forged"),
    (b"forwarded", b"for=forged"),
    (b"x-request-id", b"forged"),
]

FORGED_TRAILERS = [(b"x-auth-subject", b"forged"), (b"x_auth_scopes", b"forged"), (b"x-original-url", b"/forged")]


class Router:
    """A running router, and the tap before it."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.host = f"{name}.test".encode()
        self.tap = Tap(address)
        self.seen = 0

    def news(self):
        """What it was asked since the last time."""
        news = self.tap.exchanges[self.seen :]
        self.seen += len(news)
        return news


def listens(address):
    try:
        connect(address).close()
    except ConnectionError:
        return False
    return True


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the routers before files serve; each file says whether it is guarded."""
    folder = tmp_path_factory.mktemp("files")
    for name, what in {
        "index.html": "open",
        "settings": "guarded",
        "administrator": "open",
        "settings2": "open",
        "admin/index.html": "guarded",
        "admin/users": "guarded",
        "admin/health": "open",
        "public/index.html": "open",
        "public/page": "open",
        "public/report": "guarded",
        "public/vault/index.html": "guarded",
        "public/vault/secret": "guarded",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"ran:{what}\n")
    return folder


@pytest.fixture(scope="module")
def routers(tool, scripts, files, tmp_path_factory):
    """Starts every router; they run as long as these tests."""
    folder = tmp_path_factory.mktemp("routers")
    running = []

    def start(*command):
        running.append(Process(command))
        return running[-1]

    def configured(name, **told):
        file = folder / name
        file.write_text((ROUTERS / name).read_text().format(folder=folder, files=files, **told))
        return file

    script = scripts / "express.mjs"
    script.write_text((ROUTERS / "express.mjs").read_text())
    listening = {
        "express": start(tool("node"), script, files, "plain"),
        "lenient": start(tool("node"), script, files, "lenient"),
        "fastapi": start(sys.executable, ROUTERS / "asgi.py", files),
    }
    found = {name: process.wait_for(r"listening on (\S+)").group(1) for name, process in listening.items()}
    found |= {"nginx": free_address(), "relay": free_address(), "lighttpd": free_address()}
    servers = configured("nginx.conf", locations=found["nginx"], relay=found["relay"], behind=found["express"])
    start(tool("nginx"), "-p", folder, "-c", servers)
    start(tool("lighttpd"), "-D", "-f", configured("lighttpd.conf", port=found["lighttpd"].rsplit(":", 1)[1]))
    for name in ("nginx", "relay", "lighttpd"):
        eventually(f"{name} listens", lambda name=name: listens(found[name]))
    yield {name: Router(name, found[name]) for name in TEETH}
    for each in running:
        each.stop()


@pytest.fixture(params=TEETH)
def router(request, routers):
    return routers[request.param]


@pytest.fixture(scope="module", params=MANNERS)
def gatelet(request, program, routers, tmp_path_factory):
    """gatelet before all routers, each of which is a host."""
    options, of_route = MANNERS[request.param]
    config = LISTEN.format(digest=hashlib.sha256(KEY).hexdigest()) + options
    for name, router in routers.items():
        config += UPSTREAM.format(name=name, url=router.tap.url)
        for (extent, pattern), guarded in GUARD.items():
            require = '["api_key"]' if guarded else '"nothing"'
            config += ROUTE.format(name=name, extent=extent, pattern=pattern, require=require, more=of_route)
    file = tmp_path_factory.mktemp("gatelet") / "config.toml"
    file.write_text(config)
    running = Gatelet(program, file)
    yield running
    running.stop()


class Caller1:
    """Asks over HTTP/1.1, one request after the other."""

    def __init__(self, address):
        self.http = Http1(address)

    def ask(self, targets, host, fields=(), forge=False):
        """Asks for each target, whose place is its case; the answers."""
        return [self.http.exchange(self._request(*each, host, fields, forge)) for each in enumerate(targets)]

    @staticmethod
    def _request(case, target, host, fields, forge):
        lines = [(b"host", host), (b"x-case", b"%d" % case), *fields]
        body = b""
        if forge:
            lines += [*FORGED, (b"Connection", b"keep-alive, X-Auth-Subject"), (b"connection", b"x-request-id")]
        if forge and case % 4 == 0:
            lines += [(b"transfer-encoding", b"chunked"), (b"trailer", b"x-auth-subject")]
            body = b"0\r\n%s\r\n" % b"".join(b"%s: %s\r\n" % trailer for trailer in FORGED_TRAILERS)
        head = b"".join(b"%s: %s\r\n" % line for line in lines)
        return b"GET %s HTTP/1.1\r\n%s\r\n%s" % (target, head, body)


class Caller2:
    """Asks over HTTP/2, several requests at once."""

    AT_ONCE = 20

    def __init__(self, address):
        self.address = address

    def ask(self, targets, host, fields=(), forge=False):
        cases = list(enumerate(targets))
        answers = {}
        for begin in range(0, len(cases), self.AT_ONCE):
            batch = cases[begin : begin + self.AT_ONCE]
            answers |= self._ask(batch, host, fields, forge)
            # Some end the connection, and so every one of these is asked for on one of its own.
            for case in batch:
                if case[0] not in answers:
                    answers |= self._ask([case], host, fields, forge) or {case[0]: Answer()}
        return [answers[case] for case, _ in cases]

    def _ask(self, cases, host, fields, forge):
        """The answers to as many of these as were answered."""
        streams = {1 + 2 * place: case for place, (case, _) in enumerate(cases)}
        with Http2(self.address) as http:
            frames = []
            for stream, (case, target) in zip(streams, cases):
                head = [
                    (b":method", b"GET"),
                    (b":scheme", b"http"),
                    (b":authority", host),
                    (b":path", target),
                    (b"x-case", b"%d" % case),
                    *fields,
                    *(FORGED if forge else []),
                ]
                trailers = forge and case % 4 == 0
                frames.append(http.head(stream, head, end=not trailers))
                if trailers:
                    frames.append(http.head(stream, FORGED_TRAILERS))
            http.send(*frames)
            answers = http.read(streams)
        return {streams[stream]: answer for stream, answer in answers.items() if answer.ended}


CALLERS = {"http1": Caller1, "http2": Caller2}


@pytest.fixture(params=CALLERS)
def caller(request, gatelet):
    return CALLERS[request.param](gatelet.proxy)


def spelled(host):
    return [spelling.replace(b"HOST", host) for spelling in SPELLINGS]


def ran_guarded(what):
    return b"ran:guarded" in what


def case_of(exchange):
    """Which spelling was asked for, by its place."""
    return int(re.search(rb"\r\nx-case: (\d+)\r\n", exchange.request).group(1))


def forgeries(exchange):
    """The lines of a request that nobody but gatelet may have written."""
    lines = bytes(exchange.request).split(b"\r\n")[1:]
    reserved = re.compile(rb"x[^a-z0-9]auth[^a-z0-9]|[^:]*forged", re.IGNORECASE)
    return [line for line in lines if reserved.match(line) or b"forged" in line.lower()]


def test_each_router_by_itself_takes_many_spellings_for_what_is_guarded(router):
    spellings = spelled(router.host)

    answers = Caller1(router.address).ask(spellings, router.host)

    ran = [spelling for spelling, answer in zip(spellings, answers) if ran_guarded(answer.body)]
    assert set(GUARDED[:4]) <= set(ran)
    assert len(ran) >= TEETH[router.name]


def test_no_spelling_of_a_stranger_runs_what_is_guarded(router, caller):
    spellings = spelled(router.host)

    answers = caller.ask(spellings, router.host, forge=True)

    asked = router.news()
    passed = {case_of(exchange): exchange for exchange in asked}
    breaches = {spellings[case]: exchange for case, exchange in passed.items() if ran_guarded(exchange.response)}
    assert not breaches, f"ran what is guarded: {list(breaches)}\n{next(iter(breaches.values()))}"
    assert [line for exchange in asked for line in forgeries(exchange)] == []
    assert passed, "nothing came through, so nothing was tried"
    for case, (spelling, answer) in enumerate(zip(spellings, answers)):
        assert not ran_guarded(answer.body)
        assert case in passed or answer.status in (0, 400, 401), f"{spelling!r} was answered {answer.status}"


def test_who_has_the_key_runs_what_is_guarded(router, caller):
    fields = [(b"x-api-key", KEY)]

    answers = caller.ask(GUARDED[:4], router.host, fields, forge=True)

    asked = router.news()
    assert [answer.status for answer in answers] == [200] * 4
    assert all(ran_guarded(answer.body) for answer in answers)
    assert sorted(map(case_of, asked)) == [0, 1, 2, 3]
    for exchange in asked:
        assert bytes(exchange.request).startswith(b"GET %s HTTP/1.1\r\n" % GUARDED[case_of(exchange)])
        assert sorted(forgeries(exchange)) == IDENTITY


def test_what_is_open_is_open_in_any_honest_spelling(router, caller):
    answers = caller.ask(OPEN, router.host, forge=True)

    asked = {case_of(exchange): exchange for exchange in router.news()}
    for case, (target, answer) in enumerate(zip(OPEN, answers)):
        assert case in asked, f"{target!r} was answered {answer.status}"
        assert bytes(asked[case].request).startswith(b"GET %s HTTP/1.1\r\n" % target)
        assert not forgeries(asked[case])
        assert not ran_guarded(answer.body)
        assert answer.status < 500
