"""A WebSocket server that remembers who opened what, and how that ended."""

import select
import socket
import ssl
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from processes import BOUND, eventually

LARGE = 1 << 20


class OneAtATime(ssl.SSLSocket):
    """A socket that one thread may read while another one writes.

    Without it, a session ticket that arrives while the first message is written makes OpenSSL lose the message
    now and then: nothing else keeps the two threads apart (python/cpython#151508).
    """

    @property
    def turn(self):
        return self.__dict__.setdefault("_turn", threading.RLock())

    def _apart(self, attempt):
        while True:
            try:
                with self.turn:
                    patience = self.gettimeout()
                    self.setblocking(False)
                    try:
                        return attempt()
                    finally:
                        if self.fileno() >= 0:
                            self.settimeout(patience)
            except ssl.SSLWantReadError:
                ready = select.select([self], [], [], patience)
            except ssl.SSLWantWriteError:
                ready = select.select([], [self], [], patience)
            if not any(ready):
                raise TimeoutError("the other side is silent")

    def settimeout(self, patience):
        with self.turn:
            super().settimeout(patience)

    def recv(self, count=1024, flags=0):
        return self._apart(lambda: super(OneAtATime, self).recv(count, flags))

    def sendall(self, data, flags=0):
        data = memoryview(data)
        while data:
            sent = self._apart(lambda: super(OneAtATime, self).send(data, flags))
            data = data[sent:]


class Sockets:
    """Echoes whole messages, and fragment by fragment below `/fragments`; does as the last segment of
    `/close/4002`, `/ping` and `/vanish` says; `context` is TLS, if there is any."""

    def __init__(self, context=None):
        self.opened = []
        self.server = serve(
            self._serve, "127.0.0.1", 0, ssl=context, select_subprotocol=self._select, max_size=2 * LARGE
        )
        self.address = "127.0.0.1:{}".format(self.server.socket.getsockname()[1])
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def _select(_, offered):
        return next((each for each in ["chat.v2", "chat.v1"] if each in offered), None)

    def _serve(self, connection):
        opened = Opened(connection)
        self.opened.append(opened)
        try:
            opened.serve()
        except ConnectionClosed as closed:
            opened.closed = closed
        finally:
            opened.over.set()

    def last(self, count=1):
        """The last connection, when there were so many."""
        return eventually("a WebSocket", lambda: self.opened[count - 1 :])[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()


class Opened:
    """A connection as the server saw it."""

    def __init__(self, connection):
        self.connection, self.path = connection, connection.request.path
        self.headers = [(name.lower(), value) for name, value in connection.request.headers.raw_items()]
        self.received, self.closed, self.over = [], None, threading.Event()

    def serve(self):
        words = self.path.strip("/").split("/")
        if words[0] == "close":
            self.connection.close(int(words[1]), "that is all")
        elif words[0] == "ping":
            assert self.connection.ping(b"there?").wait(BOUND)
            self.connection.send("a pong came")
        elif words[0] == "vanish":
            self.connection.socket.shutdown(socket.SHUT_RDWR)
        while words[0] == "fragments":
            fragments = list(self.connection.recv_streaming())
            self.received.append(fragments)
            self.connection.send(fragments)
        for message in self.connection:
            self.received.append(message)
            self.connection.send(message)
        # Ended in the orderly way, which is no exception to who iterates.
        self.closed = ConnectionClosed(self.connection.protocol.close_rcvd, self.connection.protocol.close_sent)

    def header(self, name):
        return [value for each, value in self.headers if each == name]
