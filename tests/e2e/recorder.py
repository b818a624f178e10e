"""Upstreams that keep every byte they were sent: one that answers itself, one before a real server."""

import select
import socket
import threading
from dataclasses import dataclass, field

from processes import BOUND


class Listener:
    """Listens on a free loopback port; each connection has a thread."""

    def __init__(self):
        self.open = 0
        self.lock = threading.Lock()
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.url = f"http://{self.address}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._count(1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection:
                self.serve(connection)
        except OSError:
            pass  # Whoever went away is not waited for.
        finally:
            self._count(-1)

    def _count(self, more):
        with self.lock:
            self.open += more

    def serve(self, connection):
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Closing alone would not wake the thread that accepts.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@dataclass
class Exchange:
    """What went to a server until it answered, and what it answered."""

    request: bytearray = field(default_factory=bytearray)
    response: bytearray = field(default_factory=bytearray)

    def __str__(self):
        return f"{bytes(self.request)!r}\nanswered {bytes(self.response)!r}"


class Tap(Listener):
    """Stands before a server and passes on what comes, unread.

    It tells apart what belongs together by who spoke last, which holds as long as nobody sends a request
    before the last one was answered.
    """

    def __init__(self, server):
        host, port = server.rsplit(":", 1)
        self.server = (host, int(port))
        self.exchanges = []
        super().__init__()

    def serve(self, connection):
        with socket.create_connection(self.server, BOUND) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            exchange = None
            while True:
                ready, _, _ = select.select([connection, server], [], [])
                if server in ready:
                    data = server.recv(65536)
                    if not data:
                        return
                    if exchange:
                        exchange.response += data
                    connection.sendall(data)
                if connection in ready:
                    data = connection.recv(65536)
                    if not data:
                        return
                    if exchange is None or exchange.response:
                        exchange = Exchange()
                        self.exchanges.append(exchange)
                    exchange.request += data
                    server.sendall(data)


@dataclass
class Received:
    """A request as it came, byte by byte."""

    raw: bytearray = field(default_factory=bytearray)
    lines: list[bytes] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def start(self):
        """Its first line."""
        return self.lines[0]

    def header(self, name: bytes):
        """The values of a header, whose name is compared as it came."""
        return [value for each, _, value in (line.partition(b": ") for line in self.lines[1:]) if each == name]

    def names(self):
        """The names of its headers, as they came."""
        return [line.partition(b":")[0] for line in self.lines[1:]]


class Broken(Exception):
    """What came is no HTTP/1.1."""


class Cut(Exception):
    """The connection ended within a request, as it does where its sender gave up."""


class Recorder(Listener):
    """Reads HTTP/1.1 to the letter, and answers every request alike."""

    ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"

    def __init__(self):
        self.received = []
        self.broken = []
        super().__init__()

    def serve(self, connection):
        with connection.makefile("rb") as stream:
            while True:
                received = Received()
                try:
                    if not self._read(stream, received):
                        return
                except Cut:
                    return
                except Broken as broken:
                    self.broken.append((str(broken), bytes(received.raw)))
                    return
                received.complete = True
                connection.sendall(self.ANSWER)

    def _read(self, stream, received):
        """Reads one request; whether there was one."""
        while line := self._line(stream, received):
            if not received.lines:
                # Known from its first line on, so that one that never ends is seen as well.
                self.received.append(received)
            received.lines.append(line)
        if not received.lines:
            return False
        names = [name.lower() for name in received.names()]
        lengths = [value for name, value in zip(names, self._values(received)) if name == b"content-length"]
        codings = [value for name, value in zip(names, self._values(received)) if name == b"transfer-encoding"]
        if len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
            raise Broken("two framings")
        if codings:
            while size := self._number(self._line(stream, received), 16):
                self._body(stream, received, size)
                if self._line(stream, received):
                    raise Broken("a chunk longer than it says")
            while line := self._line(stream, received):
                received.trailers.append(line)
        elif lengths:
            self._body(stream, received, self._number(lengths[0], 10))
        return True

    @staticmethod
    def _number(text, base):
        digits = b"0123456789abcdef"[:base]
        if not text or text.lower().strip(digits):
            raise Broken("a number that is none")
        return int(text, base)

    @staticmethod
    def _values(received):
        return [line.partition(b":")[2].strip() for line in received.lines[1:]]

    @staticmethod
    def _line(stream, received):
        line = stream.readline()
        received.raw += line
        if not line and not received.lines:
            return b""
        if not line.endswith(b"\n"):
            raise Cut
        if not line.endswith(b"\r\n"):
            raise Broken("a line that ends in a line feed")
        line = line[:-2]
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise Broken("a control byte in a line")
        return line

    @staticmethod
    def _body(stream, received, size):
        data = stream.read(size)
        received.raw += data
        received.body += data
        if len(data) < size:
            raise Cut
