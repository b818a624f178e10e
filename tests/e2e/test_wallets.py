"""Accounts of viem and of ethers sign in, with the offered message and with those of the siwe package."""

import time

import pytest

ARBITRUM = 42161


def judge_sign_in(portfolio, done):
    """Judges what a script saw that signed in and visited the portfolio."""
    now = time.time()
    nonce, verify = done["nonce"].expect(201), done["verify"].expect(201).uncached()

    assert nonce.json["nonce"].isalnum() and len(nonce.json["nonce"]) >= 8
    offered = {name: nonce.json[name] for name in ["domain", "version", "chains", "statement"]}
    assert offered == {
        "domain": portfolio.address,
        "version": "1",
        "chains": [1, ARBITRUM],
        "statement": "Sign in to your portfolio.",
    }
    assert nonce.json["uri"].startswith(portfolio.url)
    assert abs(nonce.json["expiresAt"] - now - 300) < 30

    said = verify.json
    assert set(said) == {"accessToken", "tokenType", "expiresIn", "expiresAt", "subject", "chainId"}
    assert (said["tokenType"], said["expiresIn"], said["chainId"]) == ("Bearer", 900, ARBITRUM)
    assert said["subject"] == done["address"]
    assert abs(said["expiresAt"] - now - 900) < 30
    value, attributes = verify.cookie()
    assert len(value) >= 32
    assert attributes["path"] == "/" and attributes["samesite"].lower() == "strict"
    assert {"secure", "httponly"} <= attributes.keys() and "domain" not in attributes
    assert abs(int(attributes["max-age"]) - 7 * 86400) < 30

    done["both"].expect(200)
    for refused in ["withoutKey", "withoutToken", "withoutEither"]:
        done[refused].refused(401, "credential_missing")
    [seen] = portfolio.api.received
    headers = {}
    for name, value in seen["headers"]:
        headers.setdefault(name, []).append(value)
    assert headers["x-auth-subject"] == [done["address"]]
    assert sorted(headers["x-auth-methods"][0].split()) == ["access_token", "api_key"]
    assert headers["x-auth-key-id"] == [portfolio.made["id"]]
    assert headers["x-auth-scopes"] == ["portfolio:read"]
    assert len(headers["x-auth-session-id"]) == 1
    assert not headers.keys() & {"x-api-key", "authorization", "cookie"}


def judge_message(portfolio, done):
    """Judges the message that was offered, as others read it."""
    nonce, parsed = done["nonce"].json, done["parsed"]
    # With EIP-55's capitals, however the address was written.
    wanted = {"address": done["address"], "chainId": ARBITRUM, "domain": portfolio.address, "version": "1"}
    wanted |= {"nonce": nonce["nonce"], "uri": nonce["uri"], "statement": nonce["statement"]}
    assert {name: parsed[name] for name in wanted} == wanted


@pytest.mark.parametrize("form", ["message", "wallet"])
def test_viem_signs_in(portfolio, client, form):
    portfolio = portfolio()

    done = client("viem.mjs", url=portfolio.url, key=portfolio.key, chainId=ARBITRUM, form=form)

    judge_sign_in(portfolio, done)
    judge_message(portfolio, done)


def test_ethers_signs_in(portfolio, client):
    portfolio = portfolio()

    done = client("ethers.mjs", url=portfolio.url, key=portfolio.key, chainId=ARBITRUM)

    judge_sign_in(portfolio, done)
    judge_message(portfolio, done)


def test_a_message_of_the_siwe_package_signs_in(portfolio, client):
    portfolio = portfolio()

    done = client("siwe.mjs", url=portfolio.url, key=portfolio.key, chainId=ARBITRUM)

    judge_sign_in(portfolio, done)
    assert "message" not in done["nonce"].json, "nobody's message was offered"
