"""A scrape, read by Prometheus' own linter."""

import subprocess
import urllib.request

CONFIG = """
[listen]
proxy = "127.0.0.1:0"
telemetry = "127.0.0.1:0"

[[upstreams]]
name = "api"
url = "{api}"

[[routes]]
name = "open"
path = "/open"
require = "nothing"

[[routes]]
name = "closed"
prefix = "/"
require = ["api_key"]

[store]
kind = "embedded"
path = "{folder}/store"
"""


def test_promtool_accepts_a_scrape(start, api, tmp_path, tool):
    gatelet = start(CONFIG.format(api=api.url, folder=tmp_path))
    key = gatelet.keys("create", "--name", "me")["key"]
    for target, more in [("/open", []), ("/closed", []), ("/closed", ["-H", f"x-api-key: {key}"])]:
        command = [tool("curl"), "-sS", f"http://{gatelet.proxy}{target}", *more]
        subprocess.run(command, check=True, timeout=15, stdout=subprocess.DEVNULL)

    with urllib.request.urlopen(f"http://{gatelet.telemetry}/metrics", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/plain")
        scrape = answer.read()
    lint = subprocess.run([tool("promtool"), "check", "metrics"], input=scrape, capture_output=True, timeout=30)

    assert (lint.returncode, lint.stdout + lint.stderr) == (0, b"")
    for series in [
        'gatelet_requests_total{route="open",status_class="2xx"} 1',
        'gatelet_rejects_total{code="credential_missing"} 1',
        "gatelet_store_connected 1",
    ]:
        assert series in scrape.decode().splitlines()
