"""Starts the proxies and their upstreams, each on its core, and reads what the kernel knows of them."""

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import string
import subprocess
import time
import urllib.request
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase

IMPORTED_KEYS = 10_000
MAPPED_KEYS = 1_000


PROGRAMS = {
    "nginx": "on Debian, apt-get install nginx-light (and stop the service that it starts)",
    "wrk": "on Debian, apt-get install wrk",
    "redis-server": "scripts/install-tools redis, or leave it out with --without-redis",
    "cargo": "https://rustup.rs, or leave the bare proxy out with --without-bare",
}


class Failure(Exception):
    """The run cannot go on; the message says why and what to do."""


def imported_key(number):
    """The same keys on every run: 40 characters, as imported ones may look."""
    return "side-by-side-" + hashlib.sha256(str(number).encode()).hexdigest()[:27]


VALID_KEY = imported_key(MAPPED_KEYS // 2)
UNKNOWN_KEY = imported_key(IMPORTED_KEYS)


def garbage_key():
    """The shape of a minted key with a checksum that does not fit."""
    secret = "".join(BASE62[byte % 62] for byte in hashlib.sha512(b"garbage").digest()[:43])
    wrong = (zlib.crc32(secret.encode()) ^ 1) & 0xFFFF_FFFF
    digits = ""
    for _ in range(6):
        wrong, digit = divmod(wrong, 62)
        digits = BASE62[digit] + digits
    return f"gk_{secret}{digits}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def located(name):
    # Debian keeps nginx in /usr/sbin, which is not on everyone's path.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def demand(programs):
    """Fails with everything that is missing, and where it comes from."""
    missing = [f"{name} is missing: {PROGRAMS[name]}" for name in programs if not located(name)]
    if missing:
        raise Failure("\n".join(missing))


def demand_gatelet(binary):
    if not os.access(binary, os.X_OK):
        raise Failure(f"{binary} is missing: cargo build --release, or name another with --gatelet")


def written(folder, name, **values):
    """Fills in a file of side-by-side.d and says where it now is."""
    text = (HERE / name).read_text()
    for key, value in {"folder": folder, **values}.items():
        text = text.replace(f"@{key}@", str(value))
    path = Path(folder) / name
    path.write_text(text)
    return path


class Server:
    """A process on one core of its own, listening on one loopback port."""

    def __init__(self, name, command, port, core, ready=None):
        self.name = name
        self.port = port
        self.ready = ready
        # The key that was made for this one alone.
        self.minted = None
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Nothing of the caller's environment reaches a server: GATELET__… would change what is measured.
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/")},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )

    def wait(self):
        """Returns once the port takes connections and the URL `ready`, if there is one, answers 200."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.check()
            try:
                if self.ready:
                    urllib.request.urlopen(self.ready, timeout=1).close()
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.02)
        raise Failure(f"{self.name} did not come up within 20 s")

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
        """Resident memory now and at most since `forget_peak`, in KiB."""
        fields = dict(
            line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        )
        return tuple(int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM"))

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def status_of(self, path, key=None):
        """The status that one request is answered with."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"x-api-key": key} if key else {})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self.name}: GET {path}: {error!r}") from error
        finally:
            connection.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def upstream(folder, core):
    port = free_port()
    config = written(folder, "upstream.conf", listen=port)
    return Server("upstream", [located("nginx"), "-p", folder, "-c", config], port, core)


def nginx(folder, core, upstream_port):
    port = free_port()
    config = written(folder, "nginx.conf", listen=port, upstream=upstream_port)
    keys = "".join(f'"{imported_key(number)}" 1;\n' for number in range(MAPPED_KEYS))
    (Path(folder) / "keys.map").write_text(keys)
    return Server("nginx", [located("nginx"), "-p", folder, "-c", config], port, core)


def bare(core, upstream_port):
    """Builds the bare proxy if need be, and starts it."""
    target = ROOT / "target" / "bare-proxy"
    built = subprocess.run(
        ["cargo", "build", "--release", "--quiet", "--locked", "--target-dir", target,
         "--manifest-path", HERE.parent / "bare-proxy" / "Cargo.toml"]
    )
    if built.returncode:
        raise Failure("the bare proxy does not build")
    port = free_port()
    command = [target / "release" / "bare-proxy", f"127.0.0.1:{port}", f"127.0.0.1:{upstream_port}"]
    return Server("bare", command, port, core)


def redis(folder, core):
    """A server that a store is kept on, as one would be run."""
    port = free_port()
    command = [located("redis-server"), "--port", port, "--bind", "127.0.0.1", "--dir", folder,
               "--save", "", "--appendonly", "yes"]
    return Server("redis", command, port, core)


def gatelet(binary, folder, core, upstream_port, redis_port=None):
    """Imports the keys into a fresh store, makes one, and starts gatelet on it."""
    port, telemetry = free_port(), free_port()
    if redis_port is None:
        name, store = "gatelet", f'kind = "embedded"\npath = "{folder}/store"'
    else:
        name, store = "on-redis", f'kind = "redis"\nurls = ["redis://127.0.0.1:{redis_port}"]'
    config = written(folder, "gatelet.toml", listen=port, telemetry=telemetry, upstream=upstream_port, store=store)
    keys = Path(folder) / "keys.ndjson"
    with keys.open("w") as lines:
        for number in range(IMPORTED_KEYS):
            lines.write(json.dumps({"name": f"key-{number}", "key": imported_key(number)}) + "\n")
    command(binary, config, "import", keys)
    minted = json.loads(command(binary, config, "create", "--name", "side-by-side", "--json"))["key"]
    ready = f"http://127.0.0.1:{telemetry}/readyz"
    server = Server(name, [binary, "serve", "--config", config], port, core, ready)
    server.minted = minted
    return server


def command(binary, config, *words):
    """What a command about keys prints."""
    done = subprocess.run([binary, "keys", *words, "--config", config], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Failure(f"gatelet keys {words[0]} ended with status {done.returncode}")
    return done.stdout
