"""What runs three replicas and one server, run: the server by the command, configuration and probes of its
pod, the replicas by their configuration. Only paths, ports and addresses are this machine's."""

import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from charts import CHARTS
from cluster import REPLICAS, containers, read
from processes import Gatelet, Process, eventually, free_address


class Server:
    """The pod of the server."""

    def __init__(self, cluster, folder, tool):
        (self.workload,) = [each for each in cluster.workloads if containers(each, "valkey")]
        (self.container,) = containers(self.workload, "valkey")
        self.moved = cluster.lay_out(folder, self.workload, self.container)
        self.secret = folder / "etc/valkey-secret/password"
        self.address = free_address()
        self.port = self.address.rsplit(":", 1)[1]
        (conf,) = (folder / "etc/valkey").iterdir()
        conf.write_text(self.moved(conf.read_text()) + f"\nbind 127.0.0.1\nport {self.port}\n")
        # The image's programs, by its names for them.
        bin = folder / "bin"
        bin.mkdir()
        (bin / "valkey-server").symlink_to(os.path.realpath(tool("valkey-server")))
        (bin / "valkey-cli").write_text(f'#!/bin/sh\nexec {tool("redis-cli")} -p {self.port} "$@"\n')
        (bin / "valkey-cli").chmod(0o755)
        self.env = {"PATH": f"{bin}:/usr/bin:/bin"}
        self.process = None

    def start(self):
        self.process = Process([self.moved(word) for word in self.container["command"]], env=self.env)
        eventually("the server is ready", lambda: self.probe("readinessProbe") == 0)
        assert self.probe("livenessProbe") == 0

    def probe(self, name):
        command = [self.moved(word) for word in self.container[name]["exec"]["command"]]
        return subprocess.run(command, capture_output=True, env=self.env, timeout=5).returncode

    def ask(self, *words):
        """What somebody without the password is told."""
        done = subprocess.run(["valkey-cli", *words], capture_output=True, text=True, env=self.env, timeout=5)
        return done.stdout

    def kill(self):
        self.process.stop(signal.SIGKILL)
        assert self.probe("readinessProbe") != 0 and self.probe("livenessProbe") != 0


@pytest.fixture(params=["manifests", "chart"])
def cluster(request, render):
    return render(CHARTS["bundled"]) if request.param == "chart" else read(REPLICAS.glob("*.yaml"))


@pytest.fixture
def server(cluster, tool, tmp_path):
    made = Server(cluster, tmp_path / "server", tool)
    yield made
    if made.process:
        made.process.stop(signal.SIGKILL)


@pytest.fixture
def replicas(cluster, server, api, program, tmp_path):
    """Starts as many as are asked for, each with files of its own."""
    running = []

    def start():
        (service,) = [each for each in cluster.all("Service") if each["metadata"]["name"].endswith("-valkey")]
        there = f"redis://{service['metadata']['name']}:6379"
        for number in range(cluster.gated["spec"]["replicas"]):
            folder = tmp_path / f"replica-{number}"
            moved = cluster.lay_out(folder, cluster.gated, cluster.gatelet)
            file = folder / "etc/gatelet/config.toml"
            text = moved(file.read_text()).replace("http://127.0.0.1:3000", api.url)
            assert there in text
            file.write_text(text.replace(there, f"redis://{server.address}"))
            # The drain waits for endpoints that nobody here has.
            listen = {f"GATELET__LISTEN__{name}": "127.0.0.1:0" for name in ["PROXY", "TELEMETRY"]}
            running.append(Gatelet(program, file, env=listen | {"GATELET__LIMITS__DRAIN_DELAY": "0s"}))
        return running

    yield start
    for each in running:
        each.stop()


def ask(gatelet, key):
    """The status of a request with a key."""
    request = urllib.request.Request(f"http://{gatelet.proxy}/", headers={"x-api-key": key})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def ready(gatelet):
    try:
        with urllib.request.urlopen(f"http://{gatelet.telemetry}/readyz", timeout=10) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False


def test_replicas_share_keys_that_outlive_the_server(server, replicas, api):
    # Alive without a server, which is what startupProbe asks; ready with it.
    running = replicas()
    assert len(running) == 3
    assert not any(ready(each) for each in running)
    server.start()
    for each in running:
        eventually("it is ready", lambda each=each: ready(each))

    keys = [each.keys("create", "--name", f"key-{number}") for number, each in enumerate(running)]
    for each in running:
        for number, made in enumerate(keys):
            assert ask(each, made["key"]) == 200
            assert api.header("x-auth-subject") == [f"key-{number}"] and api.header("x-api-key") == []
    running[0].keys("revoke", keys[0]["id"])
    for each in running:
        eventually("it is refused", lambda each=each: ask(each, keys[0]["key"]) == 401, bound=2)
        # Remembered for good: that it was made has been heard by now as well.
        assert ask(each, keys[1]["key"]) == 200

    # At once, so that nothing is written on the way out.
    unseen = running[0].keys("create", "--name", "unseen")
    server.kill()
    seen = len(api.received)
    for each in running:
        assert ask(each, keys[1]["key"]) == 200
        assert ask(each, unseen["key"]) == 503
    assert len(api.received) == seen + len(running)
    server.start()
    for each in running:
        eventually("it is heard from again", lambda each=each: ask(each, unseen["key"]) == 200)
        assert ask(each, keys[0]["key"]) == 401


def test_the_server_lets_nobody_in_without_the_password(server):
    server.start()

    assert "NOAUTH" in server.ask("GET", "{gatelet}:layout")
    arguments = Path(f"/proc/{server.process.child.pid}/cmdline").read_text()
    assert "valkey-server" in arguments and server.secret.read_text().strip() not in arguments


def test_the_server_does_not_start_without_a_password(server):
    server.secret.write_text("\n")
    process = Process([server.moved(word) for word in server.container["command"]], env=server.env)

    assert process.child.wait(5) != 0
    process.reader.join(5)
    assert "the Secret holds no password" in process.output
