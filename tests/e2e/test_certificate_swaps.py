"""Certificates that change under load: nobody is dropped, and every one of them is shown."""

import collections
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

from peers import Curl
from processes import BOUND, eventually

# How long it goes on: a minute stands for an hour of certificates that live for minutes.
SECONDS = int(os.environ.get("GATELET_SWAP_SECONDS", "10"))
SWAPS = max(20, SECONDS)

# What h2load has open, and how many requests a second it sends on each connection.
CONNECTIONS, STREAMS, RATE = 2, 4, 50


class Callers:
    """Callers that go on until they are told to stop, each in a thread of its own, and what went wrong for them."""

    def __init__(self, world, authority, curl):
        self.world, self.curl = world, curl
        self.context = ssl.create_default_context(cafile=authority.file)
        self.headers = {"x-api-key": world.key}
        self.over, self.wrong, self.shown = threading.Event(), [], []
        self.asked = {"kept": 0, "new": 0, "new over HTTP/2": 0}
        self.threads = [threading.Thread(target=self.run, args=[name]) for name in self.asked]
        for thread in self.threads:
            thread.start()

    def run(self, name):
        ask = {"kept": self.kept(), "new": self.new(), "new over HTTP/2": self.new_over_http2()}[name]
        try:
            while not self.over.is_set():
                next(ask)
                self.asked[name] += 1
        except BaseException as error:
            self.wrong.append((name, self.asked[name], error))

    def get(self, connection):
        connection.request("GET", "/things", headers=self.headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"ok":true}\n')

    def connection(self):
        made = http.client.HTTPSConnection("localhost", int(self.world.port), timeout=BOUND, context=self.context)
        made.sock = self.context.wrap_socket(
            socket.create_connection(("127.0.0.1", int(self.world.port)), BOUND), server_hostname="localhost"
        )
        # It opens no other one by itself.
        made.auto_open = 0
        return made

    def kept(self):
        """One request after the other on one connection."""
        connection = self.connection()
        while True:
            yield self.get(connection)

    def new(self):
        """Each request on a connection of its own, on which it is shown a certificate."""
        while True:
            connection = self.connection()
            serial = connection.sock.getpeercert()["serialNumber"].lstrip("0")
            if self.shown[-1:] != [serial]:
                self.shown.append(serial)
            yield self.get(connection)
            connection.close()

    def new_over_http2(self):
        while True:
            got = self.curl(f"{self.world.url}/things", "-H", f"x-api-key: {self.world.key}")
            assert (got.status, got.version, got.connects) == (200, "2", 1)
            yield

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(BOUND)


def test_certificates_are_swapped_under_load_and_no_request_is_dropped(world, authority, api, tool, tmp_path):
    current = authority.issue()
    world = world(f'url = "{api.url}"', current)
    curl = Curl(tool("curl"), tmp_path, "--http2", "--cacert", authority.file)
    command = [tool("h2load"), "-D", f"{SECONDS + 2}", "-c", f"{CONNECTIONS}", "-m", f"{STREAMS}", "--rps", f"{RATE}"]
    load = subprocess.Popen(
        [*command, "-H", f"x-api-key: {world.key}", f"{world.url}/load"], stdout=subprocess.PIPE, text=True
    )
    callers = Callers(world, authority, curl)
    wanted = [current.serial]
    try:
        eventually("all are under way", lambda: all(callers.asked.values()) or callers.wrong)
        begun = time.monotonic()
        for number in range(SWAPS):
            eventually("it is time", lambda: time.monotonic() - begun >= number * SECONDS / SWAPS, 2 * SECONDS)
            following = authority.issue("following")
            wanted.append(following.serial)
            os.replace(following.chain, current.chain)
            os.replace(following.key, current.key)
            # It would look by itself within a second, and does so every now and then.
            if number % 5:
                world.gatelet.child.send_signal(signal.SIGHUP)
            eventually("the new certificate is shown", lambda: callers.shown[-1] == wanted[-1] or callers.wrong)
            assert callers.wrong == []
        took = time.monotonic() - begun
        printed = load.communicate(timeout=SECONDS + BOUND)[0]
    finally:
        load.kill()
        callers.stop()

    assert callers.wrong == []
    assert callers.shown == wanted
    assert took < 2 * SECONDS
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", re.search("requests: .*", printed)[0])}
    assert (counts["failed"], counts["errored"], counts["timeout"]) == (0, 0, 0), printed
    assert counts["succeeded"] == counts["total"] == counts["done"] > SECONDS * RATE
    assert all(count > SWAPS for count in callers.asked.values()), callers.asked
    # Each request arrived, and none twice; when its time is up, h2load does not wait for those on their way.
    arrived = collections.Counter(request["target"] for request in api.received)
    assert arrived["/things"] == sum(callers.asked.values())
    assert 0 <= arrived["/load"] - counts["done"] <= CONNECTIONS * STREAMS
