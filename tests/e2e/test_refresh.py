"""Refresh tokens rotate: for a mobile application without cookies, and for a browser's cookie."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from caller import AUTH, FEED, PORTFOLIO
from processes import eventually

# Short enough to be waited for; what has to happen within a grace is tried with the default one.
GRACE = 1


def wait_past_grace(rotated):
    """Waits until a rotation that was answered by then is past its grace."""
    time.sleep(max(0, rotated + GRACE + 0.1 - time.monotonic()))


@pytest.fixture
def served(portfolio):
    return portfolio(grace=f"{GRACE}s")


def test_a_body_speaker_gets_tokens_in_bodies_alone(portfolio, new_account):
    portfolio, account = portfolio(), new_account()
    signed_in = portfolio.sign_in(account, mode="body").uncached()
    assert signed_in.cookie() is None

    rotated = portfolio.refresh(signed_in.json["refreshToken"]).expect(200).uncached()

    assert rotated.cookie() is None
    assert set(rotated.json) == set(signed_in.json)
    assert (rotated.json["subject"], rotated.json["tokenType"], rotated.json["expiresIn"]) == (
        account.address,
        "Bearer",
        900,
    )
    for fresh in ["accessToken", "refreshToken"]:
        assert rotated.json[fresh] != signed_in.json[fresh]
    portfolio.visit(rotated.json["accessToken"]).expect(200)
    portfolio.refresh(rotated.json["refreshToken"]).expect(200)


def test_a_token_that_was_just_rotated_gets_the_same_successor(portfolio, new_account):
    portfolio = portfolio()
    old = portfolio.sign_in(new_account(), mode="body").json["refreshToken"]
    successor = portfolio.refresh(old).expect(200).json["refreshToken"]

    again = portfolio.refresh(old).expect(200).json

    assert again["refreshToken"] == successor
    portfolio.visit(again["accessToken"]).expect(200)
    # A tab that is two behind gets the current one as well.
    current = portfolio.refresh(successor).expect(200).json["refreshToken"]
    assert current != successor
    assert portfolio.refresh(old).expect(200).json["refreshToken"] == current


def test_a_race_has_one_successor(portfolio, new_account):
    portfolio = portfolio()
    old = portfolio.sign_in(new_account(), mode="body").json["refreshToken"]

    with ThreadPoolExecutor(20) as racers:
        answers = [answer.expect(200).json for answer in racers.map(portfolio.refresh, [old] * 20)]

    successors = {answer["refreshToken"] for answer in answers}
    assert len(successors) == 1 and old not in successors
    for answer in answers:
        portfolio.visit(answer["accessToken"]).expect(200)


def test_a_token_reused_past_grace_ends_its_family(served, new_account):
    old = served.sign_in(new_account(), mode="body").json["refreshToken"]
    successor = served.refresh(old).expect(200).json
    rotated = time.monotonic()
    other = served.sign_in(new_account(), mode="body").json
    served.visit(successor["accessToken"]).expect(200)

    wait_past_grace(rotated)
    served.refresh(old).refused(401, "refresh_reused")

    reached = len(served.api.received)
    served.visit(successor["accessToken"]).refused(401, "session_revoked")
    assert len(served.api.received) == reached
    served.refresh(successor["refreshToken"]).refused(401, "refresh_invalid")
    # Nobody else's family is touched.
    served.visit(other["accessToken"]).expect(200)
    served.refresh(other["refreshToken"]).expect(200)


def test_an_answer_lost_in_a_tunnel_is_given_again_past_grace(served, new_account):
    old = served.sign_in(new_account(), mode="body").json["refreshToken"]
    lost = served.refresh(old).expect(200).json
    rotated = time.monotonic()

    wait_past_grace(rotated)
    found = served.refresh(old).expect(200).json

    assert found["refreshToken"] == lost["refreshToken"]
    served.visit(found["accessToken"]).expect(200)
    served.refresh(found["refreshToken"]).expect(200)


def test_strangers_tokens_are_refused(portfolio, new_account):
    portfolio = portfolio()
    signed_in = portfolio.sign_in(new_account(), mode="body").json
    token = signed_in["refreshToken"]
    middle = len(token) // 2
    touched = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]

    for wrong in [touched, "nobodys", signed_in["accessToken"], portfolio.key]:
        portfolio.refresh(wrong).refused(401, "refresh_invalid")

    portfolio.refresh(token).expect(200)


def test_a_refresh_token_opens_its_own_routes_alone(portfolio, new_account):
    portfolio = portfolio()
    token = portfolio.sign_in(new_account(), mode="body").json["refreshToken"]

    portfolio.visit(token).expect(401)
    portfolio.visit(token, key=None).refused(401, "token_invalid")
    portfolio.caller.get(f"{AUTH}/session", bearer=token).refused(401, "token_invalid")

    assert portfolio.api.received == []


@pytest.mark.parametrize("shown", ["refresh", "bearer"])
def test_no_upstream_sees_a_refresh_token(portfolio, new_account, shown):
    portfolio = portfolio()
    token = portfolio.sign_in(new_account()).cookie()[0]

    portfolio.caller.get(FEED, key=portfolio.key).expect(200)
    portfolio.caller.get(FEED, key=portfolio.key, **{shown: token})

    assert token not in str(portfolio.api.received)


def test_nothing_shown_is_nothing_invalid(portfolio):
    answer = portfolio().caller.auth("/refresh").refused(401, "credential_missing")

    # No `error`, since nothing was shown that failed, and no ApiKey, since a key would not do.
    assert answer.header("www-authenticate") == ['Bearer realm="gatelet"']


def test_what_interceptors_add_to_a_refresh_does_not_matter(portfolio, new_account):
    portfolio = portfolio(ttl="1s")
    cookie, _ = portfolio.sign_in(new_account()).cookie()
    by_body = portfolio.sign_in(new_account(), mode="body").json
    over = {"key": portfolio.key, "bearer": by_body["accessToken"]}
    eventually("the access token is over", lambda: portfolio.caller.get(PORTFOLIO, **over).status == 401)

    portfolio.caller.auth("/refresh", {"refreshToken": by_body["refreshToken"]}, **over).expect(200)
    portfolio.caller.auth("/refresh", refresh=cookie, **over).expect(200)


def test_a_key_that_is_shown_is_judged(portfolio, new_account):
    portfolio = portfolio()
    body = {"refreshToken": portfolio.sign_in(new_account(), mode="body").json["refreshToken"]}
    strangers = portfolio.new_key("stranger")["key"]

    portfolio.caller.auth("/refresh", body, key="nobodys-key-of-some-length").refused(401, "api_key_invalid")
    portfolio.caller.auth("/refresh", body, key=strangers).refused(403, "credential_mismatch")

    portfolio.caller.auth("/refresh", body, key=portfolio.key).expect(200)


def test_a_cookie_rotates_by_raw_headers(portfolio, new_account):
    portfolio = portfolio()
    signed_in = portfolio.sign_in(new_account())
    assert "refreshToken" not in signed_in.json
    old, attributes = signed_in.cookie()

    with ThreadPoolExecutor(20) as racers:
        answers = list(racers.map(lambda _: portfolio.caller.auth("/refresh", refresh=old), range(20)))

    cookies = set()
    for answer in answers:
        answer.expect(200).uncached()
        assert "refreshToken" not in answer.json
        value, renewed = answer.cookie()
        assert value and {**renewed, "max-age": ""} == {**attributes, "max-age": ""}
        # A family ends a week after its sign-in, however often it is refreshed.
        assert 0 < int(renewed["max-age"]) <= int(attributes["max-age"])
        cookies.add(value)
    assert len(cookies) == 1 and old not in cookies
    portfolio.caller.auth("/refresh", refresh=cookies.pop()).expect(200)


def test_a_cookie_and_a_body_are_not_chosen_between(portfolio, new_account):
    portfolio = portfolio()
    cookie, _ = portfolio.sign_in(new_account()).cookie()
    token = portfolio.sign_in(new_account(), mode="body").json["refreshToken"]

    both = portfolio.caller.auth("/refresh", {"refreshToken": token}, refresh=cookie).expect(400)

    assert both.cookie() is None and "accessToken" not in both.json
    # Neither was spent, and each still speaks as it did at its sign-in.
    assert portfolio.caller.auth("/refresh", refresh=cookie).expect(200).cookie()
    assert portfolio.refresh(token).expect(200).cookie() is None


def test_a_cookies_token_is_never_given_out_in_a_body(portfolio, new_account):
    portfolio = portfolio()
    cookie, _ = portfolio.sign_in(new_account()).cookie()

    for answer in [
        portfolio.caller.auth("/refresh", {"mode": "body"}, refresh=cookie),
        portfolio.refresh(cookie),
    ]:
        if answer.status == 200:
            assert "refreshToken" not in answer.json, f"a script could read it:\n{answer}"
        else:
            assert 400 <= answer.status < 500, str(answer)
        assert cookie not in answer.text
