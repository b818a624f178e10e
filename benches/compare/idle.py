"""What a connection costs that has asked once and is kept open."""

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from exchange import ask
from servers import unverified

CONTEXT = unverified()
# So many are opened at once: on a busy machine one after the other would take minutes.
CALLERS = 32


@dataclass(frozen=True)
class Idle:
    """Resident memory with that many connections at rest, less what it was, for each."""

    name: str
    peers: tuple[str, ...]
    tls: bool

    headline = "connection_kib"
    columns = {"connection_kib": ("KiB a connection", 1), "rest_kib": ("KiB before", 0)}

    def measure(self, stage, names, options, progress):
        results = {}
        for name in names:
            progress(name)
            with stage.fresh(name, self.tls) as server:
                server.start().wait()
                # The first pay for what all share, such as the connections to the upstream.
                close(self.open(server, CALLERS))
                rest = server.memory()
                connections = self.open(server, options.idle)
                try:
                    held = server.memory() - rest
                finally:
                    close(connections)
                results[name] = {"connection_kib": held / options.idle, "rest_kib": rest}
        return results

    def open(self, server, count):
        """Connections that have each been answered once."""
        with ThreadPoolExecutor(CALLERS) as callers:
            return list(callers.map(lambda _: self.connect(server), range(count)))

    def connect(self, server):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        if self.tls:
            connection = CONTEXT.wrap_socket(connection)
        ask(server, connection)
        return connection


def close(connections):
    for connection in connections:
        connection.close()
