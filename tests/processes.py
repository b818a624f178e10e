"""gatelet as a process, and an API in Python for it to guard. Every wait has a bound."""

import json
import re
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BOUND = 20


def eventually(what, condition, bound=BOUND):
    """Asks until the condition is truthy and returns what it was; fails past the bound."""
    deadline = time.monotonic() + bound
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {bound} s: {what}"
        time.sleep(0.02)


def free_address():
    """An address to listen on that has to be known before whoever listens there starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Process:
    """A process whose output is collected as it comes."""

    def __init__(self, command, **options):
        self.child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self):
        return "\n".join(self.lines)

    def wait_for(self, pattern):
        """Waits until a line matches, and returns the match."""

        def look():
            match = next((m for m in map(re.compile(pattern).search, list(self.lines)) if m), None)
            if match is None and self.child.poll() is not None:
                self.reader.join(BOUND)
                match = next((m for m in map(re.compile(pattern).search, self.lines) if m), None)
                assert match, f"ended with {self.child.returncode}:\n{self.output}"
            return match

        return eventually(f"a line like {pattern!r} in:\n{self.output}", look)

    def stop(self, number=signal.SIGTERM):
        """Ends the process with a signal; its exit status."""
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            status = self.child.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise
        self.reader.join(BOUND)
        return status


class Gatelet(Process):
    """`gatelet serve`, ready."""

    def __init__(self, program, config, command=None, **options):
        self.program, self.config = program, config
        options.setdefault("env", {})
        super().__init__(command or [program, "serve", "--config", config], **options)
        self.proxy = self._address("proxy")
        self.telemetry = self._address("telemetry")

    def _address(self, listener):
        pattern = rf'(?=.*listening)(?=.*"?listener"?[:=] ?"?{listener}\b).*"?address"?[:=] ?"?([^" ,}}]+)'
        address = self.wait_for(pattern).group(1)
        return address.replace("[::]", "127.0.0.1")

    def keys(self, *arguments):
        """Runs `gatelet keys … --json` on this configuration; what it printed."""
        command = [self.program, "keys", *arguments, "--json", "--config", self.config]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, env={})
        assert printed.returncode == 0, printed.stderr
        return json.loads(printed.stdout) if printed.stdout.strip() else None


class Pieces:
    """The content of an answer that is sent in chunks, and what trails it."""

    def __init__(self, pieces, **trailers):
        self.pieces, self.trailers = pieces, trailers


class Api:
    """An HTTP/1.1 API on a free loopback port that remembers what it was sent.

    What it answers is a status, a content type, and bytes or `Pieces`.
    """

    def __init__(self, answer=None):
        self.received = []
        self.answer = answer or (lambda request: (200, "application/json", b'{"ok":true}\n'))
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Heads leave together with their bodies, as most servers send short answers.
            wbufsize = -1

            def serve(self):
                body, trailers = self._body()
                request = {
                    "method": self.command,
                    "target": self.path,
                    "headers": [(name.lower(), value) for name, value in self.headers.items()],
                    "body": body,
                    "trailers": trailers,
                    # The port that it came from: the same for all that shared a connection.
                    "connection": self.client_address[1],
                }
                api.received.append(request)
                status, kind, content = api.answer(request)
                self.send_response(status)
                self.send_header("content-type", kind)
                if isinstance(content, Pieces):
                    return self._stream(content)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

            def _stream(self, content):
                self.send_header("transfer-encoding", "chunked")
                # Callers over HTTP/1.1 are told of those alone that were announced.
                if content.trailers:
                    self.send_header("trailer", ", ".join(content.trailers))
                self.end_headers()
                for piece in content.pieces:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    self.wfile.flush()
                trailers = "".join(f"{name}: {value}\r\n" for name, value in content.trailers.items())
                self.wfile.write(f"0\r\n{trailers}\r\n".encode())

            def _body(self):
                if "chunked" in self.headers.get("transfer-encoding", ""):
                    pieces, trailers = [], []
                    while size := int(self.rfile.readline(), 16):
                        pieces.append(self.rfile.read(size))
                        self.rfile.readline()
                    while line := self.rfile.readline().decode().rstrip("\r\n"):
                        name, value = line.split(":", 1)
                        trailers.append((name.lower(), value.strip()))
                    return b"".join(pieces), trailers
                return self.rfile.read(int(self.headers.get("content-length", 0))), []

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            # Python's own is 5, and what comes at once beyond that waits for a second to be let in.
            request_queue_size = 4096

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        # How often it looks whether it was shut down is what every test takes longer.
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def header(self, name, request=-1):
        """The values of a header of a request that came."""
        return [value for each, value in self.received[request]["headers"] if each == name]
