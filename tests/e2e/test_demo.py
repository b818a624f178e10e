"""`gatelet demo` as a newcomer meets it: paste what it prints."""

import re
import signal
import socket
import subprocess

import pytest

from demo import Demo
from processes import BOUND, eventually


def paste(command):
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=BOUND, stdin=subprocess.DEVNULL
    )


def status(printed):
    return int(printed.stdout.split()[1])


@pytest.fixture
def demo(program):
    running = Demo(program)
    yield running
    running.stop()


def test_every_printed_command_does_what_it_says(demo, tool):
    tool("curl")
    with_both = paste(demo.command("portfolio", "x-api-key", "authorization"))
    assert status(with_both) == 200
    assert '"network":"arbitrum"' in with_both.stdout
    assert '"owner":"0x' in with_both.stdout
    with_key = paste(demo.command("portfolio", "x-api-key", without="authorization"))
    assert status(with_key) == 401

    refreshed = paste(demo.command("refresh"))
    assert '"refreshToken":"gr_' in refreshed.stdout

    whoami = paste(demo.command("whoami"))
    assert status(whoami) == 200
    assert '"x-auth-methods":"api_key"' in whoami.stdout

    refused = paste(demo.command("portfolio", without="x-api-key"))
    assert status(refused) == 401
    assert "credential_missing" in refused.stdout
    assert "www-authenticate: bearer" in refused.stdout.lower()

    assert status(paste(demo.command("health"))) == 200

    scrape = paste(demo.command("/metrics"))
    assert 'gatelet_rejects_total{code="credential_missing"} 2' in scrape.stdout

    made = paste(demo.command("keys create"))
    assert made.returncode == 0, made.stderr

    revoked = paste(demo.command("keys revoke"))
    assert revoked.returncode == 0, revoked.stderr
    again = demo.command("portfolio", "x-api-key", "authorization")
    eventually("the revoked key is refused", lambda: "api_key_invalid" in paste(again).stdout, bound=3)


# A closed terminal sends SIGHUP.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_leaves_nothing_behind(program, number):
    demo = Demo(program)
    assert demo.folder.stat().st_mode & 0o777 == 0o700

    assert demo.stop(number) == 0

    assert not demo.folder.exists()


def test_takes_another_port_and_says_which(program):
    with socket.socket() as holder:
        # Else the connections of demos that just ended stand in the way, and nobody listens.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", 8080))
            holder.listen()
        except OSError:
            pass  # somebody holds it already: as good
        demo = Demo(program)
        try:
            assert "Port 8080 is taken" in demo.output
            port = re.search(r"listens on http://127\.0\.0\.1:(\d+)", demo.output).group(1)
            assert port not in ("8080", "0")
            assert demo.page == f"http://127.0.0.1:{port}/"
            assert status(paste(demo.command("portfolio", "x-api-key", "authorization"))) == 200
        finally:
            demo.stop()
