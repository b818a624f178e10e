"""A browser's cookie refreshes and logs out for the listed origins alone."""

import pytest

LISTED = "https://app.example.com"
FOREIGN = [
    "https://evil.example",
    "https://app.example.com.evil.example",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://APP.example.com/",
    "null",
]


@pytest.fixture
def served(portfolio):
    return portfolio()


@pytest.mark.parametrize("route", ["/refresh", "/logout"])
def test_a_foreign_origin_is_refused(served, new_account, route):
    signed_in = served.sign_in(new_account())
    cookie, _ = signed_in.cookie()

    for origin in FOREIGN:
        answer = served.caller.auth(route, refresh=cookie, origin=origin).refused(403, "origin_forbidden")
        assert answer.cookie() is None, f"the cookie was touched:\n{answer}"
    for site in ["cross-site", "same-site"]:
        served.caller.auth(route, refresh=cookie, headers={"sec-fetch-site": site}).refused(403, "origin_forbidden")
    # One header does not speak for the other.
    served.caller.auth(
        route, refresh=cookie, origin="https://evil.example", headers={"sec-fetch-site": "same-origin"}
    ).refused(403, "origin_forbidden")

    # Nothing was spent and nothing ended.
    served.visit(signed_in.json["accessToken"]).expect(200)
    served.caller.auth("/refresh", refresh=cookie, origin=LISTED).expect(200)


def test_listed_and_own_origins_refresh(served, new_account):
    cookie, _ = served.sign_in(new_account()).cookie()

    for more in [
        {"origin": LISTED, "headers": {"sec-fetch-site": "cross-site"}},
        {"origin": LISTED},
        {"origin": served.url},
        {"headers": {"sec-fetch-site": "same-origin"}},
        {"headers": {"sec-fetch-site": "none"}},
        {},
    ]:
        answer = served.caller.auth("/refresh", refresh=cookie, **more).expect(200)
        cookie, _ = answer.cookie()
        served.visit(answer.json["accessToken"]).expect(200)


def test_a_listed_origin_logs_out(served, new_account):
    signed_in = served.sign_in(new_account())
    cookie, _ = signed_in.cookie()

    served.caller.auth("/logout", refresh=cookie, origin=LISTED).expect(204)

    served.visit(signed_in.json["accessToken"]).refused(401, "session_revoked")
    served.caller.auth("/refresh", refresh=cookie, origin=LISTED).refused(401, "refresh_invalid")


def test_a_token_in_the_body_is_nothing_a_browser_adds(served, new_account):
    token = served.sign_in(new_account(), mode="body").json["refreshToken"]

    served.caller.auth("/refresh", {"refreshToken": token}, origin="https://evil.example").expect(200)
