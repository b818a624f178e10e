"""A nonce counts once, for one key and one domain, and a signature for one account."""

import pytest


@pytest.fixture
def served(portfolio):
    return portfolio()


def offer(served, account, key=None):
    return served.caller.auth("/nonce", {"address": account.address}, key=key or served.key).expect(201).json


def verify(served, message, signature, key=None):
    return served.caller.auth("/verify", {"message": message, "signature": signature}, key=key or served.key)


def test_a_signature_is_taken_once(served, new_account):
    account = new_account()
    message = offer(served, account)["message"]
    signature = account.sign(message)
    verify(served, message, signature).expect(201)

    verify(served, message, signature).refused(401, "nonce_invalid")


def test_anothers_signature_spends_the_nonce(served, new_account):
    account, thief = new_account(), new_account()
    message = offer(served, account)["message"]

    verify(served, message, thief.sign(message)).refused(401, "signature_invalid")

    verify(served, message, account.sign(message)).refused(401, "nonce_invalid")


def test_a_nonce_is_for_the_key_that_asked(served, new_account):
    account = new_account()
    message = offer(served, account, served.new_key("another-app")["key"])["message"]

    verify(served, message, account.sign(message)).refused(401, "nonce_invalid")


def test_a_made_up_nonce_is_refused(served, new_account):
    account = new_account()
    offered = offer(served, account)
    message = offered["message"].replace(offered["nonce"], "abcdefghijklmnop")

    verify(served, message, account.sign(message)).refused(401, "nonce_invalid")


# What a phishing site shows to be signed, and what a wallet of another network signs.
@pytest.mark.parametrize(
    "instead",
    [
        {"domain": "evil.example", "uri": "https://evil.example/"},
        {"uri": "https://evil.example/"},
        {"chainId": 137},
    ],
    ids=lambda instead: "-".join(instead),
)
def test_a_message_for_elsewhere_is_refused(served, new_account, instead):
    account = new_account()
    offered = offer(served, account)
    message = offered["message"]
    if "domain" in instead:
        message = message.replace(f"{served.address} wants", f"{instead['domain']} wants")
    if "uri" in instead:
        message = message.replace(f"URI: {offered['uri']}", f"URI: {instead['uri']}")
    if "chainId" in instead:
        message = message.replace("Chain ID: 1\n", f"Chain ID: {instead['chainId']}\n")
    assert message != offered["message"]

    verify(served, message, account.sign(message)).refused(400, "message_invalid")


def test_nonces_and_sign_ins_need_a_key(served, new_account):
    account = new_account()
    message = offer(served, account)["message"]
    proof = {"message": message, "signature": account.sign(message)}

    for route, body in [("/nonce", {"address": account.address}), ("/verify", proof)]:
        served.caller.auth(route, body).refused(401, "credential_missing")
        served.caller.auth(route, body, key="nobodys-key-of-some-length").refused(401, "api_key_invalid")

    served.caller.auth("/verify", proof, key=served.key).expect(201)
