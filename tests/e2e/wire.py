"""Callers that write bytes: HTTP/1.1 as it is told, and HTTP/2 in bare frames, judging nothing."""

import socket
from dataclasses import dataclass, field

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from processes import BOUND

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Answer:
    """What came back. A status of 0 says that a stream was reset, or a connection closed, without one."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    def header(self, name: bytes):
        return [value for each, value in self.headers if each.lower() == name]


def connect(address):
    host, port = address.rsplit(":", 1)
    opened = socket.create_connection((host, int(port)), BOUND)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


class Http1:
    """One caller; it connects again where it was parted with."""

    def __init__(self, address):
        self.address = address
        self.socket = None
        self.buffer = b""

    def exchange(self, request: bytes) -> Answer:
        """Sends a request and reads its answer."""
        if self.socket is None:
            self.socket, self.buffer = connect(self.address), b""
        answer = Answer()
        try:
            self.socket.sendall(request)
            keep = self._read(answer)
        except (ConnectionError, EOFError):
            keep = False
        if not keep:
            self.close()
        return answer

    def _read(self, answer):
        """Reads one answer; whether another may follow."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        start, *lines = head.split(b"\r\n")
        answer.status = int(start.split()[1])
        answer.headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        headers = dict(answer.headers)
        if headers.get(b"transfer-encoding") == b"chunked":
            while size := int(self._line(), 16):
                answer.body += self._take(size)
                self._line()
            while self._line():
                pass
        elif b"content-length" in headers:
            answer.body += self._take(int(headers[b"content-length"]))
        elif answer.status not in (204, 304):
            return False
        answer.ended = True
        return headers.get(b"connection", b"").lower() != b"close" and start.startswith(b"HTTP/1.1")

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def _take(self, size):
        while len(self.buffer) < size:
            self._more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class Http2:
    """One connection, by prior knowledge. What is sent need not be HTTP/2 at all."""

    def __init__(self, address):
        self.socket = connect(address)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer = b""
        self.answers = {}
        self.pongs = self.ponged = 0
        self.gone = None
        self.closed = False
        self.socket.sendall(PREFACE + SettingsFrame(0).serialize())

    def send(self, *frames):
        """Sends frames, to whoever may have gone."""
        try:
            self.socket.sendall(b"".join(frame.serialize() for frame in frames))
        except ConnectionError:
            self.closed = True

    def head(self, stream, fields, end=True, flags=("END_HEADERS",)):
        """A frame with these fields as they are."""
        block = self.encoder.encode(fields, huffman=False)
        return HeadersFrame(stream, block, flags=[*flags, *(["END_STREAM"] if end else [])])

    def more(self, stream, fields, flags=("END_HEADERS",)):
        """A frame that goes on with a head."""
        return ContinuationFrame(stream, self.encoder.encode(fields, huffman=False), flags=flags)

    @staticmethod
    def data(stream, data, end=True):
        return DataFrame(stream, data, flags=["END_STREAM"] if end else [])

    def answer(self, stream) -> Answer:
        """Reads until this stream ended, or the connection did."""
        return self.read([stream])[stream]

    def read(self, streams):
        """Reads until all of these streams ended, or the connection did."""
        for stream in streams:
            self.answers.setdefault(stream, Answer())
        self._read_until(lambda: all(self.answers[stream].ended for stream in streams))
        return {stream: self.answers[stream] for stream in streams}

    def _read_until(self, done):
        while not self.closed and not done():
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                data = b""
            self.closed = not data
            self.buffer += data
            self._frames()

    def ping(self):
        """Waits until what was sent has been taken."""
        self.pongs += 1
        self.send(PingFrame(0, b"%08d" % self.pongs))
        self._read_until(lambda: self.ponged == self.pongs)

    def read_to_the_end(self):
        """Reads until the connection ends, or answers nothing more."""
        self.ping()
        self._read_until(lambda: all(answer.ended for stream, answer in self.answers.items() if stream))

    def exchange(self, fields, stream=1) -> Answer:
        """One request without a body, and its answer."""
        self.send(self.head(stream, fields))
        return self.answer(stream)

    def _frames(self):
        while len(self.buffer) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self.buffer)[:9])
            if len(self.buffer) < 9 + length:
                return
            frame.parse_body(memoryview(self.buffer)[9 : 9 + length])
            self.buffer = self.buffer[9 + length :]
            self._take(frame)

    def _take(self, frame):
        answer = self.answers.setdefault(frame.stream_id, Answer())
        match frame:
            case HeadersFrame():
                headers = self.decoder.decode(frame.data, raw=True)
                if not answer.status:
                    answer.status = int(dict(headers)[b":status"])
                answer.headers += headers
            case DataFrame():
                answer.body += frame.data
                window = frame.flow_controlled_length
                if window:
                    self.send(WindowUpdateFrame(0, window_increment=window))
            case RstStreamFrame():
                answer.reset, answer.ended = frame.error_code, True
            case SettingsFrame() if "ACK" not in frame.flags:
                self.send(SettingsFrame(0, flags=["ACK"]))
            case PingFrame() if "ACK" in frame.flags:
                self.ponged = int(frame.opaque_data)
            case PingFrame():
                self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
            case GoAwayFrame():
                self.gone = frame.error_code
        if frame.stream_id and "END_STREAM" in frame.flags:
            answer.ended = True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
