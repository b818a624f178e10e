"""What the tests share: a portfolio API behind gatelet, wallets and the client scripts for those of signing in, and
an upstream that keeps every byte for those of what strangers send."""

import json
import shutil
import subprocess
import threading

import pytest

from browser import Browser
from caller import PORTFOLIO, Answer, Caller
from peers import Authority, World
from places import SCRIPTS
from processes import BOUND, Gatelet, free_address
from strangers import Upstream, configuration

CONFIG = """
[listen]
proxy = "{address}"
telemetry = "127.0.0.1:0"

[[upstreams]]
name = "api"
url = "{api}"

[[routes]]
prefix = "/api/v1/portfolio"
methods = ["GET"]
require = ["api_key", "access_token"]
scopes = ["portfolio:read"]

[[routes]]
prefix = "/api/v1/feed"
require = ["api_key"]

[auth]
csrf_origins = ["https://app.example.com"]

[access_token]
issuer = "http://{address}"
audience = ["api"]
ttl = "{ttl}"
algorithm = "{algorithm}"
scopes = ["portfolio:read"]

[refresh_token]
grace = "{grace}"

[wallet]
domains = ["{address}"]
chains = [1, 42161]
statement = "Sign in to your portfolio."

[store]
kind = "embedded"
path = "{folder}/store"
"""


class Portfolio:
    """A portfolio API behind gatelet, and the API key of an application before it."""

    def __init__(self, gatelet, api, address):
        self.gatelet, self.api, self.address = gatelet, api, address
        self.url = f"http://{address}"
        self.made = self.new_key("portfolio-app")
        self.key = self.made["key"]
        self.caller = Caller(address)

    def new_key(self, name):
        return self.gatelet.keys("create", "--name", name, "--owner", name, "--scope", "portfolio:read")

    def visit(self, access_token, **options):
        """Asks for the guarded route, with the key unless told otherwise."""
        return self.caller.get(PORTFOLIO, **{"key": self.key, "bearer": access_token, **options})

    def sign_in(self, account, **more):
        """Signs in as an account; the answer to that."""
        nonce = self.caller.auth("/nonce", {"address": account.address}, key=self.key).expect(201)
        proof = {"message": nonce.json["message"], "signature": account.sign(nonce.json["message"])}
        return self.caller.auth("/verify", {**proof, **more}, key=self.key).expect(201)

    def refresh(self, token):
        """Refreshes without cookies."""
        return self.caller.auth("/refresh", {"refreshToken": token})


@pytest.fixture
def portfolio(start, api, tmp_path):
    """Starts gatelet before a portfolio API."""

    def run(ttl="15m", grace="10s", algorithm="ES256"):
        address = free_address()
        known = {"address": address, "api": api.url, "folder": tmp_path}
        gatelet = start(CONFIG.format(**known, ttl=ttl, grace=grace, algorithm=algorithm))
        return Portfolio(gatelet, api, address)

    return run


@pytest.fixture(scope="session")
def scripts(repository, tmp_path_factory):
    """The client scripts, next to the packages that they import."""
    packages = repository / "target/tools/clients/node_modules"
    assert packages.exists(), f"{packages} is missing: run scripts/install-tools clients"
    folder = tmp_path_factory.mktemp("clients")
    for script in SCRIPTS.glob("*.mjs"):
        shutil.copy(script, folder)
    (folder / "node_modules").symlink_to(packages)
    return folder


@pytest.fixture
def client(tool, scripts):
    """Runs a client script, which is told something as JSON and prints JSON."""

    def run(script, **told):
        command = [tool("node"), scripts / script, json.dumps({"portfolio": PORTFOLIO, **told})]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=2 * BOUND)
        assert printed.returncode == 0, f"{script}: {printed.stderr}"
        return revived(json.loads(printed.stdout))

    return run


def revived(printed):
    """What a script printed, its answers as `Answer`s."""
    if isinstance(printed, list):
        return [revived(each) for each in printed]
    if isinstance(printed, dict) and {"request", "status", "text"} <= printed.keys():
        return Answer.of_script(printed)
    if isinstance(printed, dict):
        return {name: revived(each) for name, each in printed.items()}
    return printed


@pytest.fixture
def open_browser(tool):
    """Opens browsers that know nothing yet, with flags of their own."""
    running = []

    def run(*flags):
        running.append(Browser(tool("chromium"), *flags))
        return running[-1]

    yield run
    for each in running:
        each.stop()


@pytest.fixture
def browser(open_browser):
    """A browser that knows nothing yet."""
    return open_browser()


class Account:
    """An account of the wallet."""

    def __init__(self, ask):
        self.ask = ask
        self.index, self.address = ask({})

    def sign(self, message):
        """Signs as wallets do for `personal_sign` (EIP-191)."""
        return self.ask({"account": self.index, "message": message})


@pytest.fixture(scope="session")
def new_account(tool, scripts):
    """Makes accounts, all of one wallet that runs as long as the tests."""
    wallet = subprocess.Popen(
        [tool("node"), scripts / "wallet.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    # A wallet that hangs ends here, not with the patience of whoever runs the tests.
    bound = threading.Timer(20 * BOUND, wallet.kill)
    bound.start()

    def ask(question):
        wallet.stdin.write(json.dumps(question) + "\n")
        wallet.stdin.flush()
        line = wallet.stdout.readline()
        assert line, "the wallet is gone"
        return json.loads(line)

    yield lambda: Account(ask)
    bound.cancel()
    wallet.stdin.close()
    wallet.wait(BOUND)


@pytest.fixture
def authority(tmp_path):
    """Vouches for everybody in a test."""
    return Authority(tmp_path)


@pytest.fixture
def world(start, tmp_path):
    """Starts gatelet before an upstream, for every path of which a key is needed."""

    def run(upstream, certificate=None, more=""):
        return World(start, tmp_path, upstream, certificate, more)

    return run


@pytest.fixture
def neighbour(tool, tmp_path):
    """Starts neighbours."""
    running = []

    def run(kind, plan):
        folder = tmp_path / f"neighbour-{len(running)}"
        folder.mkdir()
        running.append(kind(tool, folder, plan))
        return running[-1]

    yield run
    for each in running:
        each.stop()


@pytest.fixture(scope="module")
def gatelet_and_upstream(program, tmp_path_factory):
    """gatelet before an upstream that keeps every byte."""
    with Upstream() as upstream:
        file = tmp_path_factory.mktemp("gatelet") / "config.toml"
        file.write_text(configuration(upstream.url))
        running = Gatelet(program, file)
        upstream.proxy = running.proxy
        yield running, upstream
        running.stop()


@pytest.fixture
def gatelet(gatelet_and_upstream):
    return gatelet_and_upstream[0]


@pytest.fixture
def upstream(gatelet_and_upstream):
    """The upstream, which remembers nothing of the test before."""
    upstream = gatelet_and_upstream[1]
    upstream.received.clear()
    upstream.broken.clear()
    return upstream
