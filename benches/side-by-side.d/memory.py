"""Resident memory: at rest, with idle connections, and while bodies stream both ways at once."""

import resource
import socket
import threading

from servers import VALID_KEY, Failure

MIB = 1024 * 1024
CHUNK = bytes(MIB)
IDLE_CONNECTIONS = 2_000


class Bulk:
    """An upstream that sends as much as it is asked for and swallows whatever it is sent.

    `GET /bulk/N` is answered with N zero bytes, any other request with an empty answer once its body is read.
    """

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # Closed: the run is over.
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while self.answer(connection):
                    pass
        except OSError:
            pass  # The proxy closed it, which the other side will notice.

    def answer(self, connection):
        head, rest = read_head(connection)
        if not head:
            return False
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        if method == b"GET":
            size = int(target.rsplit(b"/", 1)[1])
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            send(connection, size)
        else:
            swallow(connection, content_length(head) - len(rest))
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        return True


def read_head(connection):
    """The head, and what of the body came with it."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            return b"", b""
        received += more
    return received.split(b"\r\n\r\n", 1)


def content_length(head):
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise Failure(f"a message without a length: {head!r}")


def send(connection, size):
    while size:
        size -= connection.send(memoryview(CHUNK)[: min(size, MIB)])


def swallow(connection, size):
    buffer = bytearray(MIB)
    while size > 0:
        received = connection.recv_into(buffer, min(size, MIB))
        if not received:
            raise Failure(f"a body ended {size} bytes early")
        size -= received


def request(server, method, path, size=None):
    """Sends a request's head on a connection of its own."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    length = "" if size is None else f"content-length: {size}\r\n"
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {VALID_KEY}\r\n{length}\r\n"
    connection.sendall(head.encode())
    return connection


def accepted(server, connection):
    head, rest = read_head(connection)
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Failure(f"{server.name}: {head[:200]!r}")
    return content_length(head), rest


def download(server, size):
    with request(server, "GET", f"/bulk/{size}") as connection:
        length, rest = accepted(server, connection)
        if length != size:
            raise Failure(f"{server.name}: sent {length} bytes, not {size}")
        swallow(connection, size - len(rest))


def upload(server, size):
    with request(server, "PUT", "/bulk/0", size) as connection:
        send(connection, size)
        accepted(server, connection)


def stream(server, *directions):
    """Runs transfers at once; the first that fails, fails all."""
    failures = []

    def guarded(direction, size):
        try:
            direction(server, size)
        except (OSError, Failure) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=each, daemon=True) for each in directions]
    before = server.processor_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.check()
    if failures:
        raise Failure(f"{server.name}: streaming: {failures[0]}")
    return server.processor_time() - before


def idle(server, rest):
    """KiB that a connection costs once its first request is over; what streaming left behind is used up first."""
    connections = []
    try:
        for _ in range(IDLE_CONNECTIONS):
            connection = request(server, "GET", "/bulk/140")
            connections.append(connection)
            length, body = accepted(server, connection)
            swallow(connection, length - len(body))
        return (server.memory()[0] - rest) / IDLE_CONNECTIONS
    finally:
        for connection in connections:
            connection.close()


def run(proxies, mebibytes, progress):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    size = mebibytes * MIB
    results = {}
    for name, server in proxies.items():
        progress(f"memory: {name}")
        rest, _ = server.memory()
        # The peak first: freed memory of an earlier load would raise it, and stays for a while.
        server.forget_peak()
        stream(server, (download, size), (upload, size))
        _, peak = server.memory()
        down = stream(server, (download, size))
        up = stream(server, (upload, size))
        connection = idle(server, rest)
        results[name] = {
            "rest_kib": rest,
            "idle_connection_kib": connection,
            "streaming_peak_kib": peak,
            "down_us_per_mib": down / 1000 / mebibytes,
            "up_us_per_mib": up / 1000 / mebibytes,
        }
    return results


def printed(measured, mebibytes):
    lines = [
        f"\n{'memory':<14}{'at rest':>12}{'an idle':>16}{f'peak, {mebibytes} MiB':>20}{'down,':>14}{'up,':>14}",
        f"{'':<14}{'MiB':>12}{'connection, KiB':>16}{'each way at once, MiB':>23}{'µs CPU/MiB':>11}{'µs CPU/MiB':>14}",
    ]
    for name, of in measured.items():
        lines.append(
            f"  {name:<12}{of['rest_kib'] / 1024:>12.1f}{of['idle_connection_kib']:>16.1f}"
            f"{of['streaming_peak_kib'] / 1024:>20.1f}{of['down_us_per_mib']:>14.0f}{of['up_us_per_mib']:>14.0f}"
        )
    return "\n".join(lines)
