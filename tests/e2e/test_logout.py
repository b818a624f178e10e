"""Whoever logs out is out at once, although the access token has not run out."""

import pytest

from processes import eventually


@pytest.fixture
def served(portfolio):
    return portfolio()


def is_out(served, access_token):
    """Judges that an access token opens nothing, although its time has not come."""
    reached = len(served.api.received)
    served.visit(access_token).refused(401, "session_revoked")
    assert len(served.api.received) == reached


def refusal(answer):
    """The answer, if it is a refusal."""
    return answer if answer.status >= 400 else None


def is_cleared(answer):
    """Whether an answer makes a browser drop the cookie."""
    value, attributes = answer.cookie() or (None, {})
    # Browsers drop a __Host- cookie only by one that is as strict.
    return value == "" and attributes.get("max-age") == "0" and attributes["path"] == "/" and "secure" in attributes


def test_by_cookie(served, new_account):
    signed_in = served.sign_in(new_account())
    cookie, _ = signed_in.cookie()
    served.visit(signed_in.json["accessToken"]).expect(200)

    answer = served.caller.auth("/logout", refresh=cookie).expect(204)

    assert is_cleared(answer), str(answer)
    is_out(served, signed_in.json["accessToken"])
    served.caller.auth("/refresh", refresh=cookie).refused(401, "refresh_invalid")
    assert is_cleared(served.caller.auth("/logout", refresh=cookie).expect(204))


def test_by_body(served, new_account):
    signed_in = served.sign_in(new_account(), mode="body").json
    rotated = served.refresh(signed_in["refreshToken"]).expect(200).json

    for _ in range(2):
        served.caller.auth("/logout", {"refreshToken": rotated["refreshToken"]}).expect(204)

    for each in [signed_in, rotated]:
        is_out(served, each["accessToken"])
        served.refresh(each["refreshToken"]).refused(401, "refresh_invalid")


def test_by_access_token(served, new_account):
    account = new_account()
    signed_in = served.sign_in(account, mode="body").json
    elsewhere = served.sign_in(account, mode="body").json

    for _ in range(2):
        served.caller.auth("/logout", bearer=signed_in["accessToken"]).expect(204)

    is_out(served, signed_in["accessToken"])
    served.refresh(signed_in["refreshToken"]).refused(401, "refresh_invalid")
    # Without ?all=true the other sessions of the account go on.
    served.visit(elsewhere["accessToken"]).expect(200)
    served.refresh(elsewhere["refreshToken"]).expect(200)


def test_by_an_access_token_that_is_over(portfolio, new_account):
    served = portfolio(ttl="1s")
    signed_in = served.sign_in(new_account(), mode="body").json
    over = eventually("the access token is over", lambda: refusal(served.visit(signed_in["accessToken"])))
    over.refused(401, "token_expired")

    served.caller.auth("/logout", bearer=signed_in["accessToken"]).expect(204)

    served.refresh(signed_in["refreshToken"]).refused(401, "refresh_invalid")


def test_a_cookie_that_is_nobodys_is_cleared_as_well(served):
    # As of a family that ended so long ago that it was forgotten: the browser would show it for ever.
    answer = served.caller.auth("/logout", refresh="of-a-family-that-was-forgotten").expect(204)

    assert is_cleared(answer), str(answer)


def test_a_revoked_key_logs_out_whoever_came_through_it(served, new_account):
    signed_in = served.sign_in(new_account(), mode="body").json
    sibling = served.new_key("portfolio-app")["key"]
    visit = {"access_token": signed_in["accessToken"], "key": sibling}
    eventually("another key of the owner is known", lambda: served.visit(**visit).status == 200)

    served.gatelet.keys("revoke", served.made["id"])

    over = eventually("what came through the key is over", lambda: refusal(served.visit(**visit)), bound=3)
    over.refused(401, "session_revoked")
    served.refresh(signed_in["refreshToken"]).refused(401, "refresh_invalid")


@pytest.mark.parametrize("by", ["cookie", "body", "access token"])
def test_everywhere(served, new_account, by):
    account, stranger = new_account(), new_account()
    browser = served.sign_in(account)
    phone = served.sign_in(account, mode="body").json
    others = served.sign_in(stranger, mode="body").json
    cookie, _ = browser.cookie()
    shown = {
        "cookie": {"refresh": cookie},
        "body": {"body": {"refreshToken": phone["refreshToken"]}},
        "access token": {"bearer": phone["accessToken"]},
    }[by]

    answer = served.caller.auth("/logout?all=true", **shown).expect(204)

    if by == "cookie":
        assert is_cleared(answer), str(answer)
    for each in [browser.json, phone]:
        is_out(served, each["accessToken"])
    served.caller.auth("/refresh", refresh=cookie).refused(401, "refresh_invalid")
    served.refresh(phone["refreshToken"]).refused(401, "refresh_invalid")
    served.visit(others["accessToken"]).expect(200)
    served.refresh(others["refreshToken"]).expect(200)
    # And whoever proves the wallet again is in again.
    served.visit(served.sign_in(account).json["accessToken"]).expect(200)
