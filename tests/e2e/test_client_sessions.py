"""A server hands its user's device a session, which slides with its use, and ends it."""

import time

from caller import Caller

CONFIG = """
[listen]
proxy = "127.0.0.1:0"
telemetry = "127.0.0.1:0"

[[upstreams]]
name = "api"
url = "{api}"

[[routes]]
prefix = "/client"
require = ["session_token"]

[session_token]
idle = "1h"
max = "2d"
scopes = ["client:read"]

[store]
kind = "embedded"
path = "{folder}/store"
"""


def test_a_device_uses_what_a_server_fetched_until_the_server_ends_it(start, api, tmp_path, client):
    gatelet = start(CONFIG.format(api=api.url, folder=tmp_path))
    scopes = ["--scope", "sessions:issue", "--scope", "client:read"]
    made, other = (
        gatelet.keys("create", "--name", name, "--owner", name, *scopes) for name in ["custodian", "stranger"]
    )
    now = time.time()

    done = client(
        "sessions.mjs",
        url=f"http://{gatelet.proxy}",
        key=made["key"],
        otherKey=other["key"],
        path="/client/home",
        subject="user-7",
    )

    begun = done["begun"].expect(201).uncached().json
    assert set(begun) == {"clientSessionToken", "sessionId", "id", "expiresAt", "maxExpiresAt"}
    assert begun["clientSessionToken"].startswith("gs_")
    assert begun["id"] == "user-7"
    assert abs(begun["expiresAt"] - now - 3600) < 30
    assert begun["maxExpiresAt"] - begun["expiresAt"] == 2 * 86400 - 3600

    first, later = done["first"].expect(200), done["later"].expect(200)
    moved = [each.number("x-session-expires-at") for each in (first, later)]
    assert begun["expiresAt"] <= moved[0] < moved[1] <= moved[0] + 10
    for used in (first, later):
        assert used.number("x-session-max-expires-at") == begun["maxExpiresAt"]
    shown = done["shown"].expect(200).json
    assert (shown["subject"], shown["sessionId"]) == ("user-7", begun["sessionId"])
    assert shown["metadata"] == {"device": "phone"}

    # Nobody else's key ends it, nor learns that it is there.
    done["endedByStranger"].refused(404, "not_found")
    done["afterStranger"].expect(200)
    done["ended"].expect(204)
    done["afterEnd"].refused(401, "session_revoked")
    done["shownAfterEnd"].refused(401, "session_revoked")

    reached = [each for each in api.received if each["target"] == "/client/home"]
    assert len(api.received) == len(reached) >= 3
    for request in range(len(reached)):
        assert api.header("x-auth-subject", request) == ["user-7"]
        assert api.header("x-auth-session-id", request) == [begun["sessionId"]]
        assert api.header("x-auth-scopes", request) == ["client:read"]
        assert api.header("x-auth-methods", request) == ["session_token"]
        assert api.header("authorization", request) == []


def test_a_key_without_the_scope_begins_none(start, api, tmp_path):
    gatelet = start(CONFIG.format(api=api.url, folder=tmp_path))
    key = gatelet.keys("create", "--name", "reader", "--scope", "client:read")["key"]

    answer = Caller(gatelet.proxy).auth("/sessions", {"subject": "user-7"}, key=key)

    answer.refused(403, "scope_missing")
    assert answer.header("www-authenticate")[0].endswith('scope="sessions:issue"')
