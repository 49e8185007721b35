"""Raw HTTP for the byte comparisons: one exchange without an SDK, and a tee that keeps what a server really sent.

The tee stands between the daemon and its upstream and passes bytes on untouched in both directions.
"""
import re
import socket
import threading
import time
from dataclasses import dataclass, field


@dataclass
class Message:
    """One request or answer: the first line, headers in lower case, and the body without its transfer coding."""

    start: str
    headers: dict
    body: bytes
    raw: bytes

    @property
    def status(self):
        return int(self.start.split()[1])


@dataclass
class Link:
    """One connection through the tee."""

    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)
    closed_by_client: float | None = None


class Tee:
    """Listens on a free port and copies each connection to `target`, keeping both directions."""

    def __init__(self, target):
        host, port = re.fullmatch(r"http://([^:/]+):(\d+)", target).groups()
        self.target = (host, int(port))
        self.links = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def clear(self):
        """Forgets what went by; connections go on."""
        for link in self.links:
            link.up.clear()
            link.down.clear()
        self.links = [link for link in self.links if link.closed_by_client is None]

    def exchanges(self):
        """All whole (request, answer) pairs since the last `clear`, without the daemon's own GETs of model lists."""
        pairs = [pair for link in self.links for pair in zip(parse(bytes(link.up)), parse(bytes(link.down)))]
        return [pair for pair in pairs if not pair[0].start.startswith("GET ")]

    def exchange(self):
        """The one (request, answer) pair that went by since the last `clear`."""
        found = self.exchanges()
        assert len(found) == 1, f"{len(found)} exchanges went by instead of one"
        return found[0]

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.target)
            link = Link()
            self.links.append(link)
            threading.Thread(target=self._up, args=(client, server, link), daemon=True).start()
            threading.Thread(target=self._down, args=(server, client, link), daemon=True).start()

    @staticmethod
    def _up(client, server, link):
        copy(client, server, link.up)
        link.closed_by_client = time.monotonic()
        shut(server)

    @staticmethod
    def _down(server, client, link):
        copy(server, client, link.down)
        shut(client)


def copy(source, sink, kept):
    """Passes bytes on, keeping them first, until either side closes."""
    try:
        while piece := source.recv(65536):
            kept.extend(piece)
            sink.sendall(piece)
    except OSError:
        pass


def shut(side):
    try:
        side.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def parse(data):
    """All whole messages in a byte string."""
    found = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body, used = dechunk(rest)
        else:
            used = int(headers.get("content-length", 0))
            body = rest[:used] if len(rest) >= used else None
        if body is None:
            break
        found.append(Message(start, headers, body, data[: len(head) + 4 + used]))
        data = rest[used:]
    return found


def dechunk(data):
    """The body and the length of its coding, or (None, 0) while it is not whole."""
    body, at = b"", 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None, 0
        size = int(data[at:end].split(b";")[0], 16)
        at = end + 2
        if len(data) < at + size + 2:
            return None, 0
        body += data[at : at + size]
        at += size + 2
        if size == 0:
            return body, at


def exchange(base, method, path, body=b"", headers=None):
    """One request on a connection of its own; returns the whole answer."""
    host, port = re.fullmatch(r"http://([^:/]+):(\d+)", base).groups()
    fields = {"Host": f"{host}:{port}", "Content-Type": "application/json", "Content-Length": str(len(body)),
              "Connection": "close", **(headers or {})}
    head = "".join([f"{method} {path} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in fields.items()), "\r\n"])
    with socket.create_connection((host, int(port)), timeout=60) as link:
        link.sendall(head.encode("latin-1") + body)
        data = b""
        while piece := link.recv(65536):
            data += piece
    found = parse(data)
    assert len(found) == 1, f"no whole answer in {data[-300:]!r}"
    return found[0]
