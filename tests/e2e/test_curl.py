"""A real curl, over HTTP/1.1 and HTTP/2, before an API in Python."""

import json
import subprocess

import pytest

CONFIG = """
[listen]
proxy = "127.0.0.1:0"
telemetry = "127.0.0.1:0"

[[upstreams]]
name = "api"
url = "{api}"

[[routes]]
prefix = "/public"
require = "nothing"

[[routes]]
prefix = "/"
require = ["api_key"]

[store]
kind = "embedded"
path = "{folder}/store"
"""

PROTOCOLS = ["--http1.1", "--http2-prior-knowledge"]


@pytest.fixture
def gatelet(start, api, tmp_path):
    return start(CONFIG.format(api=api.url, folder=tmp_path))


@pytest.fixture
def curl(tool, gatelet):
    """Runs curl; the status, the headers by lower-case name, and the body."""

    def run(target, *arguments):
        command = [tool("curl"), "-sS", "-m", "15", "-i", "--path-as-is", *arguments, f"http://{gatelet.proxy}{target}"]
        printed = subprocess.run(command, capture_output=True, timeout=30)
        assert printed.returncode == 0, printed.stderr
        head, body = printed.stdout.split(b"\r\n\r\n", 1)
        while head.split()[1].startswith(b"1"):
            head, body = body.split(b"\r\n\r\n", 1)
        status, *lines = head.decode().split("\r\n")
        headers = {}
        for name, value in (line.split(": ", 1) for line in lines):
            headers.setdefault(name.lower(), []).append(value)
        return int(status.split()[1]), headers, body

    return run


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_key_opens_and_is_not_passed_on(gatelet, api, curl, protocol):
    made = gatelet.keys("create", "--name", "me", "--owner", "acme")

    for shown in [f"x-api-key: {made['key']}", f"authorization: bearer {made['key']}"]:
        status, headers, _ = curl("/things?q=%2F", protocol, "-H", shown, "-H", "X_Auth_Subject: root")

        assert status == 200
        assert api.received[-1]["target"] == "/things?q=%2F"
        for absent in ["x-api-key", "authorization", "x_auth_subject"]:
            assert api.header(absent) == []
        assert api.header("x-auth-subject") == api.header("x-auth-key-owner") == ["acme"]
        assert api.header("x-auth-key-id") == [made["id"]]
        assert api.header("x-auth-methods") == ["api_key"]
        assert len(headers["x-request-id"]) == 1
        assert api.header("x-request-id") == headers["x-request-id"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_refusals_are_problems_and_never_reach_the_api(api, curl, protocol):
    wanted = {
        ("/things",): (401, "credential_missing"),
        ("/things", "-H", "x-api-key: not-a-key-of-anybodys"): (401, "api_key_invalid"),
        ("/things", "-H", "x-api-key: a", "-H", "x-api-key: b"): (400, "credential_ambiguous"),
        ("/public/../things",): (400, "request_malformed"),
        ("/public%2f..%2fthings",): (400, "request_malformed"),
    }
    for arguments, (status, code) in wanted.items():
        answer, headers, body = curl(*arguments, protocol)

        assert (answer, json.loads(body)["code"]) == (status, code), arguments
        assert headers["content-type"] == ["application/problem+json"]
        if status == 401:
            assert headers["www-authenticate"][0].startswith('Bearer realm="gatelet"')
    assert api.received == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_uploads_arrive_whole(gatelet, api, curl, tmp_path, protocol):
    key = gatelet.keys("create", "--name", "me")["key"]
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(range(256)) * 8192)

    # Past a mebibyte curl asks first on HTTP/1.1, with Expect: 100-continue.
    status, _, _ = curl("/things", protocol, "-H", f"x-api-key: {key}", "-T", str(upload))

    assert status == 200
    assert api.received[-1]["method"] == "PUT"
    assert api.received[-1]["body"] == upload.read_bytes()


def test_a_refused_upload_is_never_sent(api, curl, tmp_path):
    upload = tmp_path / "upload"
    upload.write_bytes(b"x" * 2_000_000)

    status, _, _ = curl("/things", "--http1.1", "-H", "expect: 100-continue", "-T", str(upload))

    assert status == 401
    assert api.received == []
