"""One question and its answer on a socket that the caller keeps."""

from keys import VALID_KEY
from servers import Failure

REQUEST = f"GET /portfolio HTTP/1.1\r\nhost: localhost\r\nx-api-key: {VALID_KEY}\r\n\r\n".encode()


def ask(server, connection):
    """Sends the request and reads its answer to the end, whose status must be 200."""
    connection.sendall(REQUEST)
    received = connection.recv(65536)
    while b"\r\n\r\n" not in received:
        received += more(server, connection)
    head, body = received.split(b"\r\n\r\n", 1)
    lines = head.lower().split(b"\r\n")
    if lines[0].split(b" ")[1] != b"200":
        raise Failure(f"{server.name}: answered {lines[0].decode()}")
    lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
    if len(lengths) != 1:
        raise Failure(f"{server.name}: an answer without a length")
    rest = lengths[0] - len(body)
    while rest > 0:
        rest -= len(more(server, connection))


def more(server, connection):
    received = connection.recv(65536)
    if not received:
        raise Failure(f"{server.name}: closed a connection")
    return received
