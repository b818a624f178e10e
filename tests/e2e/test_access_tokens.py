"""Access tokens, as jose and PyJWT verify them with the published keys alone, and as gatelet does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from caller import AUTH
from processes import BOUND

# RFC 7518, section 6, and RFC 8037, section 2.
PUBLIC = {"kty", "kid", "use", "alg", "key_ops", "crv", "x", "y", "n", "e"}


@pytest.fixture
def verify(client):
    """Verifies a token twice; what jose and PyJWT read."""

    def run(portfolio, token, algorithm):
        told = {"url": portfolio.url, "token": token, "algorithm": algorithm}
        command = [sys.executable, Path(__file__).parent / "clients/pyjwt.py", json.dumps(told)]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=BOUND)
        assert printed.returncode == 0, printed.stderr
        return client("jose.mjs", **told), json.loads(printed.stdout)

    return run


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
def test_others_verify_access_tokens(portfolio, new_account, verify, algorithm):
    portfolio, account = portfolio(algorithm=algorithm), new_account()
    signed_in = portfolio.sign_in(account, mode="body").json

    by_jose, by_pyjwt = verify(portfolio, signed_in["accessToken"], algorithm)

    assert by_jose == by_pyjwt
    header, claims = by_jose["header"], by_jose["claims"]
    assert (header["typ"], header["alg"], bool(header["kid"])) == ("at+jwt", algorithm, True)
    assert claims["iss"] == portfolio.url
    assert claims["aud"] in ("api", ["api"])
    assert claims["sub"] == account.address
    assert claims["client_id"] == portfolio.made["id"]
    assert claims["scope"] == "portfolio:read"
    assert claims["exp"] == signed_in["expiresAt"] == claims["iat"] + 900
    assert claims["nbf"] <= claims["iat"]
    assert claims["amr"] and all(isinstance(method, str) for method in claims["amr"])
    assert all(isinstance(claims[name], str) and claims[name] for name in ["sid", "jti"])

    # The upstream reads the session's id in a header, and a later token of it names the same.
    portfolio.visit(signed_in["accessToken"]).expect(200)
    assert portfolio.api.header("x-auth-session-id") == [claims["sid"]]
    refreshed = portfolio.refresh(signed_in["refreshToken"]).expect(200).json
    later, _ = verify(portfolio, refreshed["accessToken"], algorithm)
    same = ["iss", "aud", "sub", "sid", "client_id", "scope", "amr"]
    assert [later["claims"][name] for name in same] == [claims[name] for name in same]
    assert later["claims"]["jti"] != claims["jti"]


def test_published_keys_are_public_and_may_be_kept(portfolio, new_account):
    portfolio = portfolio()
    portfolio.sign_in(new_account())

    answer = portfolio.caller.get("/.well-known/jwks.json").expect(200)

    assert "max-age=300" in answer.header("cache-control")[0]
    assert answer.header("content-type")[0] in ("application/jwk-set+json", "application/json")
    assert answer.json["keys"]
    for key in answer.json["keys"]:
        assert key.keys() <= PUBLIC, f"more than a public key:\n{answer}"


def test_a_token_that_was_touched_is_refused(portfolio, new_account):
    portfolio = portfolio()
    token = portfolio.sign_in(new_account()).json["accessToken"]
    head, claims, signature = token.split(".")
    # The last character may hold bits that mean nothing; one in the middle never does.
    middle = len(signature) // 2
    other = "A" if signature[middle] != "A" else "B"

    for forged in [
        f"{head}.{claims}.{signature[:middle]}{other}{signature[middle + 1:]}",
        f"{head}.{claims}.",
    ]:
        portfolio.visit(forged).refused(401, "token_invalid")
    assert portfolio.api.received == []
    portfolio.visit(token).expect(200)


def test_a_bearer_is_told_who_it_is(portfolio, new_account):
    portfolio, account = portfolio(), new_account()
    signed_in = portfolio.sign_in(account).json

    shown = portfolio.caller.get(f"{AUTH}/session", bearer=signed_in["accessToken"]).expect(200).json

    assert (shown["subject"], shown["scopes"]) == (account.address, ["portfolio:read"])
    portfolio.caller.get(f"{AUTH}/session").refused(401, "credential_missing")


def test_a_token_comes_with_the_key_it_was_issued_through(portfolio, new_account):
    portfolio = portfolio()
    token = portfolio.sign_in(new_account()).json["accessToken"]

    portfolio.visit(token, key=portfolio.new_key("stranger")["key"]).refused(403, "credential_mismatch")

    assert portfolio.api.received == []
