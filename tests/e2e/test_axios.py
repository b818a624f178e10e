"""Applications on axios that refresh when they are refused: their requests never fail."""

import pytest


def judge(done):
    assert done["failures"] == []
    assert done["statuses"] == {"200": 20 * done["bursts"]}
    assert done["refreshes"] >= 2, f"no token ran out: {done}"
    # However a race between refreshes ended, each came back with an access token of its own.
    assert done["tokens"] == done["refreshes"] + 1


@pytest.fixture
def served(portfolio):
    # Of two seconds one may be gone by the time a token arrives: its times are whole seconds.
    return portfolio(ttl="2s")


def run(served, client, mode):
    return client("axios.mjs", url=served.url, key=served.key, mode=mode)


def test_with_a_cookie_jar(served, client):
    done = run(served, client, "cookie")

    judge(done)
    [cookie] = done["cookie"]
    assert "refreshToken" not in done["signedIn"]
    assert {name: cookie[name] for name in ["key", "secure", "httpOnly", "sameSite", "path"]} == {
        "key": "__Host-refresh",
        "secure": True,
        "httpOnly": True,
        "sameSite": "strict",
        "path": "/",
    }
    [now] = done["cookieNow"]
    assert now != cookie["value"]
    subjects = {value for each in served.api.received for name, value in each["headers"] if name == "x-auth-subject"}
    assert subjects == {done["address"]}


def test_without_cookies(served, client):
    done = run(served, client, "body")

    judge(done)
    assert (done["cookie"], done["cookieNow"]) == ([], [])
    assert done["signedIn"]["refreshToken"]
