"""Where alarms and pings go: an HTTP server and a mail server of the tests' own, which can misbehave in many ways."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.controller import Controller


@dataclass(frozen=True)
class Request:
    """What came: the path with its query, the body, and when (monotonic seconds)."""

    path: str
    body: str
    at: float


@dataclass
class Hook:
    """An HTTP server. behave, changed at will: ok, slow (it never answers), drips (a byte a second), cut, a status, or
    the URL that it redirects to.
    """

    port: int
    behave: str = "ok"
    came: list[Request] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [one.path.partition("?")[0] for one in self.came]


@contextmanager
def hook() -> Iterator[Hook]:
    """Give an HTTP server on a free port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            made.came.append(Request(self.path, body, time.monotonic()))
            if made.behave == "slow":
                made.over.wait(60)
            elif made.behave == "drips":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                while not made.over.wait(1):
                    self.wfile.write(b"x")
            elif made.behave == "cut":
                self.connection.shutdown(socket.SHUT_RDWR)
            elif made.behave.startswith("http"):
                self.send_response(307)
                self.send_header("Location", made.behave)
                self.end_headers()
            else:
                self.send_response(200 if made.behave == "ok" else int(made.behave))
                self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # a client that was killed

    server = Server(("127.0.0.1", 0), Handler)
    made = Hook(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.over.set()
        server.shutdown()
        server.server_close()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Post:
    """A mail server. behave: ok, or what it answers to RCPT or DATA, as "550 no such user". mails: what it took."""

    port: int
    behave: str = "ok"
    at: str = "RCPT"
    mails: list[str] = field(default_factory=list)

    def url(self, secret: str) -> str:
        """The URL of Apprise that leads here."""
        address = "from=backup@example.org&to=oncall@example.org"
        return f"mailto://someone:{secret}@127.0.0.1:{self.port}?smtp=127.0.0.1&{address}"


@contextmanager
def post() -> Iterator[Post]:
    """Give a mail server on a free port, which lets anybody in."""

    class Handler:
        async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
            if made.behave != "ok" and made.at == "RCPT":
                return made.behave
            envelope.rcpt_tos.append(address)
            return "250 OK"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            if made.behave != "ok":
                return made.behave
            made.mails.append(envelope.content.decode())
            return "250 OK"

    def anybody(*_: object) -> bool:
        return True

    made = Post(closed_port())
    settings: dict[str, Any] = {"auth_require_tls": False, "auth_callback": anybody, "ident": "test"}
    controller = Controller(Handler(), hostname="127.0.0.1", port=made.port, **settings)
    controller.start()
    try:
        yield made
    finally:
        controller.stop()
