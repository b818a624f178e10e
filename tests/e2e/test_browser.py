"""A real browser: an application on an origin of its own before gatelet, and a page that is not let in."""

import urllib.parse
import urllib.request

import pytest

from caller import AUTH, PORTFOLIO
from places import REPOSITORY, SCRIPTS
from processes import BOUND, Api, eventually, free_address

CONFIG = """
[listen]
proxy = "{address}"
telemetry = "127.0.0.1:0"

[[upstreams]]
name = "api"
url = "{api}"

[[routes]]
prefix = "/api/v1/portfolio"
require = ["api_key", "access_token"]

[auth]
csrf_origins = ["{application}"]

[cors]
origins = ["{application}"]

[access_token]
issuer = "{gatelet}"

[wallet]
domains = ["{domain}"]

[store]
kind = "embedded"
path = "{folder}/store"
"""

DEMO = REPOSITORY / "src/cli/demo/page"

NOTHING_KEPT = {"cookie": "", "cookies": [], "local": {}, "session": {}, "databases": [], "caches": []}


def serve(request):
    """A page, its script, and what the demo's page signs with."""
    path = request["target"].split("?")[0]
    if path == "/":
        content = b'<!doctype html><title>An application</title><script type="module" src="/application.js"></script>'
        return 200, "text/html", content
    file = SCRIPTS / "application.js" if path == "/application.js" else DEMO / path[1:]
    return (200, "text/javascript", file.read_bytes()) if file.is_file() else (404, "text/plain", b"")


class Pages(Api):
    """A server of pages, and thus an origin."""

    def __init__(self, host="localhost"):
        super().__init__(serve)
        self.domain = f"{host}:{self.server.server_port}"
        self.origin = f"http://{self.domain}"


class World:
    """gatelet before an API, an application that may sign in to it, and a browser."""

    def __init__(self, start, api, browser, application, folder):
        address = free_address()
        # Another port of the same host: another origin, and yet the same site.
        self.url = address.replace("127.0.0.1", "http://localhost")
        self.api, self.browser, self.application = api, browser, application
        known = {"address": address, "api": api.url, "gatelet": self.url, "folder": folder}
        self.gatelet = start(CONFIG.format(**known, application=application.origin, domain=application.domain))
        self.key = self.gatelet.keys("create", "--name", "application")["key"]

    def open(self, pages=None):
        """A tab with the application, from its own origin unless told otherwise."""
        told = urllib.parse.urlencode({"base": self.url, "key": self.key, "portfolio": PORTFOLIO})
        tab = self.browser.open(f"{(pages or self.application).origin}/?{told}")
        tab.until("'application' in globalThis")
        return tab

    def count(self, series):
        """How far a series has counted."""
        with urllib.request.urlopen(f"http://{self.gatelet.telemetry}/metrics", timeout=BOUND) as scrape:
            values = [line.split()[-1] for line in scrape.read().decode().splitlines() if line.startswith(f"{series} ")]
        return int(float(values[0])) if values else 0

    def cookie(self):
        """The one cookie that the browser keeps of gatelet, if there is any."""
        [*found] = self.browser.open("about:blank").cookies(self.url)
        assert len(found) < 2, found
        return found[0] if found else None


@pytest.fixture
def world(start, api, browser, tmp_path):
    with Pages() as application:
        yield World(start, api, browser, application, tmp_path)


def went_over(tab, path, *expected):
    """Waits until just these requests to a path went over a tab's wire, in any order."""
    eventually(f"{expected} to {path}", lambda: sorted(tab.exchanges(path), key=str) == sorted(expected, key=str))


def test_no_script_reaches_a_token(world):
    tab = world.open()

    claims = tab.run("application.signIn()")
    assert tab.run("application.visit()") == 200

    [request] = world.api.received
    headers = dict(request["headers"])
    assert headers["x-auth-subject"] == claims["sub"]
    # The preflights ended at gatelet, and so did what the page showed.
    assert request["method"] == "GET"
    assert not {"x-api-key", "authorization", "cookie"} & headers.keys()

    assert tab.run("application.kept()") == NOTHING_KEPT
    cookie = world.cookie()
    assert (cookie["name"], cookie["domain"], cookie["path"]) == ("__Host-refresh", "localhost", "/")
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    # A page of gatelet's own origin reads no more.
    own = world.browser.open(f"{world.url}/nowhere")
    assert own.run("document.cookie") == ""

    # A page that was opened anew has no token; the cookie brings the next one.
    anew = world.open()
    assert anew.run("application.refresh()")["sid"] == claims["sid"]
    assert anew.run("application.visit()") == 200
    assert anew.run("application.kept()") == NOTHING_KEPT
    assert world.cookie()["value"] != cookie["value"]


def test_two_tabs_refresh_at_once(world):
    tabs = [world.open(), world.open()]
    signed_in = tabs[0].run("application.signIn()")

    claims = [tab.finish(number) for tab, number in [(tab, tab.start("application.goOn(40)")) for tab in tabs]]

    assert [len(each) for each in claims] == [40, 40]
    # One sign-in, one family; each request brought a token of its own.
    everyone = [each for of_tab in claims for each in of_tab]
    assert {each["sid"] for each in everyone} == {signed_in["sid"]}
    assert len({each["jti"] for each in everyone}) == 80
    assert len(world.api.received) == 80
    assert world.count('gatelet_refreshes_total{outcome="reused"}') == 0
    for tab in tabs:
        assert tab.run("application.refresh()")["sid"] == signed_in["sid"]
        assert {status for _, _, status in tab.exchanges(f"{AUTH}/refresh")} == {200}


def test_logs_out_at_once(world):
    tab, other = world.open(), world.open()
    tab.run("application.signIn()")
    other.run("application.refresh()")
    assert other.run("application.visit()") == 200
    reached = len(world.api.received)

    old = tab.run("application.logOut()")

    assert (old["status"], old["said"]["code"]) == (401, "session_revoked")
    assert world.cookie() is None
    assert tab.run("application.refresh().catch(({ exchange }) => exchange.status)") == 401
    # The other tab's token and its next one are over as well.
    assert other.run("application.visit().catch(({ exchange }) => exchange.status)") == 401
    assert len(world.api.received) == reached
    assert tab.run("application.kept()") == NOTHING_KEPT


FORM = """
(action) => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = action;
  document.body.append(form);
  form.submit();
}
"""

# What a page tries that has the application's key, which is no secret.
STRANGER = """
async (base, key) => {
  const ask = (route, options) =>
    fetch(base + route, { method: "POST", credentials: "include", ...options }).then(
      async (answer) => [answer.type, answer.status, await answer.text()],
      (error) => error.message,
    );
  const headers = { "x-api-key": key };
  return {
    refresh: await ask("/api/v1/auth/refresh"),
    logout: await ask("/api/v1/auth/logout", { mode: "no-cors" }),
    everywhere: await ask("/api/v1/auth/logout?all=true", { mode: "no-cors" }),
    nonce: await ask("/api/v1/auth/nonce", { headers }),
    portfolio: await ask("/api/v1/portfolio/positions", { method: "GET", headers, credentials: "omit" }),
  };
}
"""


# A neighbour's requests carry the cookie, and it does not help; another site's carry none.
@pytest.mark.parametrize(
    ("host", "carried", "refreshed", "logged_out"),
    [("localhost", ["__Host-refresh"], 403, 403), ("127.0.0.1", [], 401, 204)],
)
def test_a_page_that_is_not_listed_gets_nowhere(world, host, carried, refreshed, logged_out):
    tab = world.open()
    signed_in = tab.run("application.signIn()")
    kept = world.cookie()

    with Pages(host) as strangers:
        stranger = world.open(strangers)
        seen = stranger.apply(STRANGER, world.url, world.key)

        assert seen == {
            "refresh": "Failed to fetch",
            "logout": ["opaque", 0, ""],
            "everywhere": ["opaque", 0, ""],
            "nonce": "Failed to fetch",
            "portfolio": "Failed to fetch",
        }
        # What goes with a key asks first, and was not sent.
        went_over(stranger, f"{AUTH}/nonce", ("OPTIONS", [], 204), ("POST", [], None))
        went_over(stranger, PORTFOLIO, ("OPTIONS", [], 204), ("GET", [], None))
        went_over(stranger, f"{AUTH}/refresh", ("POST", carried, refreshed))
        went_over(stranger, f"{AUTH}/logout", *[("POST", carried, logged_out)] * 2)

        # A form needs nobody's leave to be sent.
        stranger.apply(FORM, f"{world.url}{AUTH}/logout")
        went_over(stranger, f"{AUTH}/logout", *[("POST", carried, logged_out)] * 3)
        if logged_out == 403:
            stranger.until("document.body?.innerText.includes('origin_forbidden')")

    assert world.count('gatelet_rejects_total{code="origin_forbidden"}') == (4 if carried else 0)
    assert world.api.received == []
    # Nobody was logged out, nothing was spent, and the cookie was not taken away.
    assert world.cookie() == kept
    assert tab.run("application.visit()") == 200
    assert tab.run("application.refresh()")["sid"] == signed_in["sid"]
