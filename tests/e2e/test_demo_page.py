"""The demo's own page, in a real browser."""

import re

import pytest

from caller import AUTH
from demo import Demo
from places import REPOSITORY
from processes import free_address

VENDOR = REPOSITORY / "src/cli/demo/page/vendor"

# A wallet in the browser (EIP-1193), as an extension puts it there: it asks the test.
WALLET = "window.ethereum = { request: ({ method, params = [] }) => ask('wallet', method, ...params) };"


@pytest.fixture
def demo(program):
    running = Demo(program)
    yield running
    running.stop()


def requests(tab):
    """The list of what went over the wire: status and code, request."""
    lines = "[...document.querySelectorAll('#wire li')]"
    return tab.run(f"{lines}.map((li) => [...li.querySelectorAll('.status, .request')].map((each) => each.innerText))")


def is_idle(tab):
    """Waits until the page has done what it was told."""
    tab.until("!document.querySelector('#refresh').disabled")


def is_signed_in(tab):
    is_idle(tab)
    address = tab.until("document.querySelector('#status .address')?.innerText")
    assert re.fullmatch("0x[0-9a-fA-F]{40}", address)
    return address


def complaints(tab):
    """What the browser complained of, but for answers of 401, which the page asks for."""
    return [line for line in tab.console if "status of 401" not in line]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_signs_in_refreshes_and_logs_out(demo, browser, host):
    url = demo.page.replace("127.0.0.1", host)
    tab = browser.open(url)
    is_idle(tab)
    assert requests(tab) == [["401 credential_missing", f"POST {AUTH}/refresh"]]
    assert "Nobody is signed in." in tab.text()

    tab.click("#sign-in-throw-away")

    address = is_signed_in(tab)
    assert requests(tab)[1:] == [
        ["201", f"POST {AUTH}/nonce"],
        ["201", f"POST {AUTH}/verify"],
        ["200", "GET /api/v1/portfolio"],
    ]
    assert tab.run("document.querySelector('#owner').innerText") == address
    assert tab.run("document.querySelectorAll('#positions tbody tr').length") == 4
    assert 0 < int(re.search(r"(\d+) s left", tab.text()).group(1)) <= 60
    [cookie] = tab.cookies(url)
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"]) == ("__Host-refresh", True, True)
    assert tab.run("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]

    tab.click("#refresh")
    is_idle(tab)
    assert requests(tab)[4:] == [["200", f"POST {AUTH}/refresh"]]
    [renewed] = tab.cookies(url)
    assert renewed["value"] != cookie["value"]

    # Whoever comes back is still signed in.
    again = browser.open(url)
    assert is_signed_in(again) == address
    assert requests(again) == [["200", f"POST {AUTH}/refresh"], ["200", "GET /api/v1/portfolio"]]

    again.click("#log-out")
    again.until("document.querySelector('#status').innerText.includes('Nobody is signed in.')")
    is_idle(again)
    assert requests(again)[2:] == [
        ["204", f"POST {AUTH}/logout"],
        ["401 session_revoked", "GET /api/v1/portfolio"],
    ]
    assert again.cookies(url) == []
    assert not again.run("document.querySelector('#positions').checkVisibility()")

    # The other tab finds out when it asks.
    tab.click("#fetch")
    tab.until("document.querySelector('#status').innerText.includes('Nobody is signed in.')")
    assert requests(tab)[5:] == [
        ["401 session_revoked", "GET /api/v1/portfolio"],
        ["401 credential_missing", f"POST {AUTH}/refresh"],
    ]
    assert complaints(tab) + complaints(again) == []


def test_a_token_that_runs_out_is_followed_by_the_next(demo, start, browser):
    # The demo's own configuration, beside it and before the same API, but for a life that is over soon.
    written = (demo.folder / "config.toml").read_text()
    address = free_address()
    theirs, mine = demo.page.split(":")[2].rstrip("/"), address.split(":")[1]
    config = re.sub(rf"(127\.0\.0\.1|localhost):{theirs}\b", rf"\1:{mine}", written)
    config = re.sub(r'telemetry = "[^"]*"', 'telemetry = "127.0.0.1:0"', config).replace('"60s"', '"3s"')
    start(config)
    tab = browser.open(f"http://{address}/")
    tab.click("#sign-in-throw-away")
    is_signed_in(tab)
    before = tab.run("document.querySelector('#claims').innerText")

    tab.until("document.querySelector('#life').innerText.includes('It has run out.')")
    tab.click("#fetch")
    is_idle(tab)

    assert requests(tab)[-3:] == [
        ["401 token_expired", "GET /api/v1/portfolio"],
        ["200", f"POST {AUTH}/refresh"],
        ["200", "GET /api/v1/portfolio"],
    ]
    assert tab.run("document.querySelector('#claims').innerText") != before
    # And so it goes on by itself.
    tab.click("#again")
    tab.until("[...document.querySelectorAll('.status')].filter((e) => e.innerText === '401 token_expired').length > 1")
    tab.until("document.querySelector('#wire li:last-child .status').innerText === '200'")
    assert complaints(tab) == []


def test_signs_with_the_wallet_of_the_browser(demo, browser, new_account):
    account = new_account()
    refusals = ["User rejected the request."]

    def wallet(method, *parameters):
        if refusals:
            return {"error": refusals.pop()}
        if method == "eth_requestAccounts":
            # As wallets name accounts: without the capitals of EIP-55.
            return {"result": [account.address.lower()]}
        message, signer = parameters
        assert (method, signer) == ("personal_sign", account.address.lower())
        return {"result": account.sign(bytes.fromhex(message[2:]).decode())}

    tab = browser.open(demo.page, before=WALLET, wallet=wallet)
    is_idle(tab)

    tab.click("#sign-in-wallet")
    tab.until("document.querySelector('#status').innerText.includes('User rejected the request.')")
    tab.click("#sign-in-wallet")

    assert is_signed_in(tab) == account.address
    assert complaints(tab) == []


def test_what_is_vendored_is_what_its_packages_hold(scripts):
    packages = {"noble-secp256k1": "@noble/secp256k1", "noble-hashes": "@noble/hashes"}
    files = [path for path in VENDOR.glob("*/*") if path.is_file()]

    assert len(files) == 6
    for file in files:
        package = scripts / "node_modules" / packages[file.parent.name]
        assert file.read_bytes() == (package / file.name).read_bytes(), file
