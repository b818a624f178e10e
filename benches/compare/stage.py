"""The cores, the upstream and the proxies that run, for as long as the run lasts."""

import os
import resource
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import peers
from keys import VALID_KEY
from material import Material
from servers import Failure

# Of those that are not asked for 10,000.
KEYS = 1_000
# gatelet's store has room for more without being slower, and is measured with more.
STORED_KEYS = 10_000
# What HAProxy and gatelet want for the connections that they are configured for.
FILES = 14_000


class Stage:
    """Starts what is asked for, once, and stops it all at its end."""

    def __init__(self, gatelet):
        self.gatelet = gatelet
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Failure("two cores are needed: one for the proxy, one for the load")
        self.cores, (self.proxy_core, self.load_core) = set(cores), cores[:2]
        self.running = {}

    def __enter__(self):
        os.sched_setaffinity(0, {self.load_core})
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= most < FILES:
            raise Failure(f"{FILES} open files are needed, and {most} are allowed: ulimit -Hn")
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.stack = ExitStack()
        try:
            self.material = Material(self.scratch())
            self.upstream = self.up(peers.upstream(self.scratch(), {self.load_core}))
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def scratch(self):
        return Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-")))

    def up(self, server, **ready):
        self.stack.callback(server.stop)
        return server.start().wait(**ready)

    def load_cores(self, shared=False):
        return self.cores if shared else {self.load_core}

    def configured(self, name, folder, tls, keys=None, shared=False):
        """A proxy that has all that it needs and is not yet started."""
        is_gatelet = peers.PEERS[name] in peers.GATELETS
        place = peers.Place(
            folder, self.cores if shared else {self.proxy_core}, self.upstream.port, self.material, tls,
            keys or (STORED_KEYS if is_gatelet else KEYS), self.gatelet,
            redis=self.redis() if name == "on-redis" else None,
        )
        return peers.PEERS[name](place, name)

    def redis(self):
        if "redis" not in self.running:
            self.running["redis"] = self.up(peers.redis(self.scratch(), {self.load_core}))
        return self.running["redis"].port

    def server(self, name, tls=False, shared=False):
        """The one of that name that runs throughout."""
        what = name, tls, shared
        if what not in self.running:
            server = self.configured(name, self.scratch(), tls, shared=shared)
            self.running[what] = self.up(server, path="/", headers={"x-api-key": VALID_KEY})
        return self.running[what]

    @contextmanager
    def fresh(self, name, tls=False, keys=None):
        """One that nothing has happened to: not even started, and stopped afterwards."""
        with tempfile.TemporaryDirectory(prefix="compare-") as folder:
            server = self.configured(name, Path(folder), tls, keys)
            try:
                yield server
            finally:
                server.stop()
