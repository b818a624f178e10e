"""TLS handshakes, one request each, from callers that come anew or come back."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

from exchange import ask
from servers import Failure, unverified

# So that the proxy has the next to do while callers work on theirs.
CALLERS = 8


@dataclass(frozen=True)
class Handshakes:
    """Some callers, each with one connection after the other: opened, asked one question, and closed."""

    name: str
    peers: tuple[str, ...]
    resumed: bool

    tls = True
    headline = "cpu_us"
    columns = {"cpu_us": ("µs CPU/handshake", 0), "per_second": ("handshakes/s", 0)}

    def measure(self, stage, names, options, progress):
        results = {}
        with ThreadPoolExecutor(CALLERS) as callers:
            for name in names:
                progress(name)
                server = stage.server(name, tls=True)
                tickets = list(callers.map(lambda _: self.first(server), range(CALLERS)))
                before, start = server.processor_time(), perf_counter()
                each = options.handshakes // CALLERS
                for done in [callers.submit(self.come, server, *ticket, each) for ticket in tickets]:
                    done.result()
                count, took = each * CALLERS, perf_counter() - start
                results[name] = {
                    "cpu_us": (server.processor_time() - before) / 1000 / count,
                    "per_second": count / took,
                }
                server.check()
        return results

    def first(self, server):
        """A caller's TLS, and the ticket from its first connection, which is not counted."""
        context = unverified()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context, connect(server, context, None)[1]

    def come(self, server, context, ticket, count):
        for _ in range(count):
            # Each ticket once, as RFC 8446 advises (appendix C.4).
            reused, ticket = connect(server, context, ticket if self.resumed else None)
            if reused != self.resumed:
                raise Failure(f"{server.name}: a handshake was {'resumed' if reused else 'full'}")


def connect(server, context, ticket):
    """Whether the session was resumed, and the ticket for the next."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, session=ticket) as connection:
            ask(server, connection)
            # In TLS 1.3 tickets come behind the handshake, before the answer.
            return connection.session_reused, connection.session
