"""Processes on a core of their own, what the kernel knows of them, and single requests to them."""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class Failure(Exception):
    """The run cannot go on; the message says why and what to do."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def located(name):
    # Debian keeps nginx in /usr/sbin, which is not on everyone's path.
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not path:
        raise Failure(f"{name} is missing: scripts/install-tools says what it can install")
    return path


def written(folder, name, **values):
    """Fills in a file of conf/ and says where it now is."""
    text = (HERE / "conf" / name).read_text()
    for key, value in {"folder": folder, **values}.items():
        text = text.replace(f"@{key}@", str(value))
    path = Path(folder) / name
    path.write_text(text)
    return path


def unverified():
    """A caller's TLS that believes every certificate: the bench's own is nobody's."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Server:
    """A program that listens on one loopback port, started on some of the cores."""

    def __init__(self, name, command, port, cores, tls=False):
        self.name, self.port, self.cores, self.tls = name, port, cores, tls
        self.command = [str(word) for word in command]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Nothing of the caller's environment reaches a server: GATELET__… would change what is measured.
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/")},
            preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
        )
        return self

    def wait(self, path=None, headers=None):
        """Returns once the port takes connections, and answers 200 where a path is given."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self.check()
            try:
                if path is None:
                    socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                    return self
                if self.answer(path, headers)[0] == 200:
                    return self
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.02)
        raise Failure(f"{self.name} did not come up within 30 s")

    def check(self):
        status = self.process.poll()
        if status is not None:
            raise Failure(f"{self.name} ended with status {status}")

    def processor_time(self):
        """Nanoseconds on a processor so far, all threads together."""
        total = 0
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                total += int((thread / "schedstat").read_text().split()[0])
            except FileNotFoundError:
                continue  # A thread that ended while the others were read.
        return total

    def memory(self):
        """Resident memory now, in KiB."""
        return self.status("VmRSS")

    def peak(self):
        """Resident memory at its highest since `forget_peak`, in KiB."""
        return self.status("VmHWM")

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def status(self, field):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        raise Failure(f"{self.name} has ended")

    def answer(self, path, headers=None, method="GET", body=None):
        """The status and the body that one request is answered with, on a connection of its own."""
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=unverified())
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self):
        """Ends it at once: nothing that it holds is kept, and some wait for minutes when they are asked to end."""
        if self.process:
            self.process.kill()
            self.process.wait()
